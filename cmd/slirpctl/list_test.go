package main

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// fw returns a forward, whose host address may be an IPv6 one.
func fw(id int, proto, hostIP string, hostPort uint16, guestIP string, guestPort uint16) hostfwd.Status {
	f := hostfwd.Forward{Proto: hostfwd.Proto(proto), HostIP: netip.MustParseAddr(hostIP), HostPort: hostPort, GuestPort: guestPort}
	f.GuestIP = netip.MustParseAddr(guestIP)
	return hostfwd.Status{ID: id, Forward: f}
}

// TestPorts: ranges are collapsed, as podman prints them, in the list of instances and in that of forwards.
func TestPorts(t *testing.T) {
	const guest = "10.0.2.100"
	failed := fw(5, "tcp", "0.0.0.0", 82, guest, 82)
	failed.Failed = "in use"
	for _, tc := range []struct {
		name  string
		ports []hostfwd.Status
		text  string
		rows  []string
	}{
		{"none", nil, "", nil},
		{"one", []hostfwd.Status{fw(1, "tcp", "0.0.0.0", 8080, guest, 80)}, "0.0.0.0:8080->80/tcp", []string{"1 tcp 0.0.0.0:8080 10.0.2.100:80"}},
		{
			"range",
			[]hostfwd.Status{fw(1, "tcp", "127.0.0.1", 9000, guest, 80), fw(2, "tcp", "127.0.0.1", 9001, guest, 81), fw(3, "tcp", "127.0.0.1", 9002, guest, 82)},
			"127.0.0.1:9000-9002->80-82/tcp",
			[]string{"1-3 tcp 127.0.0.1:9000-9002 10.0.2.100:80-82"},
		},
		{
			"another order, other ids",
			[]hostfwd.Status{fw(9, "udp", "0.0.0.0", 54, guest, 54), fw(4, "udp", "0.0.0.0", 53, guest, 53)},
			"0.0.0.0:53-54->53-54/udp",
			[]string{"9 udp 0.0.0.0:54 10.0.2.100:54", "4 udp 0.0.0.0:53 10.0.2.100:53"},
		},
		{
			"what differs",
			[]hostfwd.Status{
				fw(1, "tcp", "0.0.0.0", 80, guest, 80), fw(2, "udp", "0.0.0.0", 81, guest, 81), fw(3, "tcp", "0.0.0.0", 81, guest, 90),
				fw(4, "tcp", "::", 82, guest, 91), failed, fw(6, "tcp", "0.0.0.0", 83, "10.0.2.9", 83),
			},
			"0.0.0.0:80->80/tcp, 0.0.0.0:81->90/tcp, 0.0.0.0:82->82/tcp (failed), 0.0.0.0:83->10.0.2.9:83/tcp, 0.0.0.0:81->81/udp, [::]:82->91/tcp",
			[]string{
				"1 tcp 0.0.0.0:80 10.0.2.100:80", "2 udp 0.0.0.0:81 10.0.2.100:81", "3 tcp 0.0.0.0:81 10.0.2.100:90",
				"4 tcp [::]:82 10.0.2.100:91", "5 tcp 0.0.0.0:82 10.0.2.100:82 in use", "6 tcp 0.0.0.0:83 10.0.2.9:83",
			},
		},
		{
			"the last port",
			[]hostfwd.Status{fw(1, "tcp", "0.0.0.0", 65535, guest, 65535), fw(2, "tcp", "0.0.0.0", 1, guest, 1)},
			"0.0.0.0:1->1/tcp, 0.0.0.0:65535->65535/tcp",
			[]string{"1 tcp 0.0.0.0:65535 10.0.2.100:65535", "2 tcp 0.0.0.0:1 10.0.2.100:1"},
		},
	} {
		st := instance.State{Guest: netip.MustParseAddr(guest), Ports: tc.ports}
		if got := portsText(st); got != tc.text {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.text)
		}
		var rows []string
		if table := forwardTable(tc.ports, false, false); table != nil {
			for _, line := range strings.Split(strings.TrimSuffix(table.render(false, 0), "\n"), "\n")[1:] {
				rows = append(rows, strings.Join(strings.Fields(line), " "))
			}
		}
		if !slices.Equal(rows, tc.rows) {
			t.Errorf("%s: %q, want %q", tc.name, rows, tc.rows)
		}
	}
}

