package probe

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// goodEnv is a host where an ordinary user can do everything.
func goodEnv(files map[string]string) *Env {
	fsys := fstest.MapFS{
		"etc/resolv.conf":        {Data: []byte("nameserver 192.0.2.53\n")},
		"etc/subuid":             {Data: []byte("ann:100000:65536\n")},
		"etc/subgid":             {Data: []byte("1000:100000:65536\n")},
		"run/user/1000/slirpctl": {Mode: fs.ModeDir | 0o700},
		"dev/net/tun":            {Mode: fs.ModeDevice | 0o666},
		"proc/net/route":         {Data: []byte("Iface\tDestination\n")},
		"proc/sys/net/ipv4/ip_unprivileged_port_start":          {Data: []byte("1024\n")},
		"proc/sys/net/ipv4/tcp_rmem":                            {Data: []byte("4096\t87380\t6291456\n")},
		"proc/sys/kernel/seccomp/actions_avail":                 {Data: []byte("allow\n")},
		"proc/sys/user/max_user_namespaces":                     {Data: []byte("15000\n")},
		"proc/sys/kernel/unprivileged_userns_clone":             {Data: []byte("1\n")},
		"proc/sys/net/ipv4/ping_group_range":                    {Data: []byte("0\t2147483647\n")},
		"proc/self/status":                                      {Data: []byte("Name:\tx\nSeccomp:\t0\n")},
		"proc/sys/kernel/apparmor_restrict_unprivileged_userns": {Data: []byte("0\n")},
	}
	for name, text := range files {
		if text == "" {
			delete(fsys, name)
			continue
		}
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return &Env{
		FS: fsys, UID: 1000, User: "ann", StateDir: "/run/user/1000/slirpctl", CIDR: subnet.Default(),
		LookPath:   func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Addresses:  func() ([]Route, error) { return nil, nil },
		Output:     func(context.Context, string, ...string) (string, error) { return "nsenter from util-linux 2.40\n", nil },
		HasCap:     func(int) bool { return false },
		PingSocket: func() error { return nil },
		TrySocket:  func(string) error { return nil },
		TryMaps:    func(context.Context, []string, []string) error { return nil },
		TryChild:   func(context.Context, ChildKind) (Trial, error) { return Trial{}, nil },
	}
}

func TestHostAllWell(t *testing.T) {
	results := host(t.Context(), goodEnv(nil))
	var names []string
	for _, r := range results {
		names = append(names, r.Name)
		if r.Status != OK || r.Reason == "" {
			t.Errorf("%+v", r)
		}
	}
	if !slices.Equal(names, Names()) {
		t.Errorf("got %v, want %v", names, Names())
	}
}

// A host that has nothing at all, and one where everything hangs, still get an answer.
func TestHostWithNothing(t *testing.T) {
	env := goodEnv(nil)
	env.FS = fstest.MapFS{}
	env.LookPath = func(string) (string, error) { return "", exec.ErrNotFound }
	env.PingSocket = func() error { return unix.EAFNOSUPPORT }
	env.TrySocket = func(string) error { return unix.EROFS }
	env.TryChild = func(context.Context, ChildKind) (Trial, error) { return Trial{}, unix.ENOSYS }
	env.TryCalls = func(context.Context) ([]Denied, error) { return nil, unix.ENOSYS }
	for _, r := range host(t.Context(), env) {
		if r.Reason == "" || r.Status == OK && r.Name != "proc" { // which exists on the real host
			t.Errorf("%+v", r)
		}
	}
}

func TestRunIsBounded(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	r := namedCheck{name: "stuck", check: func(context.Context, *Env) Result {
		<-release
		return Result{}
	}}.run(t.Context(), goodEnv(nil))
	if r.Name != "stuck" || r.Status != Unknown || !strings.Contains(r.Reason, "no answer") {
		t.Errorf("got %+v", r)
	}
}

func TestRunSurvivesAPanic(t *testing.T) {
	r := namedCheck{name: "mad", check: func(context.Context, *Env) Result { panic("ouch") }}.run(t.Context(), goodEnv(nil))
	if r.Name != "mad" || r.Status != Unknown || !strings.Contains(r.Reason, "ouch") {
		t.Errorf("got %+v", r)
	}
}

// TestUnused: a finding about what the options don't use is no problem, unless it is required; any other is.
func TestUnused(t *testing.T) {
	for _, c := range checks() {
		bad := c
		bad.check = func(context.Context, *Env) Result { return warning("mend it", "it is bad") }
		for _, tc := range []struct {
			name     string
			options  *options.Options
			required []string
			used     bool
		}{
			{"no options", nil, nil, true},
			{
				"defaults", &options.Options{Sandbox: options.Auto, Seccomp: options.Auto, PortHandler: options.HandlerDirect}, nil,
				!slices.Contains([]string{"egress-rules", "nsenter", "id-map-tools", "subid-ranges", "netem", "tcp-rmem"}, c.name),
			},
			{"required", &options.Options{}, []string{c.name}, true},
			{"others required", &options.Options{Sandbox: options.Off, Seccomp: options.Off}, []string{"proc"}, c.used == nil},
			{"everything", &options.Options{MapUsers: true, PortHandler: options.HandlerSlirp4netns, Egress: options.Egress{Mode: egress.Log}}, nil, c.name != "nsenter" && c.name != "netem"},
		} {
			env := goodEnv(nil)
			env.Options, env.Required = tc.options, tc.required
			r := bad.run(t.Context(), env)
			want := Result{Name: c.name, Status: OK, Reason: "not used: it is bad"}
			if tc.used {
				want = Result{Name: c.name, Status: Warning, Reason: "it is bad", Remedy: "mend it"}
			}
			if r != want {
				t.Errorf("%s, %s: %+v, want %+v", c.name, tc.name, r, want)
			}
		}
	}
}

// Cases that this kernel can't be made to show.
func TestChecksOnOtherHosts(t *testing.T) {
	fails := func(errno error) func(*Env) {
		return func(e *Env) {
			e.TryChild = func(context.Context, ChildKind) (Trial, error) { return Trial{}, errno }
		}
	}
	finds := func(trial Trial) func(*Env) {
		return func(e *Env) {
			e.TryChild = func(context.Context, ChildKind) (Trial, error) { return trial, nil }
		}
	}
	only := func(kinds ...ChildKind) func(*Env) {
		return func(e *Env) {
			e.TryChild = func(_ context.Context, k ChildKind) (Trial, error) {
				if slices.Contains(kinds, k) {
					return Trial{}, nil
				}
				return Trial{}, unix.EPERM
			}
		}
	}
	root := func(also func(*Env)) func(*Env) {
		return func(e *Env) { e.UID, e.User = 0, "root"; also(e) }
	}
	tools := func(have ...string) func(*Env) {
		return func(e *Env) {
			e.LookPath = func(name string) (string, error) {
				if slices.Contains(have, name) {
					return "/usr/bin/" + name, nil
				}
				return "", exec.ErrNotFound
			}
		}
	}
	none := func(*Env) {}
	for _, tc := range []struct {
		name   string
		check  check
		files  map[string]string
		change func(*Env)
		status Status
		reason string
		remedy string
	}{
		{"Debian's switch", userNamespaces, map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, fails(unix.EPERM), Failed, "kernel.unprivileged_userns_clone=0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{"Debian's switch, root without capabilities", userNamespaces, map[string]string{"proc/sys/kernel/unprivileged_userns_clone": "0\n"}, root(fails(unix.EPERM)), Warning, "kernel.unprivileged_userns_clone=0", "sysctl -w"},
		{"Ubuntu's AppArmor", userNamespaces, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, only(UserOnly), Failed, "AppArmor", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{"Ubuntu's AppArmor with a profile for us", userNamespaces, map[string]string{"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, none, OK, "was made", ""},
		{"another security module", userNamespaces, nil, only(UserOnly), Failed, "no network namespace in it", "dmesg"},
		{"not built in", userNamespaces, nil, fails(unix.EINVAL), Failed, "built without", ""},
		{"nested too deep", userNamespaces, nil, fails(unix.ENOSPC), Failed, "limit", "user.max_user_namespaces="},
		{"in a container", userNamespaces, map[string]string{"run/.containerenv": "x"}, fails(unix.EPERM), Failed, "container", "seccomp=unconfined"},
		{"under a filter", userNamespaces, map[string]string{"proc/self/status": "Seccomp:\t2\n"}, fails(unix.EPERM), Failed, "filter", "seccomp=unconfined"},
		{"module or chroot", userNamespaces, nil, fails(unix.EPERM), Failed, "perhaps because of a security module", "dmesg"},
		{"chroot", userNamespaces, map[string]string{"proc/self/mountinfo": "25 1 0:23 / /proc rw - proc proc rw\n"}, fails(unix.EPERM), Failed, "in a chroot", ""},
		{"unmapped user", userNamespaces, map[string]string{"proc/self/uid_map": "         0          0          1\n"}, fails(unix.EPERM), Failed, "user id is not mapped", "--map-root-user"},
		{"unmapped group", userNamespaces, map[string]string{"proc/self/gid_map": "\n"}, fails(unix.EPERM), Failed, "group id is not mapped", "--map-root-user"},
		{"mapped", userNamespaces, map[string]string{"proc/self/uid_map": "0 0 1\n1 100000 65536\n"}, fails(unix.EPERM), Failed, "perhaps because of a security module", ""},
		{"no CAP_SETFCAP", userNamespaces, nil, func(e *Env) { fails(unix.EPERM)(e); e.UID = 0 }, Warning, "CAP_SETFCAP", "--cap-add SETFCAP"},
		{"filter", userNamespaces, nil, func(e *Env) {
			e.TryCalls = func(context.Context) ([]Denied, error) { return []Denied{{"setns", unix.EPERM}}, nil }
		}, Failed, "filter (seccomp) forbids setns", ""},
		{"old kernel", userNamespaces, nil, func(e *Env) {
			e.TryCalls = func(context.Context) ([]Denied, error) { return []Denied{{"pidfd_open", unix.ENOSYS}}, nil }
		}, Failed, "this kernel has no pidfd_open", ""},
		{"filter of what up can do without", userNamespaces, nil, func(e *Env) {
			e.TryCalls = func(context.Context) ([]Denied, error) { return []Denied{{"pidfd_getfd", unix.EPERM}}, nil }
		}, OK, "was made", ""},
		{"never ends", userNamespaces, nil, fails(context.DeadlineExceeded), Unknown, "did not end", ""},

		{"missing", tunDevice, nil, finds(Trial{TunOpen: unix.ENOENT}), Failed, "missing", "mknod -m 0666 /dev/net/tun c 10 200"},
		{"missing in a container", tunDevice, map[string]string{".dockerenv": "x"}, finds(Trial{TunOpen: unix.ENOENT}), Failed, "missing", "--device /dev/net/tun"},
		{"missing, no namespace", tunDevice, map[string]string{"dev/net/tun": ""}, fails(unix.EPERM), Failed, "missing", "mknod"},
		{"there, no namespace", tunDevice, nil, fails(unix.EPERM), Unknown, "no namespace", ""},
		{"mode", tunDevice, nil, finds(Trial{TunOpen: unix.EACCES}), Failed, "denied", "chmod"},
		{"device cgroup", tunDevice, nil, finds(Trial{TunOpen: unix.EPERM}), Failed, "denied", "DeviceAllow"},
		{"device cgroup of a container", tunDevice, map[string]string{".dockerenv": "x"}, finds(Trial{TunOpen: unix.EPERM}), Failed, "denied", "--device"},
		{"ENODEV", tunDevice, nil, finds(Trial{TunOpen: unix.ENODEV}), Failed, "no driver", "sudo modprobe tun"},
		{"ENXIO", tunDevice, nil, finds(Trial{TunOpen: unix.ENXIO}), Failed, "no driver", "sudo modprobe tun"},
		{"out of memory", tunDevice, nil, finds(Trial{TunOpen: unix.ENOMEM}), Failed, "can't be opened", ""},
		{"no tap allowed", tunDevice, nil, finds(Trial{TunAttach: unix.EPERM}), Failed, "denied", "dmesg"},
		{"tap fails", tunDevice, nil, finds(Trial{TunAttach: unix.ENOBUFS}), Failed, "no tap", ""},
		{"root tries without a user namespace", tunDevice, nil, root(only(Privileged)), OK, "a tap made", ""},
		{"root in a container tries with one", tunDevice, nil, root(only(Rootless)), OK, "a tap made", ""},

		{"no netem", netem, nil, finds(Trial{Netem: unix.ENOENT}), Failed, "the kernel has no netem", "sudo modprobe sch_netem"},
		{"netem", netem, nil, finds(Trial{Netem: unix.EINVAL}), OK, "latency and loss", ""},
		{"netem not tried", netem, nil, finds(Trial{Netem: unix.EPERM}), Unknown, "operation not permitted", ""},
		{"no nftables", egressRules, nil, finds(Trial{Redirect: "no such file"}), Failed, "nftables: no such file", "modprobe"},
		{"one tap only", egressRules, nil, finds(Trial{TunSecond: unix.EBUSY}), Warning, "no second tap", ""},
		{"no tap for egress", egressRules, nil, finds(Trial{TunOpen: unix.ENOENT}), Warning, "see tun-device", ""},
		{"no filter for egress", egressRules, nil, finds(Trial{Seccomp: unix.ENOSYS}), Warning, "refused a system call filter", ""},
		{"pivot_root", sandbox, nil, finds(Trial{Sandbox: unix.EINVAL, SandboxStep: "pivot_root"}), Warning, "pivot_root: invalid argument", "SLIRPCTL_SANDBOX=false"},
		{"no seccomp", seccomp, nil, finds(Trial{Seccomp: unix.ENOSYS}), Warning, "refused a filter", "SLIRPCTL_SECCOMP=false"},
		{"seccomp, no namespace", seccomp, nil, fails(unix.EPERM), OK, "supported by the kernel", ""},
		{"neither", seccomp, map[string]string{"proc/sys/kernel/seccomp/actions_avail": ""}, fails(unix.EPERM), Unknown, "no namespace", ""},

		{"disk full", runtimeDirectory, nil, func(e *Env) { e.TrySocket = func(string) error { return unix.ENOSPC } }, Failed, "no space", "df -h /run/user/1000/slirpctl"},
		{"root's way out", runtimeDirectory, nil, root(func(e *Env) { e.TrySocket = func(string) error { return unix.EROFS } }), Failed, "read-only", "--state-dir"},

		{"no routes file", cidrOverlap, map[string]string{"proc/net/route": ""}, none, Unknown, "can't read", ""},

		{"BusyBox nsenter", nsenter, nil, func(e *Env) {
			e.Output = func(context.Context, string, ...string) (string, error) {
				return "nsenter: unrecognized option '--version'\nBusyBox v1.36", errors.New("exit status 1")
			}
		}, OK, "/usr/bin/nsenter", ""},
		{"broken nsenter", nsenter, nil, func(e *Env) {
			e.Output = func(context.Context, string, ...string) (string, error) { return "", errors.New("exit status 127") }
		}, Warning, "exit status 127", ""},
		{"nsenter on Alpine", nsenter, nil, tools("apk"), Warning, "not on PATH", "sudo apk add util-linux-misc"},

		{"newgidmap on Fedora", idMapTools, nil, tools("newuidmap", "dnf"), Warning, "newgidmap is not on PATH", "sudo dnf install shadow-utils"},
		{"newuidmap on Debian", idMapTools, nil, tools("apt-get"), Warning, "newuidmap is not on PATH", "sudo apt-get install uidmap"},
		{"no subgid", subIDRanges, map[string]string{"etc/subgid": ""}, none, Warning, "/etc/subgid has no range for ann", "--add-subgids 165536-231071 ann"},
		{"others have ranges", subIDRanges, map[string]string{"etc/subuid": "bob:100000:65536\neve:500000:65536\n"}, none, Warning, "/etc/subuid has no range for ann", "--add-subuids 565536-631071"},
		{"empty range", subIDRanges, map[string]string{"etc/subuid": "ann:100000:0\n#ann:1:2\nann:x:y\n"}, none, Warning, "/etc/subuid has no range", ""},
		{"by number", subIDRanges, map[string]string{"etc/subuid": "1000:100000:10\nann:5000000:5\n"}, none, OK, "15 user and 65536 group", ""},

		{"no ICMP sockets", pingGroupRange, nil, func(e *Env) { e.PingSocket = func() error { return unix.EPROTONOSUPPORT } }, Unknown, "no ICMP socket", ""},
		{"odd port start", unprivilegedPorts, map[string]string{"proc/sys/net/ipv4/ip_unprivileged_port_start": "x"}, none, Unknown, "x", ""},
		{"odd tcp_rmem", tcpRmem, map[string]string{"proc/sys/net/ipv4/tcp_rmem": "1 2"}, none, Unknown, "can't read", ""},
		{"no tcp_rmem", tcpRmem, map[string]string{"proc/sys/net/ipv4/tcp_rmem": ""}, none, Unknown, "can't read", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := goodEnv(tc.files)
			tc.change(env)
			r := tc.check(t.Context(), env)
			if r.Status != tc.status || !strings.Contains(r.Reason, tc.reason) || !strings.Contains(r.Remedy, tc.remedy) {
				t.Errorf("got %+v, want %s with %q and %q", r, tc.status, tc.reason, tc.remedy)
			}
			if env.UID == 0 && strings.Contains(r.Remedy, "sudo") {
				t.Errorf("root is told to use sudo: %s", r.Remedy)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	broken := func(change func(*Env)) *Env {
		env := goodEnv(nil)
		change(env)
		return env
	}
	tun := broken(func(e *Env) {
		e.TryChild = func(context.Context, ChildKind) (Trial, error) { return Trial{TunOpen: unix.EACCES}, nil }
	})
	sandbox := broken(func(e *Env) {
		e.TryChild = func(context.Context, ChildKind) (Trial, error) {
			return Trial{Sandbox: unix.EPERM, SandboxStep: "pivot_root"}, nil
		}
	})
	for _, tc := range []struct {
		env  *Env
		asks string
		want string // a check's name; "" for none
		hint string
	}{
		{tun, "tun-device", "tun-device", "tun-device: denied: /dev/net/tun can't be opened by ann (permission denied); try: sudo chmod 0666 /dev/net/tun"},
		{tun, "seccomp tun-device", "tun-device", ""},
		{sandbox, "sandbox", "sandbox", "sandbox: slirp4netns's sandbox can't work here: pivot_root: operation not permitted; try: export SLIRPCTL_SANDBOX=false"},
		{goodEnv(nil), "tun-device", "", ""}, // it works now
		{tun, "nonsense", "", ""},
		{tun, "", "", ""},
	} {
		r, ok := Explain(t.Context(), tc.env, strings.Fields(tc.asks)...)
		if ok != (tc.want != "") || r.Name != tc.want || tc.hint != "" && r.Hint() != tc.hint {
			t.Errorf("%q: got %q, %+v, %v", tc.asks, r.Hint(), r, ok)
		}
	}
}

func TestFollow(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"etc/static", "run/systemd/resolve", "var", "mnt/wsl", "nix/store"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"run/systemd/resolve/stub-resolv.conf", "mnt/wsl/resolv.conf", "etc/static/plain", "nix/store/r"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte("nameserver 127.0.0.53\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{
		"var/run":      "/run",
		"mnt/link":     "/run/systemd/resolve/stub-resolv.conf",
		"etc/a":        "b",
		"etc/b":        "/etc/a",
		"etc/nix":      "static/r",
		"etc/static/r": "/nix/store/r",
	} {
		if err := os.Symlink(to, filepath.Join(root, from)); err != nil {
			t.Fatal(err)
		}
	}
	binary := func(version, features string) launcher.Binary {
		return launcher.Binary{Version: launcher.Version{Version: version}, Features: launcher.ParseFeatures(features)}
	}
	old, fixed, odd, newer := binary("1.2.0", ""), binary("1.2.1", ""), launcher.Binary{}, binary("", "--netns-type=TYPE [path|pid|tapfd]")
	type broken struct{ old, fixed, odd, known bool } // known for odd
	fine, always, file := broken{known: true}, broken{true, true, true, true}, broken{old: true, odd: true}
	for _, tc := range []struct {
		to     string // "" for a plain file
		final  string
		err    error
		escape string
		broken broken
		status Status // of the check with 1.2.0
	}{
		{"", "/etc/resolv.conf", nil, "", fine, OK},
		{"../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf", nil, "", fine, OK},
		{"/etc/static/plain", "/etc/static/plain", nil, "", fine, OK},
		{"../../../../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf", nil, "", fine, OK},
		{"/var/run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf", nil, "/var/run", always, Warning},
		{"/mnt/link", "/run/systemd/resolve/stub-resolv.conf", nil, "/mnt/link", always, Warning},
		{"/mnt/wsl/resolv.conf", "/mnt/wsl/resolv.conf", nil, "/mnt/wsl/resolv.conf", file, Warning},
		{"nix", "/nix/store/r", nil, "/nix/store/r", file, Warning},
		{"nowhere", "/etc/nowhere", fs.ErrNotExist, "", fine, Warning},
		{"/run/none/at/all", "/run/none/at/all", fs.ErrNotExist, "", fine, Warning},
		{"a", "", launcher.ErrLinkLoop, "", fine, Warning},
		{"resolv.conf", "", launcher.ErrLinkLoop, "", fine, Warning},
	} {
		path := filepath.Join(root, "etc/resolv.conf")
		_ = os.Remove(path)
		var err error
		if tc.to == "" {
			err = os.WriteFile(path, []byte("nameserver 192.0.2.1\n"), 0o644)
		} else {
			err = os.Symlink(tc.to, path)
		}
		if err != nil {
			t.Fatal(err)
		}
		fsys := os.DirFS(root)
		c := launcher.Follow(fsys, "/etc/resolv.conf")
		if !errors.Is(c.Err, tc.err) || tc.final != "" && c.Final != tc.final {
			t.Errorf("%q: ends at %s, %v", tc.to, c.Final, c.Err)
		}
		var b broken
		b.old, _ = c.BreaksSandboxDNS(old)
		b.fixed, _ = c.BreaksSandboxDNS(fixed)
		b.odd, b.known = c.BreaksSandboxDNS(odd)
		// The version was not given, but a feature shows that it is recent enough.
		if breaks, known := c.BreaksSandboxDNS(newer); tc.err == nil && (breaks != tc.broken.fixed || !known) {
			t.Errorf("%q: broken %v, %v with 1.3.0's features", tc.to, breaks, known)
		}
		if tc.err == nil && (c.Escape().Path != tc.escape || b != tc.broken) {
			t.Errorf("%q: leaves at %+v, broken %+v", tc.to, c.Escape(), b)
		}
		env := goodEnv(nil)
		env.FS, env.Slirp4netns = fsys, &old
		if r := resolvConf(t.Context(), env); r.Status != tc.status {
			t.Errorf("%q: %+v", tc.to, r)
		}
	}
}

func TestParseRoutes(t *testing.T) {
	const text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" +
		"eth1\t0000000A\t00000000\t0000\t0\t0\t0\t000000FF\t0\t0\t0\n" + // down
		"tun0\t0100000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n" +
		"odd\tXYZ\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0\nshort\t0\n\n"
	want := []Route{
		{netip.MustParsePrefix("0.0.0.0/0"), "eth0"},
		{netip.MustParsePrefix("192.0.2.0/24"), "eth0"},
		{netip.MustParsePrefix("10.0.0.1/32"), "tun0"},
	}
	if got := parseRoutes(text); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzParseRoutes(f *testing.F) {
	f.Add("eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range parseRoutes(text) {
			if !r.To.IsValid() || r.To != r.To.Masked() {
				t.Errorf("%q: %v", text, r)
			}
		}
	})
}
