package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// listTable returns the table of `list`.
func listTable(sts []instance.State, whole bool) *table {
	t := newTable("NAME", "STATE", "TARGET", "GUEST", "UP", "RESTARTS", "PORTS")
	for _, st := range sts {
		t.add(plain(shortName(st.Name, whole)), stateCell(st), plain(targetText(st)), plain(addrText(st)),
			plain(upText(st)), restartsCell(st.Restarts), plain(cmp.Or(portsText(st), "-")))
	}
	return t
}

// isContainerID reports whether a name is one that container engines make.
func isContainerID(name string) bool {
	return len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
}

const longName = 32

// shortName shortens an instance's name: a container's id as podman does, which other commands accept, any other long
// name visibly.
func shortName(name string, whole bool) string {
	switch {
	case whole:
		return name
	case isContainerID(name):
		return name[:instance.ShortID]
	}
	return cut(name, longName)
}

func addrText(st instance.State) string {
	if !st.Guest.IsValid() {
		return "-"
	}
	return st.Guest.String()
}

// targetText returns the target's PID and program, or the name of its network namespace.
func targetText(st instance.State) string {
	t := st.Target
	program := plaintext.Line(t.Program)
	switch {
	case st.State == instance.Exited && program != "":
		return "(" + program + ")"
	case t.PID > 0 && program != "":
		return fmt.Sprintf("%d (%s)", t.PID, program)
	case t.PID > 0:
		return fmt.Sprint(t.PID)
	case t.Netns != "":
		dir, name := filepath.Split(t.Netns)
		if dir == "/run/netns/" {
			return plaintext.Line(name)
		}
		return plaintext.Line(t.Netns)
	}
	return "-"
}

func upText(st instance.State) string {
	if st.State == instance.Exited {
		return "-"
	}
	return age(st.StartedAt)
}

func age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(0, time.Since(t)) // the clock may have been set back
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// portRange is one forward, or several that differ only in their ports, which are consecutive on both sides.
type portRange struct {
	first hostfwd.Status
	n     int
}

// collapse joins neighbours in list that are consecutive. With ids, their ids must be, too.
func collapse(list []hostfwd.Status, ids bool) (out []portRange) {
	for _, f := range list {
		if n := len(out) - 1; n >= 0 {
			r := &out[n]
			next := r.first
			next.HostPort += uint16(r.n)
			next.GuestPort += uint16(r.n)
			next.ID += r.n
			if !ids {
				next.ID = f.ID
			}
			if next == f {
				r.n++
				continue
			}
		}
		out = append(out, portRange{f, 1})
	}
	return out
}

// span formats a number, or a range of n from it.
func span[T uint16 | int](first T, n int) string {
	if n == 1 {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, int(first)+n-1)
}

// addrSpan formats an address and a port or a range of ports.
func addrSpan(a netip.Addr, port uint16, n int) string {
	text := "?"
	switch {
	case a.Is6():
		text = "[" + a.String() + "]"
	case a.IsValid():
		text = a.String()
	}
	return text + ":" + span(port, n)
}

// portsText returns the forwards of an instance as podman prints them: 0.0.0.0:8000-8009->80-89/tcp, and so on.
func portsText(st instance.State) string {
	list := slices.Clone(st.Ports)
	slices.SortStableFunc(list, func(x, y hostfwd.Status) int {
		return cmp.Or(x.HostIP.Compare(y.HostIP), strings.Compare(string(x.Proto), string(y.Proto)), cmp.Compare(x.HostPort, y.HostPort))
	})
	var all []string
	for _, r := range collapse(list, false) {
		guest := span(r.first.GuestPort, r.n)
		if r.first.GuestIP != st.Guest {
			guest = addrSpan(r.first.GuestIP, r.first.GuestPort, r.n)
		}
		text := fmt.Sprintf("%s->%s/%s", addrSpan(r.first.HostIP, r.first.HostPort, r.n), guest, r.first.Proto)
		if r.first.Failed != "" {
			text += " (failed)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// upTable returns the table that `up` prints.
func upTable(st instance.State) *table {
	dns := "-"
	if st.DNS.IsValid() {
		dns = st.DNS.String()
	}
	t := &table{whole: true}
	line := func(label, text, colour string) { t.add(cell{label, dim}, cell{text, colour}) }
	line("name", st.Name, bold)
	line("guest", st.Guest.String(), "")
	line("gateway", st.Gateway.String(), "")
	line("dns", dns, "")
	if st.IPv6 != nil {
		line("ipv6", st.IPv6.Guest.String(), "")
	}
	for _, f := range st.Ports {
		line("forward", portText(f), green)
	}
	return t
}

func portText(f hostfwd.Status) string {
	text := fmt.Sprintf("%s -> %s/%s", addrSpan(f.HostIP, f.HostPort, 1), addrSpan(f.GuestIP, f.GuestPort, 1), f.Proto)
	if f.Failed != "" {
		text += ": failed: " + f.Failed
	}
	return text
}
