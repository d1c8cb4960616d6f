package main

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	helperPrograms["witness"] = witness
	helperPrograms["egress-frames"] = egressFrames
	helperPrograms["sockets"] = sockets
}

// The host of its own that attacks on egress rules take place on. www.example and every other name is 192.0.2.53,
// which serves HTTP; 192.0.2.66 is whom nobody may talk to.
const egressHostScript = `set -eu
cd "$DIR"
ip link set lo up
mkdir -p etc
for f in passwd group nsswitch.conf ld.so.cache ld.so.conf ld.so.conf.d alternatives $(cd /etc; ls -d java-* 2>/dev/null); do
	[ ! -e /etc/$f ] || cp -rL /etc/$f etc/
done
echo 'nameserver 127.0.0.1' >etc/resolv.conf
echo '127.0.0.1 localhost' >etc/hosts
mount --bind etc /etc
dnsd 127.0.0.1:53 listening &
unshare --net bash -c 'touch unshared; waitfor ip link set v1 up
	ip addr add 192.0.2.53/24 dev v1; ip addr add 192.0.2.66/24 dev v1; ip link set lo up
	if [ -n "${ROUTES:-}" ]; then
		ip addr add fd00::53/64 dev v1 nodad; ip route add local 0.0.0.0/0 dev lo; ip -6 route add local ::/0 dev lo
	fi
	witness v1 seen.v1 &
	for port in 53 443 853; do socat TCP4-LISTEN:$port,bind=192.0.2.66,fork,reuseaddr SYSTEM:"echo evil" & done
	socat UDP4-RECVFROM:53,bind=192.0.2.66,fork SYSTEM:"echo evil" &
	httpd -listen 192.0.2.66:80 -body evil & exec bash -c "${SERVERS:-exec httpd -listen 192.0.2.53:80 -port port}"' &
neighbour=$!
waitfor test -e unshared
ip link add v0 type veth peer name v1 netns $neighbour
ip addr add 192.0.2.1/24 dev v0
ip link set v0 up
if [ -n "${ROUTES:-}" ]; then # every address is the neighbour
	ip addr add fd00::1/64 dev v0 nodad; ip route add default via 192.0.2.53; ip -6 route add default via fd00::53
fi
witness lo seen.lo &
waitfor test -s port
waitfor test -s listening
waitfor test -e seen.v1 -a -e seen.lo
waitfor fetch http://192.0.2.53/ >/dev/null
waitfor fetch http://192.0.2.66/ >/dev/null
waitfor grep -q 'tcp 192.0.2.66:80' seen.v1
for f in seen.v1 seen.lo; do : >$f; done
case $AS in
root) bash attack.sh ;;
user) unshare --user --map-user=1000 --map-group=1000 bash attack.sh ;;
esac
echo mark >/dev/udp/192.0.2.53/9
echo mark >/dev/udp/127.0.0.1/9 || :
waitfor grep -q ':9$' seen.v1
waitfor grep -q ':9$' seen.lo
`

// What every attack begins with.
const egressAttackScript = `set -u
slirpctl() { "$BIN" --state-dir "$STATE" "$@"; }
# Neither waits long for an answer: whether anything got out, the witness says, whenever it does.
tcp() { echo "tcp $1: $(socat -t1 -T3 - TCP4:$1,connect-timeout=3 </dev/null 2>&1 | tail -1 | grep -o -e evil -e refused -e unreachable -e reset -e 'No route' || :)"; }
udp() { echo "udp $1: $(echo x | timeout 20 socat -t1 -T1 - UDP4:$1 2>&1 | grep -o -e evil -e refused -e unreachable -e 'No route' || :)"; }
export -f tcp udp slirpctl
holder() { # a process in namespaces of its own, its PID in $target
	unshare --user --map-root-user --net sh -c 'touch "$DIR/held"; exec sleep 1000' & target=$!
	waitfor test -e "$DIR/held"; rm "$DIR/held"
}
inside() { nsenter --preserve-credentials -U -n -t $target "$@"; }
`

// egressResult is what came of an attack.
type egressResult struct {
	result
	seen []string // by whom the packets that left the host, or went over its loopback, were for
}

// attackEgress runs a script on a host of its own.
func (l *lab) attackEgress(script string) egressResult {
	t := l.t.(*testing.T)
	t.Helper()
	for _, tool := range []string{"unshare", "ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacking(t, "this test needs %s: %v", tool, err)
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(l.base), "h")
	must(t, err)
	must(t, os.WriteFile(dir+"/host.sh", []byte(egressHostScript), 0o644), os.WriteFile(dir+"/attack.sh", []byte(egressAttackScript+script), 0o644))
	as, words := "root", []string{"unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if l.uid != 0 {
		must(t, os.Chown(dir, l.uid, l.gid), os.Chown(dir+"/host.sh", l.uid, l.gid), os.Chown(dir+"/attack.sh", l.uid, l.gid))
	}
	if l.ordinary() {
		as, words = "user", append(words, "--user", "--map-root-user")
	}
	l.copyBinary()
	cmd := l.command()
	cmd.Args = append(words, "bash", dir+"/host.sh")
	cmd.Path, err = exec.LookPath("unshare")
	must(t, err)
	cmd.Env = append(cmd.Env, "PATH="+programs.path(t)+":"+os.Getenv("PATH")+":/usr/sbin:/sbin", "DIR="+dir, "BIN="+l.bin, "STATE="+dir+"/state", "AS="+as, "HOME="+dir)
	r := egressResult{result: l.finish(cmd)}
	if r.code != 0 {
		t.Fatalf("exit status %d: %s%s", r.code, r.out, r.err)
	}
	for _, dev := range []string{"v1", "lo"} {
		data, err := os.ReadFile(dir + "/seen." + dev)
		must(t, err)
		for line := range strings.Lines(string(data)) {
			if line = dev + " " + strings.TrimSpace(line); !strings.HasSuffix(line, ":9") {
				r.seen = append(r.seen, line)
			}
		}
	}
	slices.Sort(r.seen)
	r.seen = slices.Compact(r.seen)
	return r
}

