package launcher

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/subnet"
)

var other, _ = subnet.Parse("10.7.0.0/16")

var update = flag.Bool("update", false, "rewrite the golden files")

// plans are the golden tests' plans, by name.
func plans() []struct {
	name string
	plan Plan
} {
	defaults := Plan{
		MTU: 65520, CIDR: subnet.Default(), DisableHostLoopback: true, Sandbox: true, Seccomp: true,
		Tap: "tap0", APISocket: "/run/user/1000/slirpctl/web/api.sock", ExitFD: 3, ReadyFD: 4, Target: Target{PID: 4711},
	}
	path := defaults
	path.Sandbox = false
	path.Target = Target{NetnsPath: "/run/netns/blue"}
	userns := path
	userns.Target.UsernsPath = "/proc/4711/ns/user"
	ipv6 := Plan{MTU: 1500, IPv6: true, OutboundAddr6: netip.MustParseAddr("2001:db8::5"), ReadyFD: 3, Target: Target{PID: 1}}
	everything := Plan{
		MTU: 1400, CIDR: other, IPv6: true, DisableHostLoopback: true, DisableDNS: true,
		Sandbox: true, Seccomp: true, OutboundAddr: netip.MustParseAddr("192.0.2.7"), OutboundAddr6: netip.MustParseAddr("2001:db8::7"),
		Tap: "eth7", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}, APISocket: "/tmp/it's here/api.sock", ExitFD: 3, ReadyFD: 4,
		Target: Target{NetnsPath: "/run/netns/blue", UsernsPath: "/run/userns/blue"},
	}
	return []struct {
		name string
		plan Plan
	}{
		{"defaults", defaults},
		{"bare", Plan{Target: Target{PID: 4711}}},
		{"host-loopback-allowed", Plan{MTU: 65520, ExitFD: 3, ReadyFD: 4, Target: Target{PID: 4711}}},
		{"cidr", Plan{CIDR: other, Target: Target{PID: 4711}}},
		{"netns-path", path},
		{"netns-and-userns-path", userns},
		{"ipv6", ipv6},
		{"no-dns", Plan{DisableDNS: true, Target: Target{PID: 4711}}},
		{"mac", Plan{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, Target: Target{PID: 4711}}},
		{"odd-names", Plan{Tap: "-x", Target: Target{NetnsPath: "-name $HOME"}}},
		{"everything", everything},
	}
}

func TestArgsGolden(t *testing.T) {
	for name, help := range texts(t, "help") {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, p := range plans() {
				args, err := Binary{Features: ParseFeatures(help)}.Args(p.plan)
				fmt.Fprintf(&got, "%s:\n  ", p.name)
				if err != nil {
					fmt.Fprintf(&got, "error: %v\n", err)
					continue
				}
				fmt.Fprintln(&got, Quote(args))
			}
			golden := "testdata/args/" + name + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got.String(), want)
			}
		})
	}
}

// Whatever is on a list must be in the help text it was made for.
func TestArgsUseOnlyWhatTheHelpLists(t *testing.T) {
	for name, help := range texts(t, "help") {
		for _, p := range plans() {
			args, err := Binary{Features: ParseFeatures(help)}.Args(p.plan)
			if err != nil {
				continue
			}
			for _, arg := range args {
				option, _, _ := strings.Cut(arg, "=")
				if strings.HasPrefix(option, "--") && option != "--" && !strings.Contains(help, option) {
					t.Errorf("%s, %s: %s is not in the help", name, p.name, option)
				}
			}
			if slices.Contains(args, "-r") && !slices.Contains(args, "-c") {
				t.Errorf("%s, %s: -r without -c", name, p.name)
			}
		}
	}
}

func TestArgsMissingFeature(t *testing.T) {
	help := texts(t, "help")
	for _, tc := range []struct {
		help string
		plan Plan
		want MissingFeatureError
	}{
		{"v0.2.3", Plan{DisableHostLoopback: true}, MissingFeatureError{Feature: DisableHostLoopback, Since: "0.3.0"}},
		{"v0.2.3", Plan{CIDR: other}, MissingFeatureError{Feature: CIDR, Since: "0.3.0"}},
		{"v0.2.3", Plan{APISocket: "/x"}, MissingFeatureError{Feature: APISocket, Since: "0.3.0"}},
		{"v0.3.0", Plan{Sandbox: true}, MissingFeatureError{Feature: EnableSandbox, Since: "0.4.0"}},
		{"v0.3.0", Plan{Seccomp: true}, MissingFeatureError{Feature: EnableSeccomp, Since: "0.4.0"}},
		{"v0.3.0", Plan{Target: Target{NetnsPath: "/x"}}, MissingFeatureError{Feature: NetnsType, Since: "0.4.0"}},
		{"v1.0.0", Plan{OutboundAddr: netip.MustParseAddr("192.0.2.1")}, MissingFeatureError{Feature: OutboundAddr, Since: "1.1.0"}},
		{"v1.0.0", Plan{OutboundAddr6: netip.MustParseAddr("2001:db8::1")}, MissingFeatureError{Feature: OutboundAddr6, Since: "1.1.0"}},
		{"v1.0.0", Plan{DisableDNS: true}, MissingFeatureError{Feature: DisableDNS, Since: "1.1.0"}},
		{"v1.1.0", Plan{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, MissingFeatureError{Feature: MACAddress, Since: "1.1.9"}},
	} {
		if tc.plan.Target == (Target{}) {
			tc.plan.Target.PID = 1
		}
		b := Binary{Version: Version{Version: tc.help[1:]}, Features: ParseFeatures(help[tc.help])}
		args, err := b.Args(tc.plan)
		var missing *MissingFeatureError
		if !errors.As(err, &missing) || args != nil {
			t.Errorf("%s: %+v gave %q, %v", tc.help, tc.plan, args, err)
			continue
		}
		tc.want.Have, tc.want.Wanted = tc.help[1:], missing.Wanted
		if *missing != tc.want || missing.Wanted == "" {
			t.Errorf("%s: got %+v, want %+v", tc.help, *missing, tc.want)
		}
	}
	// A backported feature counts, and so does one that was compiled out.
	if _, err := (Binary{Features: ParseFeatures(help["v1.0.0"]) | Features(DisableDNS)}).Args(Plan{DisableDNS: true, Target: Target{PID: 1}}); err != nil {
		t.Error(err)
	}
	if _, err := (Binary{Features: ParseFeatures(help["v1.3.3"]) &^ Features(DisableDNS)}).Args(Plan{DisableDNS: true, Target: Target{PID: 1}}); err == nil {
		t.Error("a feature that was compiled out is used")
	}
}

func TestQuoteIsReadBackByTheShell(t *testing.T) {
	words := []string{"plain", "", "it's", "a b", "$HOME", "`x`", `\`, "\n", "a=b", "--mtu=1500", "*", "é", "~", "#", "!", "a\tb", "'", "''", "-", ";&|<>(){}[]?\""}
	out, err := exec.Command("sh", "-c", `printf '%s\0' `+Quote(words)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
		t.Errorf("got %q, want %q", got, words)
	}
	if got, want := Quote([]string{"slirp4netns", "--cidr=10.7.0.0/16", "-c", "1", "a b"}), "slirp4netns --cidr=10.7.0.0/16 -c 1 'a b'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
