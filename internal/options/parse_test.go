package options

import (
	"slices"
	"strings"
	"testing"
)

// Values that every source refuses, each tested by its flag.
func TestBadValues(t *testing.T) {
	for _, tc := range []struct{ flag, text, want, hint string }{
		{"name", ".x", `".x": does not begin with a letter or digit`, ""},
		{"name", "a/b", `"a/b": contains '/'; letters, digits, _ . and - are allowed`, ""},
		{"name", "ä", `"ä": does not begin with a letter or digit`, ""},
		{"name", strings.Repeat("a", 65), `"` + strings.Repeat("a", 65) + `": longer than 64 characters`, ""},
		{"detach", "perhaps", `"perhaps": neither true nor false`, ""},
		{"port-handler", "rootleskit", `"rootleskit": not one of direct, rootlesskit, slirp4netns`, "did you mean rootlesskit?"},
		{"mtu", "", `is empty`, ""},
		{"mtu", "67", `"67": less than 68`, ""},
		{"mtu", "65522", `"65522": more than 65521`, ""},
		{"mtu", "0x5dc", `"0x5dc": not a whole number`, ""},
		{"tap-name", "", `is empty`, ""},
		{"tap-name", "sixteen-bytes-xy", `"sixteen-bytes-xy": longer than 15 bytes`, ""},
		{"tap-name", "a b", `"a b": contains ' ', which an interface name can't`, ""},
		{"tap-name", "a/b", `"a/b": contains '/', which an interface name can't`, ""},
		{"tap-name", "tap%d", `"tap%d": contains '%', which an interface name can't`, ""},
		{"tap-name", "..", `"..": not an interface name`, ""},
		{"tap-name", "lo", `"lo": every network namespace has lo already`, ""},
		{"macaddress", "02:00", `"02:00": not a MAC address of six bytes`, "write it like 02:00:5e:10:00:01"},
		{"macaddress", "02:00:00:00:00:00:00:01", `"02:00:00:00:00:00:00:01": not a MAC address of six bytes`, "write it like 02:00:5e:10:00:01"},
		{"macaddress", "01:00:5e:00:00:01", `"01:00:5e:00:00:01": a multicast address, which an interface can't have`, "make the first byte even"},
		{"macaddress", "00:00:00:00:00:00", `"00:00:00:00:00:00": all zero, which an interface can't have`, ""},
		{"outbound-addr", "0.0.0.0", `"0.0.0.0": not the address of an interface`, ""},
		{"outbound-addr", "::ffff:192.0.2.1", `"::ffff:192.0.2.1": not an IPv4 address`, ""},
		{"outbound-addr6", "fe80::1%eth0", `"fe80::1%eth0": an address with a zone can't be a source`, ""},
		{"outbound-addr6", "2001:db8::1", `"2001:db8::1": needs IPv6, which is off`, "add --ipv6"},
		{"sandbox", "on", `"on": not one of auto, true, false`, ""},
		{"restart", "always", `"always": not one of on-failure, never`, ""},
		{"timeout", "10", `"10": has no unit`, "write 10s for seconds, 10ms for milliseconds"},
		{"timeout", "soon", `"soon": not a duration`, "write it like 10s, 500ms or 1m30s"},
		{"timeout", "0s", `"0s": must be more than zero`, ""},
		{"wait-netns", "-1s", `"-1s": must not be negative`, ""},
		{"ready-fd", "-1", `"-1": less than 0`, ""},
		{"exit-fd", "2147483648", `"2147483648": more than 2147483647`, ""},
		{"pid-file", "run/", `"run/": a directory, not a file`, ""},
		{"state-dir", "a\x00b", `"a\x00b": contains a zero byte`, ""},
		{"auto-exclude", "9-1", `"9-1": ends before it begins`, ""},
		{"auto-exclude", "22,0", `"0": port "0": less than 1`, ""},
		{"auto-exclude", "x-9", `"x-9": port "x": not a whole number`, ""},
		{"log-level", "loud", `"loud": not one of trace, debug, info, warning, error`, ""},
	} {
		newWorld(t).fails("flag --"+tc.flag+": "+tc.want, tc.hint, "--"+tc.flag+"="+tc.text)
	}
	newWorld(t).fails(`flag --mtu: "1279": less than 1280, the least that IPv6 works with`, "", "--mtu=1279", "--ipv6")
	newWorld(t).mustLoad("--mtu=1280", "--ipv6")
	newWorld(t).fails(`flag --exit-fd: "3": also the file descriptor of ready-fd, which is closed when ready`, "", "--ready-fd=3", "--exit-fd=3")
}

// A refused spec or network has the message of its own package.
func TestBorrowedErrors(t *testing.T) {
	for _, tc := range []struct{ flag, text, in string }{
		{"publish", "8080:80:90:100:5", "flag --publish: "},
		{"publish", "", "flag --publish: is empty"},
		{"cidr", "10.0.2.100/24", `flag --cidr: "10.0.2.100/24": `},
		{"cidr", "", `flag --cidr: is empty`},
	} {
		_, err := newWorld(t).load("--" + tc.flag + "=" + tc.text)
		if err == nil || !strings.HasPrefix(err.Error(), tc.in) || strings.Count(err.Error(), `"10.0.2.100/24"`) > 1 {
			t.Errorf("%s: got %v, want %s...", tc.text, err, tc.in)
		}
	}
}

// An invalid value in a lower source is an error even if a higher one overrides it.
func TestHiddenBadValue(t *testing.T) {
	newWorld(t).file("/etc/slirpctl/config.yaml", "mtu: 5").
		fails(`/etc/slirpctl/config.yaml:1: mtu: "5": less than 68`, "", "--mtu=1500")
}

func TestNearest(t *testing.T) {
	all := names(fileName)
	for word, want := range map[string]string{
		"mtuu": "mtu", "mut": "mtu", "MTU": "mtu", "cdir": "cidr", "port_handler": "port-handler", "handler": "port-handler",
		"dns": "disable-dns", "enable_ipv6": "ipv6", "ipv4": "ipv6", "loopback": "allow-host-loopback", "outbound": "outbound-addr",
		"tapname": "tap-name", "mac-address": "macaddress", "pidfile": "pid-file", "loglevel": "log-level", "tiemout": "timeout",
		"macadd": "macaddress", "tty": "", "env": "", "rm": "", "it": "",
		"": "", "foo": "", "zzzzzz": "", "volume": "", strings.Repeat("x", 1000): "",
	} {
		if got := Nearest(word, all); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if got := Nearest("x", nil); got != "" {
		t.Errorf("no candidates: %q", got)
	}
}

func TestSplitList(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, " , ": nil, "80": {"80"}, "1:1,2:2": {"1:1", "2:2"}, "1:1/tcp,udp,2:2/UDP6,tcp4 3": {"1:1/tcp,udp", "2:2/UDP6,tcp4", "3"}, "tcp": {"tcp"},
	} {
		if got := splitList(in); !slices.Equal(got, want) {
			t.Errorf("splitList(%q) = %q, want %q", in, got, want)
		}
	}
}
