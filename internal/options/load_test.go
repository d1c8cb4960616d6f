package options

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/plaintext"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// samples has two values for every key that differ from each other and, if possible, from the default.
// Pairs of sources are tested with both, so that the order of values doesn't matter.
var samples = map[string][2]string{
	"name":                  {"web", "db-1"},
	"detach":                {"true", "false"},
	"publish":               {"8080:80/tcp", "auto,9090:90/udp"},
	"auto-exclude":          {"22", "1-1023,8080"},
	"annotation-ports":      {"20000-20100", "8080"},
	"port-handler":          {"slirp4netns", "rootlesskit"},
	"source-ip-transparent": {"true", "false"},
	"cidr":                  {"10.7.0.0/16", "10.0.2.0/24"},
	"mtu":                   {"1500", "65520"},
	"ipv6":                  {"true", "false"},
	"allow-host-loopback":   {"true", "false"},
	"outbound-addr":         {"192.0.2.1", "eth0"},
	"outbound-addr6":        {"2001:db8::1", "eth0"},
	"tap-name":              {"eth7", "tap0"},
	"macaddress":            {"02:00:00:00:00:01", "02:00:00:00:00:02"},
	"disable-dns":           {"true", "false"},
	"sandbox":               {"true", "auto"},
	"seccomp":               {"false", "auto"},
	"slirp4netns-path":      {"/opt/a", "/opt/b"},
	"egress":                {"log", "deny"},
	"allow":                 {"a.example:443/tcp", "10.0.0.0/8:1-2/udp"},
	"deny":                  {"a.example", "10.0.0.0/8"},
	"egress-policy":         {"/etc/a.yaml", "/etc/b.yaml"},
	"egress-record":         {"/a.yaml", "/b.yaml"},
	"upstream-proxy":        {"http://a.example:3128", "socks5://u:p@b.example:1080"},
	"fail-on-deny":          {"true", "false"},
	"preserve-fds":          {"1", "2"},
	"restart":               {"never", "on-failure"},
	"timeout":               {"1m30s", "10s"},
	"wait-netns":            {"0s", "500ms"},
	"ready-fd":              {"3", "4"},
	"exit-fd":               {"5", "6"},
	"pid-file":              {"/run/a.pid", "b.pid"},
	"dry-run":               {"true", "false"},
	"map-users":             {"true", "false"},
	"user":                  {"keep", "root"},
	"wait-listen":           {"80/tcp", "53/udp,80/tcp4"},
	"pid-namespace":         {"true", "auto"},
	"containers_conf":       {"true", "false"},
	"log-level":             {"debug", "warning"},
	"log-format":            {"json", "text"},
	"state-dir":             {"/run/a", "/run/b"},
}

// ways lists every source, the lowest first, and how key is set in it.
var ways = []struct {
	name   string
	has    func(k Key) bool
	give   func(w *world, k Key, text string) (args []string)
	source func(k Key) string
}{
	{
		"containers.conf", func(k Key) bool { return k.Podman != "" || k.Name == "slirp4netns-path" },
		func(w *world, k Key, text string) []string {
			line := fmt.Sprintf("network_cmd_options = [%q]", k.Podman+"="+text)
			if k.Name == "slirp4netns-path" {
				line = fmt.Sprintf("network_cmd_path = %q", text)
			}
			w.file("/etc/containers/containers.conf", "[engine]\n"+line+"\n").env("SLIRPCTL_CONTAINERS_CONF=true")
			return nil
		},
		func(Key) string { return "/etc/containers/containers.conf" },
	},
	{
		"system file", inFiles,
		func(w *world, k Key, text string) []string {
			w.file("/etc/slirpctl/config.toml", fmt.Sprintf("%s = %q\n", k.Name, text))
			return nil
		},
		func(Key) string { return "/etc/slirpctl/config.toml" },
	},
	{
		"user file", inFiles,
		func(w *world, k Key, text string) []string {
			w.file("/home/me/.config/slirpctl/config.json", fmt.Sprintf("{%q: %q}\n", strings.ReplaceAll(k.Name, "-", "_"), text))
			return nil
		},
		func(Key) string { return "/home/me/.config/slirpctl/config.json" },
	},
	{
		"environment", inFiles,
		func(w *world, k Key, text string) []string { w.env(k.Env() + "=" + text); return nil },
		func(k Key) string { return "environment " + k.Env() },
	},
	{
		"--network", func(k Key) bool { return k.Podman != "" },
		func(_ *world, k Key, text string) []string {
			return []string{"--network", "slirp4netns:" + k.Podman + "=" + text}
		},
		func(Key) string { return "flag --network" },
	},
	{
		"--option", func(k Key) bool { return k.Podman != "" },
		func(_ *world, k Key, text string) []string { return []string{"-o", k.Podman + "=" + text} },
		func(Key) string { return "flag --option" },
	},
	{
		"flag", func(k Key) bool { return k.Scope == ScopeUp || k.Scope == ScopeGeneral },
		func(_ *world, k Key, text string) []string {
			if k.Kind != KindList {
				return []string{"--" + k.Name + "=" + text}
			}
			var args []string
			for t := range strings.SplitSeq(text, ",") {
				args = append(args, "--"+k.Name, t)
			}
			return args
		},
		func(k Key) string { return "flag --" + k.Name },
	},
}

