package forwardtest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// sources parses the table of source addresses in the documentation: by handler and protocol, the
// address that a program inside sees of a client on the host itself and of one on another host.
func sources(t *testing.T) map[string][2]string {
	t.Helper()
	_, self, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(self), "..", "..", "docs", "port-handlers.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table := map[string][2]string{}
	_, section, _ := strings.Cut(string(text), "## The source address")
	section, _, _ = strings.Cut(section, "\n## ")
	for line := range strings.Lines(section) {
		cell := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cell) != 4 {
			continue
		}
		for i := range cell {
			cell[i] = strings.Trim(strings.TrimSpace(cell[i]), "`")
		}
		for proto := range strings.SplitSeq(cell[1], ", ") {
			table[cell[0]+" "+strings.ToLower(proto)] = [2]string{cell[2], cell[3]}
		}
	}
	return table
}

// TestSourceAddress uses a client on another host: a network namespace of its own, joined to the
// one that stands for this host by a pair of interfaces.
func TestSourceAddress(t *testing.T) {
	if os.Geteuid() != 0 {
		return // needs interfaces; covered by root's run
	}
	asCaller(t, testSourceAddress)
}

func testSourceAddress(t *testing.T) {
	const host, client = "192.0.2.1", "192.0.2.2"
	other := idle(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	runs(t, "ip", "link", "add", "host0", "type", "veth", "peer", "name", "client0", "netns", strconv.Itoa(other))
	runs(t, "ip", "addr", "add", host+"/24", "dev", "host0")
	runs(t, "ip", "link", "set", "host0", "up")
	inNetns(t, other, "ip", "addr", "add", client+"/24", "dev", "client0")
	inNetns(t, other, "ip", "link", "set", "client0", "up")

	table := sources(t)
	for _, c := range []struct {
		row   string
		flags []string
	}{
		{"rootlesskit", nil},
		{"rootlesskit --source-ip-transparent", []string{"--source-ip-transparent"}},
		{"slirp4netns", []string{"--allow-host-loopback"}},
		{"direct", nil},
		{"direct --source-ip-transparent", []string{"--source-ip-transparent"}},
	} {
		handler, _, _ := strings.Cut(c.row, " ")
		t.Run(c.row, func(t *testing.T) {
			w := newWorld(t)
			g := w.up("g", append(c.flags, "--port-handler", handler)...)
			for _, proto := range []string{"tcp", "udp"} {
				want, ok := table[c.row+" "+proto]
				if !ok {
					t.Errorf("the docs' table has no %s %s", c.row, proto)
					continue
				}
				f := g.forward("0.0.0.0", g.listen(proto+"4", "0.0.0.0:0", "whoami"), proto)
				local, err := ask(proto, local(f.HostPort))
				if err != nil {
					t.Error(err)
				}
				far := inNetns(t, other, bin(t, "ask"), proto, fmt.Sprintf("%s:%d", host, f.HostPort))
				for i, got := range []string{local, far} {
					if wanted := map[string]string{"the client's": client, "": "?"}[want[i]]; want[i] == "" || (wanted != got && want[i] != got) {
						t.Errorf("%s: client %d: a program inside sees %s, the docs say %q", proto, i+1, got, want[i])
					}
				}
			}
		})
	}
}