// only fails the test where more than these was seen.
func (r egressResult) only(t *testing.T, allowed ...string) {
	t.Helper()
	for _, s := range r.seen {
		if !slices.Contains(allowed, s) {
			t.Errorf("got out: %s\n%s%s", s, r.out, r.err)
		}
	}
}

func (r egressResult) has(t *testing.T, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !slices.Contains(r.seen, w) {
			t.Errorf("%q was not seen, so that the test proves nothing: %q\n%s%s", w, r.seen, r.out, r.err)
		}
	}
}

// witness DEV FILE writes a line for each packet that begins something on an interface.
func witness(args []string) int {
	fd, _, err := packetSocket(args[0])
	if err != nil {
		return failed("witness: %v", err)
	}
	file, err := os.OpenFile(args[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return failed("witness: %v", err)
	}
	buf := make([]byte, 1<<17)
	for {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			continue
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if line := packetLine(buf[:n]); line != "" {
			_, _ = fmt.Fprintln(file, line)
		}
	}
}

func packetLine(b []byte) string {
	if len(b) < 34 {
		return ""
	}
	etherType := binary.BigEndian.Uint16(b[12:])
	b = b[14:]
	switch etherType {
	case unix.ETH_P_ARP:
		return ""
	case unix.ETH_P_IPV6:
		if len(b) < 42 || b[6] == unix.IPPROTO_ICMPV6 || b[6] == 0 {
			return "" // the kernel's own
		}
		return fmt.Sprintf("ipv6 %d %s:%d", b[6], netip.AddrFrom16([16]byte(b[24:40])), binary.BigEndian.Uint16(b[42:]))
	case unix.ETH_P_IP:
	default:
		return fmt.Sprintf("ether %#x", etherType)
	}
	dst, body := netip.AddrFrom4([4]byte(b[16:20])), b[int(b[0]&15)*4:]
	switch {
	case b[9] == unix.IPPROTO_TCP && len(body) >= 20:
		if body[13]&0x17 != 2 {
			return "" // no SYN alone
		}
		return fmt.Sprintf("tcp %s:%d", dst, binary.BigEndian.Uint16(body[2:]))
	case b[9] == unix.IPPROTO_UDP && len(body) >= 8:
		from, to := binary.BigEndian.Uint16(body), binary.BigEndian.Uint16(body[2:])
		if from == 53 {
			return ""
		}
		if to == 53 && len(body) > 20 {
			var labels []string
			for q := body[20:]; len(q) > 0 && q[0] > 0 && len(q) > int(q[0]); q = q[1+int(q[0]):] {
				labels = append(labels, string(q[1:1+int(q[0])]))
			}
			return fmt.Sprintf("dns %s %s", dst, strings.Join(labels, "."))
		}
		return fmt.Sprintf("udp %s:%d", dst, to)
	case b[9] == unix.IPPROTO_ICMP && len(body) > 0 && body[0] == 3:
		return ""
	}
	return fmt.Sprintf("ip %d %s", b[9], dst)
}

// egressFrames is frames, but to the gateway's own hardware address.
func egressFrames(args []string) int {
	dev := "tap0"
	if args[0] == "-dev" {
		dev, args = args[1], args[2:]
	}
	fd, to, err := packetSocket(dev)
	if err != nil {
		return failed("%v", err)
	}
	if code := awaitGateway(fd, to); code != 0 {
		return code
	}
	mac := neighbourMAC("10.0.2.2")
	for _, arg := range args {
		b, err := hex.DecodeString(arg)
		if err != nil {
			return failed("%v", err)
		}
		for _, dst := range []string{mac, "ffffffffffff"} {
			hw, _ := hex.DecodeString(dst)
			if len(hw) == 6 {
				copy(b, hw)
			}
			if err := unix.Sendto(fd, b, 0, to); err != nil && err != unix.EMSGSIZE && err != unix.ENOBUFS {
				return failed("send: %v", err)
			}
		}
	}
	return awaitGateway(fd, to)
}

// neighbourMAC has the kernel ask for an address, and returns what it found.
func neighbourMAC(addr string) (mac string) {
	for range 100 {
		_ = exec.Command("bash", "-c", "echo >/dev/udp/"+addr+"/7").Run()
		data, _ := os.ReadFile("/proc/net/arp")
		for line := range strings.Lines(string(data)) {
			if f := strings.Fields(line); len(f) > 3 && f[0] == addr && f[3] != "00:00:00:00:00:00" {
				return strings.ReplaceAll(f[3], ":", "")
			}
		}
	}
	return ""
}

// sockets prints which sockets that know no network namespace can be made.
func sockets([]string) int {
	for _, family := range []int{unix.AF_VSOCK, unix.AF_BLUETOOTH, unix.AF_ALG, unix.AF_QIPCRTR, unix.AF_TIPC} {
		for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM} {
			if _, err := unix.Socket(family, typ, 0); err == nil {
				fmt.Println("made a socket of family", family)
			}
		}
	}
	if _, _, e := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 8, paramsOfURing(), 0); e == 0 {
		fmt.Println("made an io_uring")
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			fmt.Println("has a socket:", fd.Name())
		}
	}
	fmt.Println("end of sockets")
	return 0
}
