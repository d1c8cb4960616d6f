package main

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/egress"
)

// TestAttackEgressRebinding: whoever answers for a permitted name has it lead to addresses of the host's and its networks.
func TestAttackEgressRebinding(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		l.env = append(l.env, "ROUTES=1")
		label := func(addr string) string {
			a := netip.MustParseAddr(addr)
			return "x" + hex.EncodeToString(a.AsSlice())
		}
		bad := []string{
			"127.0.0.1", "0.0.0.0", "10.1.2.3", "100.64.0.1", "169.254.169.254", "172.16.0.1", "192.0.2.1", "192.168.1.1", "224.0.0.1",
			"::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "fc00::1", "fd00::53", "fe80::1", "ff02::1",
		}
		var names []string
		for _, addr := range bad {
			names = append(names, label(addr)+".example")
		}
		// Of several, the one that is nobody's secret is reached, in either order.
		mixed := []string{
			label("127.0.0.1") + "." + label("192.0.2.53") + ".example", label("192.0.2.53") + "." + label("127.0.0.1") + ".example",
			label("::1") + "." + label("192.0.2.53") + ".example", label("fd00::53") + "." + label("192.0.2.53") + "." + label("169.254.169.254") + ".example",
		}
		const script = `
			fetchall() {
				for n; do
					timeout %s fetch http://$n/ 2>&1 | sed -n '1s/.*\(it works\|refused\|reset\|no such host\|invalid\|unreachable\|no route\).*/\1/p' | sed "s/^/$n: /" &
					echo x >/dev/udp/$n/80 || :
				done 2>/dev/null
				wait
			}
			export -f fetchall
			set -f
			slirpctl up -d --name x %s -- idle >/dev/null
			slirpctl exec x -- bash -c 'fetchall "$@"' bash %s
			echo == log
			slirpctl egress log x --json
			slirpctl down x`
		r := l.attackEgress(fmt.Sprintf(script, "60", "--allow *.example:80 --allow *.example:80/udp", strings.Join(append(names, mixed...), " ")))
		out, log, _ := strings.Cut(r.out, "== log")
		for i, name := range names {
			addr := netip.MustParseAddr(bad[i]).Unmap()
			if !strings.Contains(out, name+": refused\n") {
				t.Errorf("%s is not refused", bad[i])
			}
			want := fmt.Sprintf(`"proto":"tcp","name":%q,"ip":%q,"port":80`, name, addr)
			found := false
			for line := range strings.Lines(log) {
				found = found || strings.Contains(line, want) && strings.Contains(line, `"verdict":"denied"`) && strings.Contains(line, egress.SpecialAddr)
			}
			if !found {
				t.Errorf("%s: the log has no %s", bad[i], want)
			}
		}
		for _, name := range mixed {
			if !strings.Contains(out, name+": it works\n") {
				t.Errorf("%s is not reached", name)
			}
		}
		for _, s := range r.seen {
			if !strings.HasPrefix(s, "lo dns 127.0.0.1 x") && s != "v1 tcp 192.0.2.53:80" && s != "v1 udp 192.0.2.53:80" {
				t.Errorf("got out: %s", s)
			}
		}
		if t.Failed() {
			t.Logf("%s%s", r.out, r.err)
		}
		// With rules for the addresses it is another thing: else this would prove nothing.
		r = l.attackEgress(fmt.Sprintf(script, "3", "--allow *.example:80 --allow 0.0.0.0/0 --allow ::/0", strings.Join(names, " ")))
		r.has(t, "lo tcp 127.0.0.1:80", "lo tcp 192.0.2.1:80", "v1 tcp 169.254.169.254:80", "v1 tcp 100.64.0.1:80", "v1 tcp 10.1.2.3:80",
			"lo ipv6 6 ::1:80", "v1 ipv6 6 64:ff9b::7f00:1:80", "v1 ipv6 6 2002:7f00:1:::80", "v1 ipv6 6 fc00::1:80")
	})
}