func inFiles(k Key) bool { return k.Scope != ScopeFlagOnly }

// Every key, in every pair of sources that support it, with both samples: the higher source wins, even
// if its value is the default.
func TestPrecedence(t *testing.T) {
	pairs := 0
	for _, k := range Keys() {
		if k.Scope == ScopeFlagOnly {
			continue
		}
		sample, ok := samples[k.Name]
		if !ok {
			t.Errorf("no samples for key %s", k.Name)
			continue
		}
		for low := range ways {
			for high := low; high < len(ways); high++ { // high == low: that source alone
				if !ways[low].has(k) || !ways[high].has(k) {
					continue
				}
				for i := range sample {
					pairs++
					w := newWorld(t).file("/etc/a.yaml", "").file("/etc/b.yaml", "")
					var args []string
					if k.Name == "outbound-addr6" {
						args = append(args, "--ipv6")
					}
					if high != low {
						args = append(args, ways[low].give(w, k, sample[i])...)
					}
					args = append(args, ways[high].give(w, k, sample[1-i])...)
					m, err := w.load(args...)
					if err != nil {
						t.Errorf("%s: %s over %s: %v", k.Name, ways[high].name, ways[low].name, err)
						continue
					}
					want := Value{k.Name, sample[1-i], ways[high].source(k)}
					if got := value(t, m, k.Name); got != want {
						t.Errorf("%s: %s over %s: got %+v, want %+v", k.Name, ways[high].name, ways[low].name, got, want)
					}
				}
			}
		}
	}
	if pairs < 500 {
		t.Errorf("only %d combinations tested", pairs)
	}
}

func TestDefaults(t *testing.T) {
	want := Options{
		PortHandler: HandlerDirect, CIDR: subnet.Default(), MTU: 65520,
		TapName: "tap0", Sandbox: Auto, Seccomp: Auto, Restart: RestartOnFailure,
		Timeout: 10 * time.Second, WaitNetns: 500 * time.Millisecond, ReadyFD: -1, ExitFD: -1,
		PIDNamespace: Auto, User: UserRoot,
	}
	if diff := cmp.Diff(want, defaults().Options, cmpAddrs); diff != "" {
		t.Error(diff)
	}
	m := newWorld(t).mustLoad()
	if diff := cmp.Diff(want, m.Options, cmpAddrs); diff != "" {
		t.Error("nothing said: ", diff)
	}
	if want := (General{"false", "warning", "text", ""}); m.General != want {
		t.Errorf("got %+v, want %+v", m.General, want)
	}
	for _, k := range Keys() {
		if k.Scope == ScopeFlagOnly {
			continue
		}
		if got, want := value(t, m, k.Name), (Value{k.Name, k.Default, SourceDefault}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if m.IsSet(k.Name) {
			t.Errorf("%s counts as set", k.Name)
		}
	}
	if _, err := Load(nil, Sources{Root: t.TempDir()}); err != nil {
		t.Errorf("no flags, no environment: %v", err)
	}
}

var cmpAddrs = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b subnet.Network) bool { return a == b }),
}

