package options

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const userDir = "/home/me/.config/slirpctl/"

func TestFileFormats(t *testing.T) {
	for path, content := range map[string]string{
		"config.yaml": "mtu: 1500\nport_handler: direct\nipv6: true\npublish:\n  - 8080:80\nsandbox: false\nmacaddress: 02:10:20:30:40:50\n",
		"config.yml":  "mtu: '1500'\nport-handler: direct\nipv6: \"true\"\npublish: 8080:80\nsandbox: \"false\"\n",
		"config.toml": "mtu = 1500\nport_handler = 'direct'\nipv6 = true\npublish = ['8080:80']\nsandbox = false\n",
		"config.json": `{"mtu": 1500, "port-handler": "direct", "ipv6": true, "publish": ["8080:80"], "sandbox": false}`,
	} {
		for _, dir := range []string{userDir, "/etc/slirpctl/"} {
			m := newWorld(t).file(dir+path, content).mustLoad()
			if m.MTU != 1500 || m.PortHandler != HandlerDirect || !m.IPv6 || len(m.Publish) != 1 || m.Sandbox != Off {
				t.Errorf("%s: got %+v", path, m.Options)
			}
			if got := m.Source("port_handler"); got != dir+path {
				t.Errorf("source: got %s, want %s", got, dir+path)
			}
		}
		m := newWorld(t).file(userDir+path, " \n").mustLoad()
		if m.IsSet("mtu") {
			t.Errorf("empty %s sets something", path)
		}
	}
}

func TestWhichUserFile(t *testing.T) {
	w := newWorld(t).file("/etc/slirpctl/config.yaml", "mtu: 1000").file(userDir+"config.yaml", "mtu: 1001").
		file("/xdg/slirpctl/config.yaml", "mtu: 1002").file("/env.yaml", "detach: true").file("/flag", "{name: x}")
	if m := w.mustLoad(); m.MTU != 1001 {
		t.Errorf("HOME: MTU %d", m.MTU)
	}
	w.env("XDG_CONFIG_HOME=not/absolute")
	if m := w.mustLoad(); m.MTU != 1001 {
		t.Errorf("relative XDG_CONFIG_HOME: MTU %d", m.MTU)
	}
	w.env("XDG_CONFIG_HOME=/xdg")
	if m := w.mustLoad(); m.MTU != 1002 {
		t.Errorf("XDG_CONFIG_HOME: MTU %d", m.MTU)
	}
	w.env("SLIRPCTL_CONFIG=/env.yaml")
	if m := w.mustLoad(); m.MTU != 1000 || !m.Detach {
		t.Errorf("SLIRPCTL_CONFIG does not replace the user's file and leave the system's: MTU %d", m.MTU)
	}
	if m := w.mustLoad("--config", "/flag"); m.MTU != 1000 || m.Detach || m.Name != "x" {
		t.Errorf("--config does not replace SLIRPCTL_CONFIG: %+v", m.Options)
	}
	if m := newWorld(t).env("HOME=", "XDG_CONFIG_HOME=").mustLoad(); m.MTU != 65520 {
		t.Errorf("no HOME: MTU %d", m.MTU)
	}
}

