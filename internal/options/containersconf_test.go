package options

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const engineMTU = "[engine]\nnetwork_cmd_options = ['mtu="

func TestContainersConfIsReadOnlyOnRequest(t *testing.T) {
	w := newWorld(t).file("/etc/containers/containers.conf", "not even TOML")
	w.mustLoad()
	w.env("SLIRPCTL_CONTAINERS_CONF=false").mustLoad()
}

// The search order is Podman's: each file here overrides the ones before it.
func TestContainersConfOrder(t *testing.T) {
	w := newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=true")
	for i, path := range []string{
		"/usr/share/containers/containers.conf",
		"/etc/containers/containers.conf",
		"/etc/containers/containers.conf.d/10-a.conf",
		"/etc/containers/containers.conf.d/20-b.conf",
		"/home/me/.config/containers/containers.conf",
		"/home/me/.config/containers/containers.conf.d/a.conf",
	} {
		mtu := []string{"1001", "1002", "1003", "1004", "1005", "1006"}[i]
		w.file(path, engineMTU+mtu+"']\n")
		w.file(filepath.Dir(path)+"/ignored.txt", "]")
		if got, want := value(t, w.mustLoad(), "mtu"), (Value{"mtu", mtu, path}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	w.file("/only.conf", engineMTU+"1007']").env("CONTAINERS_CONF=/only.conf")
	if got := w.mustLoad().MTU; got != 1007 {
		t.Errorf("CONTAINERS_CONF: MTU %d", got)
	}
	w.file("/over.conf", engineMTU+"1008']").env("CONTAINERS_CONF_OVERRIDE=/over.conf")
	if got := w.mustLoad().MTU; got != 1008 {
		t.Errorf("CONTAINERS_CONF_OVERRIDE: MTU %d", got)
	}
}

func TestContainersConfContent(t *testing.T) {
	w := newWorld(t).file("/home/me/.config/slirpctl/config.yaml", "containers_conf: /c.conf\n")
	w.file("/c.conf", `
[containers]
dns_servers = ["192.0.2.1"]
[engine]
network_cmd_path = "/opt/slirp4netns"
network_cmd_options = ["mtu=1500", "enable_ipv6=true", "mtu=1400"]
[engine.runtimes]
crun = ["/usr/bin/crun"]
`)
	m := w.mustLoad()
	if m.MTU != 1400 || !m.IPv6 || m.Slirp4netnsPath != "/opt/slirp4netns" {
		t.Errorf("got %+v", m.Options)
	}
	if m = w.mustLoad("--network", "slirp4netns:enable_ipv6=false"); m.IPv6 {
		t.Error("the engine's options win over --network")
	}
}

func TestContainersConfAppend(t *testing.T) {
	w := newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=true").
		file("/usr/share/containers/containers.conf", engineMTU+"1500', 'enable_ipv6=true']").
		file("/etc/containers/containers.conf", "[engine]\nnetwork_cmd_options = ['mtu=1400', {append=true}]")
	if m := w.mustLoad(); m.MTU != 1400 || !m.IPv6 {
		t.Errorf("appended: got %+v", m.Options)
	}
	w.file("/etc/containers/containers.conf", engineMTU+"1400']")
	if m := w.mustLoad(); m.MTU != 1400 || m.IPv6 {
		t.Errorf("replaced: got %+v", m.Options)
	}
}

// TestContainersConfNoPivotRoot: Podman then omits the sandbox; slirpctl does too, with a warning.
func TestContainersConfNoPivotRoot(t *testing.T) {
	w := newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=/c.conf").file("/c.conf", "[engine]\nno_pivot_root = true\n")
	warned := []string{"/c.conf: no_pivot_root: slirp4netns runs without its sandbox"}
	if m := w.mustLoad(); m.Sandbox != Off || !slices.Equal(m.UpWarnings, warned) {
		t.Errorf("sandbox %s, warnings %q", m.Sandbox, m.UpWarnings)
	}
	if m := w.mustLoad("--sandbox=true"); m.Sandbox != On || m.UpWarnings != nil {
		t.Errorf("--sandbox=true: sandbox %s, warnings %q", m.Sandbox, m.UpWarnings)
	}
	if m := w.mustLoad("--sandbox=auto"); m.Sandbox != Auto || m.UpWarnings != nil {
		t.Errorf("--sandbox=auto: sandbox %s, warnings %q", m.Sandbox, m.UpWarnings)
	}
	w.file("/over.conf", "[engine]\nno_pivot_root = false\n").env("SLIRPCTL_CONTAINERS_CONF=true", "CONTAINERS_CONF=/c.conf", "CONTAINERS_CONF_OVERRIDE=/over.conf")
	if m := w.mustLoad(); m.Sandbox != Auto || m.UpWarnings != nil {
		t.Errorf("overridden: sandbox %s, warnings %q", m.Sandbox, m.UpWarnings)
	}
}

// TestContainersConfHelperBinaries: slirp4netns is searched in helper_binaries_dir, unless
// network_cmd_path names it.
func TestContainersConfHelperBinaries(t *testing.T) {
	w := newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=/c.conf").
		file("/c.conf", "[engine]\nhelper_binaries_dir = ['/none', 'relative', '/plain', '/a', '/b']\n").
		file("/plain/slirp4netns", "").file("/a/slirp4netns", "").file("/b/slirp4netns", "").file("relative/slirp4netns", "")
	for _, dir := range []string{"a", "b", "relative"} {
		if err := os.Chmod(filepath.Join(w.src.Root, dir, "slirp4netns"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m := w.mustLoad()
	if got, want := value(t, m, "slirp4netns-path"), (Value{"slirp4netns-path", "/a/slirp4netns", "/c.conf"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := w.mustLoad("--slirp4netns-path=/own").Slirp4netnsPath; got != "/own" {
		t.Errorf("got %s", got)
	}
	w.file("/c.conf", "[engine]\nhelper_binaries_dir = ['/a']\nnetwork_cmd_path = '/named'\n")
	if got := w.mustLoad().Slirp4netnsPath; got != "/named" {
		t.Errorf("network_cmd_path: got %s", got)
	}
	w.file("/c.conf", "[engine]\nhelper_binaries_dir = ['/none']\n")
	if m := w.mustLoad(); m.IsSet("slirp4netns-path") {
		t.Errorf("found nowhere: got %s", m.Slirp4netnsPath)
	}
}

func TestContainersConfErrors(t *testing.T) {
	for _, tc := range []struct{ content, want, hint string }{
		{"[engine", "/c.conf:1: not TOML: ", ""},
		{"engine = 5", "/c.conf:1: engine: wrong type: not a table", ""},
		{"[engine]\nnetwork_cmd_path = 5", "/c.conf:2: network_cmd_path: wrong type: not text", ""},
		{"[engine]\nno_pivot_root = 'true'", "/c.conf:2: no_pivot_root: wrong type: not true or false", ""},
		{"[engine]\nhelper_binaries_dir = '/x'", "/c.conf:2: helper_binaries_dir: wrong type: not a list", ""},
		{"[engine]\nhelper_binaries_dir = [5]", "/c.conf:2: helper_binaries_dir: wrong type: not a list of directories", ""},
		{"[engine]\nnetwork_cmd_options = 'mtu=5'", "/c.conf:2: network_cmd_options: wrong type: not a list", ""},
		{"[engine]\nnetwork_cmd_options = [5]", "/c.conf:2: network_cmd_options: wrong type: not a list of K=V", ""},
		{"[engine]\nnetwork_cmd_options = [{append='x'}]", "/c.conf:2: network_cmd_options: wrong type: not a list of K=V", ""},
		{"[engine]\nnetwork_cmd_options = ['mut=5']", `/c.conf: mut: "5": unknown option`, "did you mean mtu?"},
		{"[engine]\nnetwork_cmd_options = ['mtu']", `/c.conf: "mtu": an option without =`, "write K=V"},
		{"[engine]\nnetwork_cmd_options = ['mtu=5']", `/c.conf: mtu: "5": less than 68`, ""},
	} {
		w := newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=/c.conf").file("/c.conf", tc.content)
		_, err := w.load()
		e, ok := err.(*Error)
		if !ok {
			t.Errorf("%s: got %v, want an *Error", tc.content, err)
			continue
		}
		if got := e.Error(); got != tc.want && (tc.content != "[engine" || got[:len(tc.want)] != tc.want) {
			t.Errorf("%s: got %s, want %s", tc.content, got, tc.want)
		}
		if e.Help != tc.hint {
			t.Errorf("%s: hint: got %s, want %s", tc.content, e.Help, tc.hint)
		}
	}
	newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=/none").
		fails(`environment SLIRPCTL_CONTAINERS_CONF: "/none": can't be read: no such file or directory`, "")
	newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=true", "CONTAINERS_CONF=/none").
		fails(`environment SLIRPCTL_CONTAINERS_CONF: "true": /none can't be read: no such file or directory`, "")
	w := newWorld(t).env("SLIRPCTL_CONTAINERS_CONF=true")
	if err := os.MkdirAll(filepath.Join(w.src.Root, "/etc/containers/containers.conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.fails(`environment SLIRPCTL_CONTAINERS_CONF: "true": /etc/containers/containers.conf can't be read: is a directory`, "")
}