func TestIDRange(t *testing.T) {
	for text, want := range map[string][2]int{"3-12": {3, 12}, "1-1": {1, 1}, "3": {}, "12-3": {}, "0-3": {}, "a-3": {}, "3-": {}, "-3": {}, "1-2-3": {}, "1-99999999": {}} {
		if first, last, ok := idRange(text); ok != (want != [2]int{}) || ok && [2]int{first, last} != want {
			t.Errorf("%q: %d to %d, %t", text, first, last, ok)
		}
	}
}

// TestListTable: the table of instances, with names shortened or whole.
func TestListTable(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	long := strings.Repeat("long", 16)
	status := 3
	ended := time.Now().Add(-2*time.Second - 100*time.Millisecond)
	sts := []instance.State{
		{Name: id, State: instance.Running, Target: instance.TargetState{PID: 4711, Program: "nginx"}, StartedAt: time.Now().Add(-90 * time.Minute)},
		{Name: long, State: instance.Running, Target: instance.TargetState{Netns: "/run/netns/blue"}, Restarts: 1, StartedAt: time.Now().Add(-3 * time.Hour)},
		{Name: "job", State: instance.Exited, ExitStatus: &status, EndedAt: &ended, Target: instance.TargetState{PID: 5, Program: "sh", Command: []string{"/bin/sh"}}},
		{Name: "b", State: instance.Dead, Target: instance.TargetState{Netns: "/proc/5/ns/net"}},
	}
	for whole, names := range map[bool][2]string{false: {"0123456789ab", long[:31] + "…"}, true: {id, long}} {
		var got []string
		for line := range strings.Lines(listTable(sts, whole).render(false, 0)) {
			got = append(got, strings.Join(strings.Fields(line), " "))
		}
		want := []string{
			"NAME STATE TARGET GUEST UP RESTARTS PORTS", names[0] + " running 4711 (nginx) - 1h 0 -", names[1] + " running blue - 3h 1 -",
			"job exited (3) 2s ago (sh) - - 0 -", "b dead /proc/5/ns/net - - 0 -",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestFilters(t *testing.T) {
	sts := []instance.State{
		{Name: "web", State: instance.Running, Target: instance.TargetState{PID: 47, Program: "nginx", Netns: "/proc/47/ns/net"}},
		{Name: "web-2", State: instance.Restarting, Target: instance.TargetState{Netns: "/run/netns/blue"}},
		{Name: "job", State: instance.Exited, Target: instance.TargetState{PID: 4711, Program: "python3", Command: []string{"/usr/bin/python3", "train.py"}}},
		{Name: "c", State: instance.Running, Target: instance.TargetState{PID: 8, Program: "sleep"}, Container: &instance.Container{ID: "0123456789abcdef"}},
	}
	for line, want := range map[string]string{
		"": "web web-2 job c", "name=web": "web web-2", "name=^web$": "web", "name=^web$ name=c": "web c", "state=running": "web c",
		"state=running state=exited": "web job c", "name=web state=restarting": "web-2", "target=4711": "job", "target=47": "web", "target=nginx": "web",
		"target=train.py": "job", "target=blue": "web-2", "target=/run/netns/blue": "web-2", "target=0123": "c", "target=sleep name=web": "",
		"state=dead": "",
	} {
		f, err := parseFilters(strings.Fields(line))
		var got []string
		for _, st := range f.apply(slices.Clone(sts)) {
			got = append(got, st.Name)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v, want %q", line, got, err, want)
		}
	}
	for text, hint := range map[string]string{
		"web": "for example", "name": "for example", "name=": "for example", "=x": "for example", "nam=x": "did you mean name=?", "status=running": "did you mean state=?",
		"state=runing": "did you mean running?", "state=qqqq": "the states are running", "name=(": "",
	} {
		if _, err := parseFilters([]string{text}); !errors.Is(err, fault.Usage) || !strings.HasPrefix(fault.Hint(err), hint) {
			t.Errorf("%q: %v (%s)", text, err, fault.Hint(err))
		}
	}
}