func TestFileErrors(t *testing.T) {
	known := "known: " + strings.Join(names(fileName), ", ")
	for _, tc := range []struct{ file, content, want, hint string }{
		{"yaml", "ipv6: true\nmtuu: 5", "c.yaml:2: mtuu: unknown key", "did you mean mtu?"},
		{"yaml", "port_handlr: direct", "c.yaml:1: port_handlr: unknown key", "did you mean port-handler?"},
		{"yaml", "enable_ipv6: true", "c.yaml:1: enable_ipv6: unknown key", "did you mean ipv6?"},
		{"yaml", "zzzzzz: 1", "c.yaml:1: zzzzzz: unknown key", known},
		{"yaml", "up:\n  mtu: 5", "c.yaml:1: up: unknown key", known},
		{"yaml", "'a b': 5", "c.yaml:1: \"a b\": unknown key", known},
		{"toml", "[slirp]\nmtu = 5", "c.toml:1: slirp: unknown key", "did you mean slirp4netns-path?"},
		{"toml", "ipv6 = true\ncdir = 'x'", "c.toml:2: cdir: unknown key", "did you mean cidr?"},
		{"json", "{\n \"ipv6\": true,\n \"cdir\": 1}", "c.json:3: cdir: unknown key", "did you mean cidr?"},
		{"yaml", "option: mtu=5", "c.yaml:1: option: can only be set by a flag", "write each option under its own key"},
		{"yaml", "pid-file: a\npid_file: b", "c.yaml:2: pid_file: the same key as pid-file", "keep one of them"},

		{"yaml", "mtu: fast", `c.yaml:1: mtu: "fast": not a whole number`, ""},
		{"yaml", "mtu: true", "c.yaml:1: mtu: wrong type: true where there must be a whole number", ""},
		{"yaml", "mtu: 1.5", "c.yaml:1: mtu: wrong type: the number 1.5 where there must be a whole number", ""},
		{"yaml", "mtu: [1500]", "c.yaml:1: mtu: wrong type: a list where there must be a whole number", ""},
		{"yaml", "mtu:", "c.yaml:1: mtu: wrong type: nothing where there must be a whole number", ""},
		{"yaml", "mtu: {}", "c.yaml:1: mtu: wrong type: a table where there must be a whole number", ""},
		{"yaml", "mtu:\n  a: 5", "c.yaml:1: mtu: wrong type: a table where there must be a whole number", ""},
		{"yaml", "ipv6: 1", "c.yaml:1: ipv6: wrong type: 1 where there must be true or false", ""},
		{"yaml", "ipv6: yes", `c.yaml:1: ipv6: "yes": neither true nor false`, ""},
		{"yaml", "port_handler: true", "c.yaml:1: port_handler: wrong type: true where there must be one of direct, rootlesskit, slirp4netns", ""},
		{"yaml", "publish: [a, {b: c}]", "c.yaml:1: publish: wrong type: element 2 is a table", ""},
		{"yaml", "timeout: 10", `c.yaml:1: timeout: "10": has no unit`, "write 10s for seconds, 10ms for milliseconds"},
		{"toml", "name = 2020-01-01", "c.toml:1: name: wrong type: a date where there must be text", ""},
		{"toml", "mtu = 67", `c.toml:1: mtu: "67": less than 68`, ""},
		{"json", `{"mtu": null}`, "c.json:1: mtu: wrong type: nothing where there must be a whole number", ""},
		{"json", `{"tap_name": 5}`, "c.json:1: tap_name: wrong type: the number 5 where there must be text", "put it in quotes"},
		{"yaml", "name: 007", "c.yaml:1: name: wrong type: 7 where there must be text", "put it in quotes"},

		{"json", "{\"mtu\": 5,\n}", "c.json:2: not JSON: invalid character '}' looking for beginning of object key string", ""},
		{"json", "[5]", "c.json:1: not JSON: not an object with a key for each option", ""},
		{"yaml", "- mtu", "c.yaml: not YAML: not a mapping with a key for each option", ""},
	} {
		w := newWorld(t).file("/c."+tc.file, tc.content)
		w.fails("/"+tc.want, tc.hint, "--config", "/c."+tc.file)
	}
	// The messages are the decoders' own; the format and the line are added.
	for file, want := range map[string][]string{"yaml": {"/c.yaml: not YAML: ", "line 2"}, "toml": {"/c.toml:2: not TOML: "}} {
		_, err := newWorld(t).file("/c."+file, "mtu = 1500\n[: = : :").load("--config", "/c."+file)
		for _, part := range want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("got %v, want %s", err, part)
			}
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	w := newWorld(t)
	if _, err := w.load("--config=/none.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, which does not wrap its cause", err)
	}
	w.fails(`flag --config: "/none.yaml": can't be read: no such file or directory`, "", "--config", "/none.yaml")
	w.fails(`flag --config: names no file`, "", "--config", "")
	w.fails(`flag --config: "/x.ini": unknown format`, "the name must end in .yaml, .yml, .toml or .json", "--config", "/x.ini")
	w.file("/dir.yaml/x", "")
	w.fails(`flag --config: "/dir.yaml": can't be read: is a directory`, "", "--config", "/dir.yaml")
	w.env("SLIRPCTL_CONFIG=/none").fails(`environment SLIRPCTL_CONFIG: "/none": can't be read: no such file or directory`, "")

	w = newWorld(t).file("/etc/slirpctl/config.yaml", "").file("/etc/slirpctl/config.toml", "")
	w.fails("/etc/slirpctl/config.toml: there is /etc/slirpctl/config.yaml too", "keep one of them")

	w = newWorld(t).file(userDir+"config.yaml/x", "")
	w.fails(userDir+"config.yaml: can't be read: is a directory", "")

	w = newWorld(t).file(userDir+"config.yaml", strings.Repeat("#", maxFileSize+1))
	w.fails(userDir+"config.yaml: can't be read: larger than 1048576 bytes", "")

	w = newWorld(t).file(userDir+"x", "")
	if err := syscall.Mkfifo(filepath.Join(w.src.Root, userDir, "config.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.fails(userDir+"config.yaml: can't be read: is a named pipe", "")

	// A file in place of the directory is the same as no directory.
	newWorld(t).file("/etc/slirpctl", "").file("/home/me/.config", "").mustLoad()

	// A dangling link was meant to be a file.
	w = newWorld(t).file(userDir+"x", "")
	if err := os.Symlink("gone", filepath.Join(w.src.Root, userDir, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	w.fails(userDir+"config.yaml: can't be read: no such file or directory", "")
}