func TestAllFlagsTyped(t *testing.T) {
	m := newWorld(t).mustLoad("--name", "web", "-d", "-p", "8080:80", "-p", "53:53/tcp,udp", "-p", "auto",
		"--auto-exclude", "22", "--auto-exclude", "1-9,11", "--port-handler", "slirp4netns", "--source-ip-transparent",
		"--cidr", "10.7.0.0/16", "--mtu", "1500", "--ipv6", "--allow-host-loopback", "--outbound-addr", "eth0",
		"--outbound-addr6", "2001:db8::1", "--tap-name", "eth7", "--macaddress", "02-00-00-00-00-01", "--disable-dns",
		"--sandbox", "true", "--seccomp", "false", "--slirp4netns-path", "x", "--restart", "never", "--timeout", "3s",
		"--wait-netns", "0s", "--ready-fd", "3", "--exit-fd", "0", "--pid-file", "p", "--map-users", "--user=keep", "--wait-listen=80", "--pid-namespace=false",
		"--log-level", "warn", "--log-format", "json", "--state-dir", "/s")
	spec := func(s string) hostfwd.Spec {
		v, err := hostfwd.ParseSpec(s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	want := Options{
		Name: "web", Detach: true, Publish: []hostfwd.Spec{spec("8080:80"), spec("53:53/tcp,udp")}, PublishAuto: AutoPublish{autoHostIP, PortRange{1024, 65535}, hostfwd.MaxForwards},
		AutoExclude: []PortRange{{22, 22}, {1, 9}, {11, 11}}, PortHandler: HandlerSlirp4netns, SourceIPTransparent: true,
		CIDR: mustNetwork(t, "10.7.0.0/16"), MTU: 1500, IPv6: true, AllowHostLoopback: true,
		OutboundAddr: Outbound{Interface: "eth0"}, OutboundAddr6: Outbound{Addr: netip.MustParseAddr("2001:db8::1")},
		TapName: "eth7", MACAddress: []byte{2, 0, 0, 0, 0, 1}, DisableDNS: true, Sandbox: On, Seccomp: Off,
		Slirp4netnsPath: "x", Restart: RestartNever, Timeout: 3 * time.Second, ReadyFD: 3, ExitFD: 0, PIDFile: "p", MapUsers: true,
		PIDNamespace: Off, User: UserKeep, WaitListen: []Listen{{80, hostfwd.TCP}},
	}
	if diff := cmp.Diff(want, m.Options, cmpAddrs); diff != "" {
		t.Error(diff)
	}
	if want := (General{"false", "warning", "json", "/s"}); m.General != want {
		t.Errorf("got %+v, want %+v", m.General, want)
	}
}

func TestLists(t *testing.T) {
	w := newWorld(t).
		file("/etc/slirpctl/config.yaml", "publish: [8080:80, 90, '53:53/tcp,udp', auto]\nauto_exclude: 22\n")
	m := w.mustLoad()
	if got := value(t, m, "publish").Value; got != "auto,8080:80/tcp,0:90/tcp,53:53/tcp,udp" {
		t.Errorf("publish of a file: %s", got)
	}
	if got := value(t, m, "auto-exclude").Value; got != "22" {
		t.Errorf("auto-exclude of a file: %s", got)
	}
	w.env("SLIRPCTL_PUBLISH=1:1, 2:2/tcp,udp 3:3")
	m = w.mustLoad()
	if got := value(t, m, "publish").Value; got != "1:1/tcp,2:2/tcp,udp,3:3/tcp" {
		t.Errorf("publish of the environment: %s", got)
	}
	if m.PublishAuto.On() {
		t.Error("auto of the lower list stays")
	}
	w.file("/home/me/.config/slirpctl/config.yaml", "auto-exclude: []\n")
	m = w.mustLoad()
	if got, want := value(t, m, "auto-exclude"), (Value{"auto-exclude", "", "/home/me/.config/slirpctl/config.yaml"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func mustNetwork(t *testing.T, cidr string) subnet.Network {
	t.Helper()
	n, err := subnet.Parse(cidr)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEnvironment(t *testing.T) {
	m := newWorld(t).env("SLIRPCTL_MTU=", "SLIRPCTL_IPV6=1", "SLIRPCTL_VERSION=1.2", "SLIRPCTL_BIN=/x", "SLIRP_GUEST=y").mustLoad()
	if m.IsSet("mtu") || !m.IPv6 {
		t.Errorf("got %+v", m.Options)
	}
	newWorld(t).env("SLIRPCTL_MTU=x").fails(`environment SLIRPCTL_MTU: "x": not a whole number`, "")
}

// TestUnknownVariables: a variable that names no key is a warning with the nearest key, never an error,
// because users have variables of their own with such names.
func TestUnknownVariables(t *testing.T) {
	for variable, want := range map[string]string{
		"SANDBX=true":     "unknown key; did you mean SLIRPCTL_SANDBOX?",
		"ENABLE_IPV6=1":   "unknown key; did you mean SLIRPCTL_IPV6?",
		"MTUU=9":          "unknown key; did you mean SLIRPCTL_MTU?",
		"CONFIGS=9":       "unknown key; did you mean SLIRPCTL_CONFIG?",
		"mtu=1500":        "can only be set by a flag: use --mtu",
		"NETWORK=n":       "can only be set by a flag: use --network",
		"VERSION=1.2":     "unknown key",
		"BIN=/x":          "unknown key",
		"A\x1bB=1":        "unknown key",
		"INSTANCE=web":    "",
		"TEST_USER=x":     "",
		"ACTIVE_HELP=0":   "",
		"DRY_RUN=true":    "",
		"CONFIG=/c.yaml":  "",
		"VERSION=":        "",
		"CONTAINERS_CONF": "",
	} {
		name, _, _ := strings.Cut(variable, "=")
		got := newWorld(t).file("/c.yaml", "").env("SLIRPCTL_"+variable, "SLIRP_GUEST=y").mustLoad().Warnings
		if want == "" && len(got) == 0 {
			continue
		}
		if want = plaintext.Line("environment SLIRPCTL_" + name + ": ignored, " + want); len(got) != 1 || got[0] != want {
			t.Errorf("SLIRPCTL_%s: got %q, want %q", variable, got, want)
		}
	}
}

// TestDryRunIsAKey: dry-run is a key like every other flag.
func TestDryRunIsAKey(t *testing.T) {
	if m := newWorld(t).env("SLIRPCTL_DRY_RUN=true").mustLoad(); !m.DryRun {
		t.Error("the variable is ignored")
	}
	if m := newWorld(t).env("SLIRPCTL_DRY_RUN=true").mustLoad("--dry-run=false"); m.DryRun {
		t.Error("the flag does not win")
	}
	if m := newWorld(t).file(userDir+"config.yaml", "dry-run: true").mustLoad(); !m.DryRun {
		t.Error("the key of the file is ignored")
	}
	newWorld(t).env("SLIRPCTL_DRY_RUN=yes").fails(`environment SLIRPCTL_DRY_RUN: "yes": neither true nor false`, "")
}

// TestPipeIsReadOnce: a pipe can be read only once, and a second Load of the same sources (for a
// container, after its annotations are known) has the same result.
func TestPipeIsReadOnce(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("mtu: 1400"); err != nil {
		t.Fatal(err)
	}
	w.Close()
	src := SystemSources()
	src.Environ = nil
	fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
	AddGeneralFlags(fs)
	if err := fs.Parse([]string{fmt.Sprintf("--config=/dev/fd/%d", r.Fd())}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if m, err := Load(fs, src); err != nil || m.MTU != 1400 {
			t.Fatalf("MTU %d, %v", m.MTU, err)
		}
		src.Annotations = map[string]string{AnnotationOptions: "ipv6=true"}
	}
}

// A command with other flags of its own, or none, still gets the rest.
func TestForeignFlagSet(t *testing.T) {
	w := newWorld(t).env("SLIRPCTL_LOG_FORMAT=json").file("/c.yaml", "mtu: 1400")
	fs := pflag.NewFlagSet("list", pflag.ContinueOnError)
	fs.String("state-dir", "", "")
	fs.String("config", "", "")
	if err := fs.Parse([]string{"--state-dir=/x", "--config=/c.yaml"}); err != nil {
		t.Fatal(err)
	}
	m, err := Load(fs, w.src)
	if err != nil {
		t.Fatal(err)
	}
	if m.StateDir != "/x" || m.LogFormat != "json" || m.MTU != 1400 {
		t.Errorf("got %+v", m)
	}
}

func TestUsage(t *testing.T) {
	fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
	AddFlags(fs)
	usage := fs.FlagUsages()
	for _, want := range []string{"-d, --detach ", "-p, --publish SPEC", "--mtu BYTES", "(default 65520)", "-o, --option K=V", "--ipv6 "} {
		if !strings.Contains(usage, want) {
			t.Errorf("usage lacks %q:\n%s", want, usage)
		}
	}
	for _, k := range Keys() {
		if k.Usage == "" || strings.HasSuffix(k.Usage, ".") {
			t.Errorf("%s: usage %q", k.Name, k.Usage)
		}
		if k.Arg != "" && !strings.Contains(k.Usage, "`"+k.Arg+"`") && k.Scope != ScopeNoFlag {
			t.Errorf("%s: usage %q does not name %s", k.Name, k.Usage, k.Arg)
		}
	}
}
