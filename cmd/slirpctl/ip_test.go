package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

var errNoInstance = errors.New("no such instance")

// lookupFixture has three instances: web with IPv6, plain without, mute without DNS.
func lookupFixture(_ context.Context, name string) (subnet.Values, error) {
	network, err := subnet.Parse("10.7.0.0/16")
	if err != nil {
		return subnet.Values{}, err
	}
	v := network.Values()
	switch name {
	case "web":
		v.IPv6 = subnet.NewValues6(netip.MustParseAddr("fd00::ff:fe12:3456"))
	case "plain":
	case "mute":
		v.DNS = netip.Addr{}
	default:
		return subnet.Values{}, errNoInstance
	}
	return v, nil
}

// ip runs `slirpctl ip` with args.
func ip(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	cmd := newIPCmd(lookupFixture)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(io.Discard)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func mustIP(t *testing.T, args ...string) string {
	t.Helper()
	out, err := ip(t, args...)
	if err != nil {
		t.Fatalf("ip %q: %v", args, err)
	}
	return out
}

const ipDefault = `cidr        10.0.2.0/24
guest       10.0.2.100
gateway     10.0.2.2
dns         10.0.2.3
dhcp-begin  10.0.2.15
dhcp-end    10.0.2.30
netmask     255.255.255.0
broadcast   10.0.2.255
`

const ipDefault6 = `cidr6       fd00::/64
gateway6    fd00::2
dns6        fd00::3
router6     fe80::2
`

const ipSeven = `cidr        10.7.0.0/16
guest       10.7.0.100
gateway     10.7.0.2
dns         10.7.0.3
dhcp-begin  10.7.0.15
dhcp-end    10.7.0.30
netmask     255.255.0.0
broadcast   10.7.255.255
`

const ipWeb6 = `cidr6       fd00::/64
guest6      fd00::ff:fe12:3456
gateway6    fd00::2
dns6        fd00::3
router6     fe80::2
`

func TestIP(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", ipDefault},
		{"--ipv6", ipDefault + ipDefault6},
		{"--format text", ipDefault},
		{"--format table", ipDefault},
		{"--name mute --format [{{.DNS}}{{.ipv6}}]", "[<nil>]\n"},
		{"--cidr 10.7.0.0/16", ipSeven},
		{"--name plain", ipSeven},
		{"--name web", ipSeven + ipWeb6},
		{"--name web --ipv6", ipSeven + ipWeb6},
		{"--name web --ipv6=false", ipSeven},
		{"--name mute", strings.Replace(ipSeven, "dns         10.7.0.3\n", "", 1)},

		{"gateway --format env", "SLIRP_GATEWAY=10.0.2.2\n"},
		{"gateway --format fish", "set -gx SLIRP_GATEWAY 10.0.2.2\n"},
		{"--format resolv.conf", "nameserver 10.0.2.3\n"},
		{"--format resolv.conf --ipv6", "nameserver 10.0.2.3\nnameserver fd00::3\n"},
		{"--format hosts", "10.0.2.100\tslirp-guest\n"},
		{"--format hosts --name plain", "10.7.0.100\tplain\n"},
		{"--format hosts --name web", "10.7.0.100\tweb\nfd00::ff:fe12:3456\tweb\n"},
		{"--format {{.Guest}}:{{.Gateway}}", "10.0.2.100:10.0.2.2\n"},
		{"--format {{.IPv6.Guest}} --name web", "fd00::ff:fe12:3456\n"},

		{"guest6 --name web", "fd00::ff:fe12:3456\n"},
		{"guest6 --name web --ipv6=false", "fd00::ff:fe12:3456\n"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			if got := mustIP(t, strings.Fields(tc.args)...); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// TestIPOneValue requests each value alone and compares it with the table.
func TestIPOneValue(t *testing.T) {
	for _, network := range [][]string{nil, {"--cidr=10.7.0.0/16"}, {"--name=web"}} {
		table := mustIP(t, append([]string{"--ipv6"}, network...)...)
		for line := range strings.Lines(table) {
			f := strings.Fields(line)
			// An IPv6 value requested by name needs no --ipv6.
			if got := mustIP(t, append([]string{f[0]}, network...)...); got != f[1]+"\n" {
				t.Errorf("ip %s %s: got %q, want %q", f[0], network, got, f[1])
			}
		}
	}
}

func TestIPJSON(t *testing.T) {
	const want = `{"cidr":"10.0.2.0/24","guest":"10.0.2.100","gateway":"10.0.2.2","dns":"10.0.2.3",` +
		`"dhcpBegin":"10.0.2.15","dhcpEnd":"10.0.2.30","netmask":"255.255.255.0","broadcast":"10.0.2.255"`
	const want6 = `,"ipv6":{"cidr":"fd00::/64","guest":"","gateway":"fd00::2","dns":"fd00::3","router":"fe80::2"}`
	for _, tc := range []struct{ args, want string }{
		{"--json", want + `,"ipv6":null}`},
		{"--format json", want + `,"ipv6":null}`},
		{"--json --name mute", strings.NewReplacer("10.0.2.0/24", "10.7.0.0/16", "10.0.2.3\"", "\"", "10.0.2.255", "10.7.255.255", "10.0.2.", "10.7.0.", "255.255.255.0", "255.255.0.0").Replace(want) + `,"ipv6":null}`},
		{"--json --ipv6", want + want6 + "}"},
		{"--json dhcp-end", `{"dhcpEnd":"10.0.2.30"}`},
		{"--json guest6 --name web", `{"ipv6":{"guest":"fd00::ff:fe12:3456"}}`},
	} {
		out := mustIP(t, strings.Fields(tc.args)...)
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(out)); err != nil {
			t.Fatalf("%s: %v", tc.args, err)
		}
		if compact.String() != tc.want || !strings.HasSuffix(out, "}\n") {
			t.Errorf("%s: got %s, want %s", tc.args, compact.String(), tc.want)
		}
	}
}

func TestIPErrors(t *testing.T) {
	for _, tc := range []struct {
		args  []string
		usage bool // exit code 2
		want  string
		hint  string
	}{
		{[]string{"--cidr", "10.0.2.100/24"}, true, "host bits are set, try 10.0.2.0/24", ""},
		{[]string{"--cidr", ""}, true, "empty", ""},
		{[]string{"--cidr", "fd00::/64"}, true, "IPv6", ""},
		{[]string{"--cidr", "10.0.2.0/26", "--json"}, true, "it must be 1 to 25", ""},
		{[]string{"gatway"}, true, `unknown value "gatway"`, "gateway, dns"},
		{[]string{""}, true, "is empty", ""},
		{[]string{"guest", "dns"}, true, `unexpected argument "dns"`, ""},
		{[]string{"guest6"}, true, "for a running instance only", "--name"},
		{[]string{"--format", "yaml"}, true, `unknown format "yaml"`, "resolv.conf"},
		{[]string{"--format", ""}, true, "unknown format", "resolv.conf"},
		{[]string{"--format", "hots"}, true, "unknown format", "did you mean hosts?"},
		{[]string{"--format", "{{.Nope}}"}, true, "Nope", ""},
		{[]string{"--format", "{{"}, true, "unclosed action", ""},
		{[]string{"dns", "--format", "hosts"}, true, "exclude each other", ""},
		{[]string{"dns", "--format", "{{.DNS}}"}, true, "exclude each other", ""},
		{[]string{"dns", "--format", "resolv.conf"}, true, "exclude each other", ""},
		{[]string{"--json", "--format", "env"}, true, "exclude each other", ""},
		{[]string{"--name", "web", "--cidr", "10.0.2.0/24"}, true, "exclude each other", ""},
		{[]string{"--name", ""}, true, "--name is empty", ""},
		{[]string{"--name", "nosuch"}, false, "no such instance", ""},
		{[]string{"--name", "plain", "--ipv6"}, false, "plain has no IPv6", ""},
		{[]string{"--name", "plain", "dns6"}, false, "plain has no dns6", ""},
		{[]string{"--name", "mute", "dns"}, false, "mute has no dns", ""},
		{[]string{"--name", "mute", "--format", "resolv.conf"}, false, "mute has no DNS", ""},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			out, err := ip(t, tc.args...)
			if err == nil {
				t.Fatalf("no error; printed %q", out)
			}
			if out != "" {
				t.Errorf("printed %q besides the error", out)
			}
			if msg := err.Error(); !strings.Contains(msg, tc.want) || strings.Contains(msg, "\n") {
				t.Errorf("got %q, want one line with %q", msg, tc.want)
			}
			if errors.Is(err, fault.Usage) != tc.usage {
				t.Errorf("a usage error: %v, want %v", !tc.usage, tc.usage)
			}
			if tc.usage && !strings.Contains(fault.Hint(err), tc.hint) {
				t.Errorf("hint: got %q, want %q in it", fault.Hint(err), tc.hint)
			}
		})
	}
	if _, err := ip(t, "--name", "nosuch"); !errors.Is(err, errNoInstance) {
		t.Errorf("the error of the lookup is lost: %v", err)
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestIPWriteError(t *testing.T) {
	for _, args := range [][]string{{}, {"guest"}, {"--json"}, {"--format={{.Guest}}"}} {
		cmd := newIPCmd(lookupFixture)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(args)
		cmd.SetOut(fullDisk{})
		if err := cmd.ExecuteContext(t.Context()); !errors.Is(err, io.ErrShortWrite) || errors.Is(err, fault.Usage) {
			t.Errorf("%q: got %v", args, err)
		}
	}
}

// TestIPEval evaluates the output in real shells. fish needs its own format; the others use the
// same lines, also with every option that makes shells stricter.
func TestIPEval(t *testing.T) {
	const bourne = `set -eu; SLIRP_GUEST=stale; eval "$OUTPUT"`
	for _, sh := range []struct {
		argv   []string
		format string
		eval   string
	}{
		{[]string{"sh", "-c"}, "env", bourne},
		{[]string{"bash", "--norc", "--noprofile", "-c"}, "env", bourne},
		{[]string{"bash", "--posix", "-c"}, "env", bourne},
		{[]string{"dash", "-c"}, "env", bourne},
		{[]string{"zsh", "-f", "-c"}, "env", bourne},
		{[]string{"zsh", "-f", "-o", "extendedglob", "-o", "nomatch", "-o", "globassign", "-c"}, "env", bourne},
		{[]string{"fish", "--no-config", "-c"}, "fish", `set -g SLIRP_GUEST stale; printf %s "$OUTPUT" | source`},
	} {
		t.Run(strings.Join(sh.argv, " "), func(t *testing.T) {
			path, err := exec.LookPath(sh.argv[0])
			if err != nil {
				if os.Getenv("CI") != "" {
					t.Fatalf("needed in CI: %v", err)
				}
				t.Skip(err)
			}
			for _, args := range [][]string{{"--ipv6"}, {"--cidr=10.7.0.0/16"}, {"--name=web"}, {"dhcp-begin"}} {
				table := mustIP(t, append([]string{"--format=env"}, args...)...)
				script := sh.eval
				var want []string
				for line := range strings.Lines(table) {
					name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
					script += "; echo \"" + name + "=$" + name + "\""
					want = append(want, name+"="+value)
				}
				cmd := exec.Command(path, append(sh.argv[1:len(sh.argv):len(sh.argv)], script)...)
				cmd.Dir = t.TempDir()
				cmd.Env = []string{
					"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "LC_ALL=C",
					"OUTPUT=" + mustIP(t, append([]string{"--format=" + sh.format}, args...)...),
				}
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
				if got := strings.TrimSpace(string(out)); got != strings.Join(want, "\n") {
					t.Errorf("%v: got\n%s\nwant\n%s", args, got, strings.Join(want, "\n"))
				}
			}
		})
	}
}

// TestIPShellCharacters checks that the formats for shells use only characters that no shell treats
// specially, for any network.
func TestIPShellCharacters(t *testing.T) {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/"
	for _, cidr := range []string{"10.0.2.0/24", "64.0.0.0/2", "255.255.255.128/25"} {
		for _, line := range strings.Split(strings.TrimSpace(mustIP(t, "--ipv6", "--format=env", "--cidr", cidr)), "\n") {
			name, value, found := strings.Cut(line, "=")
			if !found || strings.Trim(name+value, harmless) != "" || !strings.HasPrefix(name, "SLIRP_") {
				t.Errorf("%s: %q", cidr, line)
			}
		}
	}
}
