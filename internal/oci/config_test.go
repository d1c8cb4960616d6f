package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slirpctl/slirpctl/internal/fault"
)

func setup(flags ...string) Setup {
	return Setup{
		Up:         specs.Hook{Path: "/usr/bin/slirpctl", Args: append([]string{"slirpctl", "up", "--oci-state", "-"}, flags...), Env: []string{"PATH=/bin"}},
		Down:       specs.Hook{Path: "/usr/bin/slirpctl", Args: []string{"slirpctl", "down", "--oci-state", "-"}},
		ResolvConf: "nameserver 10.0.2.3\n",
	}
}

// bundle makes a bundle with this text as config.json.
func bundle(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return dir
}

func apply(t *testing.T, dir string, s Setup) string {
	t.Helper()
	b, err := OpenBundle(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Apply(s); err != nil {
		t.Fatal(err)
	}
	if err := b.Write(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// document is the content of a config.json, with numbers as written.
func document(t *testing.T, text string) map[string]any {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var doc map[string]any
	if err := dec.Decode(&doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return doc
}

func hookCount(doc map[string]any, kind string) int {
	hooks, _ := doc["hooks"].(map[string]any)
	list, _ := hooks[kind].([]any)
	return len(list)
}

// TestApply: files written by real tools keep everything but what is added, and applying again
// changes nothing.
func TestApply(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := bundle(t, string(data))
			once := apply(t, dir, setup("--publish=8080:80"))
			doc, before := document(t, once), document(t, string(data))
			if hookCount(doc, CreateRuntime) != hookCount(before, CreateRuntime)+1 || hookCount(doc, Poststop) != hookCount(before, Poststop)+1 {
				t.Errorf("hooks: %v", doc["hooks"])
			}
			if !strings.Contains(once, `"network"`) || !strings.Contains(once, `"/etc/resolv.conf"`) {
				t.Errorf("no network namespace or resolv.conf:\n%s", once)
			}
			for _, key := range []string{"hooks", "linux", "mounts"} {
				delete(doc, key)
				delete(before, key)
			}
			if d := cmp.Diff(before, doc); d != "" {
				t.Errorf("the rest: -before +after:\n%s", d)
			}
			// Line by line, nothing is removed, except that a comma is added.
			left := once
			if strings.Count(string(data), "\n") == 1 {
				left = string(data) // no lines to compare
			}
			for line := range strings.Lines(string(data)) {
				_, after, found := strings.Cut(left, strings.TrimRight(line, ",\n"))
				if !found {
					t.Fatalf("lost, or moved: %q", line)
				}
				left = after
			}
			if again := apply(t, dir, setup("--publish=8080:80")); again != once {
				t.Errorf("the second time changed something: %s", cmp.Diff(once, again))
			}
			// Other flags replace the old ones.
			other := document(t, apply(t, dir, setup("--publish=9090:90")))
			if hookCount(other, CreateRuntime) != hookCount(document(t, once), CreateRuntime) {
				t.Errorf("hooks: %v", other["hooks"])
			}
			if back := apply(t, dir, setup("--publish=8080:80")); back != once {
				t.Errorf("there and back: %s", cmp.Diff(once, back))
			}
		})
	}
}

func TestApplyByHand(t *testing.T) {
	const hook = `{"path":"/usr/bin/slirpctl","args":["slirpctl","up","--oci-state","-"],"env":["PATH=/bin"]}`
	const down = `{"path":"/usr/bin/slirpctl","args":["slirpctl","down","--oci-state","-"]}`
	const mount = `{"destination":"/etc/resolv.conf","type":"bind","source":"DIR/slirpctl-resolv.conf","options":["bind","ro","nosuid","nodev","noexec"]}`
	const hooks = `"hooks":{"createRuntime":[` + hook + `],"poststop":[` + down + `]}`
	for _, c := range []struct{ name, before, after string }{
		{"nothing", `{}`, `{` + hooks + `,"linux":{"namespaces":[{"type":"network"}]},"mounts":[` + mount + `]}`},
		{
			"null counts as nothing", `{"hooks":null,"linux":{"namespaces":null},"mounts":null}`,
			`{` + hooks + `,"linux":{"namespaces":[{"type":"network"}]},"mounts":[` + mount + `]}`,
		},
		{
			"numbers and escapes stay", `{"x":1e400,"y":12345678901234567890,"z":"<\u003c\/é","linux":{"a":0.10,"namespaces":[{"type":"pid"}]},"mounts":[{"destination":"/proc"}]}`,
			`{"x":1e400,"y":12345678901234567890,"z":"<\u003c\/é","linux":{"a":0.10,"namespaces":[{"type":"pid"},{"type":"network"}]},"mounts":[{"destination":"/proc"},` + mount + `],` + hooks + `}`,
		},
		{
			"a namespace by path and a mount of others'", `{"linux":{"namespaces":[{"path":"/run/netns/x","type":"network"}]},"mounts":[{"destination":"/etc/../etc/resolv.conf/","source":"/r"}]}`,
			`{"linux":{"namespaces":[{"path":"/run/netns/x","type":"network"}]},"mounts":[{"destination":"/etc/../etc/resolv.conf/","source":"/r"}],` + hooks + `}`,
		},
		{
			"hooks of others'", `{"hooks":{"poststart":[{"path":"/a"}],"createRuntime":[{"path":"/b","args":["b","up"]}, {"path":"/c","timeout":5}]}}`,
			`{"hooks":{"poststart":[{"path":"/a"}],"createRuntime":[{"path":"/b","args":["b","up"]},{"path":"/c","timeout":5},` + hook + `],"poststop":[` + down + `]},"linux":{"namespaces":[{"type":"network"}]},"mounts":[` + mount + `]}`,
		},
		{
			"our own, twice and from elsewhere", `{"hooks":{"createRuntime":[{"path":"/old/slirpctl","args":["/old/slirpctl","up","--oci-state","-","-p","80"]},{"path":"/c"},` + hook + `]}}`,
			`{"hooks":{"createRuntime":[` + hook + `,{"path":"/c"}],"poststop":[` + down + `]},"linux":{"namespaces":[{"type":"network"}]},"mounts":[` + mount + `]}`,
		},
		{"of two the last counts", `{"mounts":[],"mounts":[{"destination":"/x"}],"linux":{"namespaces":[{"type":"network"}]}}`, `{"mounts":[],"mounts":[{"destination":"/x"},` + mount + `],"linux":{"namespaces":[{"type":"network"}]},` + hooks + `}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := bundle(t, c.before)
			got := apply(t, dir, setup())
			want := strings.ReplaceAll(c.after, "DIR", dir)
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if again := apply(t, dir, setup()); again != got {
				t.Errorf("the second time:\n%s", again)
			}
		})
	}
}

func TestApplyLayout(t *testing.T) {
	dir := bundle(t, "{\n  \"a\": {}\n}\n")
	got := apply(t, dir, Setup{
		Up:   specs.Hook{Path: "/s", Args: []string{"slirpctl", "up", "--oci-state", "-"}},
		Down: specs.Hook{Path: "/s", Args: []string{"slirpctl", "down", "--oci-state", "-"}},
	})
	want := `{
  "a": {},
  "hooks": {
    "createRuntime": [
      {
        "path": "/s",
        "args": [
          "slirpctl",
          "up",
          "--oci-state",
          "-"
        ]
      }
    ],
    "poststop": [
      {
        "path": "/s",
        "args": [
          "slirpctl",
          "down",
          "--oci-state",
          "-"
        ]
      }
    ]
  },
  "linux": {
    "namespaces": [
      {
        "type": "network"
      }
    ]
  }
}
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestWrite(t *testing.T) {
	dir := bundle(t, `{}`)
	config := filepath.Join(dir, "config.json")
	elsewhere := filepath.Join(t.TempDir(), "real.json")
	if err := os.Rename(config, elsewhere); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, config); err != nil {
		t.Fatal(err)
	}
	apply(t, dir, setup())
	if fi, err := os.Lstat(config); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link has gone: %v, %v", fi.Mode(), err)
	}
	before, err := os.Stat(config)
	if err != nil {
		t.Fatal(err)
	}
	if before.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, want that of before, 0640", before.Mode())
	}
	resolv, err := os.ReadFile(filepath.Join(dir, resolvFile))
	if err != nil || string(resolv) != "nameserver 10.0.2.3\n" {
		t.Errorf("resolv.conf %q, %v", resolv, err)
	}
	apply(t, dir, setup())
	after, err := os.Stat(config)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("nothing to change, and yet the file is another")
	}
	for _, d := range []string{dir, filepath.Dir(elsewhere)} {
		left, _ := filepath.Glob(filepath.Join(d, ".slirpctl-*"))
		if len(left) > 0 {
			t.Errorf("left: %q", left)
		}
	}
}

func TestOpenBundleRefusals(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{`, "not JSON"},
		{`[]`, "not a JSON object"},
		{`{} {}`, "not JSON"},
		{``, "not JSON"},
		{`{"hooks":[]}`, "hooks"},
		{`{"hooks":{"poststop":{}}}`, "poststop: not a list"},
		{`{"linux":7}`, "linux"},
		{`{"linux":{"namespaces":["x"]}}`, "namespaces"},
		{`{"mounts":{}}`, "mounts: not a list"},
		{`{"mounts":[7]}`, "mounts"},
	} {
		dir := bundle(t, c.text)
		b, err := OpenBundle(dir)
		if err == nil {
			err = b.Apply(setup())
		}
		if !errors.Is(err, fault.Usage) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: error %v", c.text, err)
		}
	}
	if _, err := OpenBundle(t.TempDir()); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no config.json: %v", err)
	}
	b, err := OpenBundle(bundle(t, `{"annotations":{"a":"b"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := b.Annotations(); err != nil || a["a"] != "b" {
		t.Errorf("annotations %v, %v", a, err)
	}
}

// FuzzConfig: editing any config.json keeps it valid and everything else unchanged, and is idempotent.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{}`))
	f.Add([]byte("{\n\t\"linux\": {\n\t},\n\t\"mounts\": [ ]\n}\n"))
	f.Add([]byte(`{"hooks":{"createRuntime":[{"path":"/c"}],"x":[]},"hooks":null,"\u0068ooks":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig("config.json", data)
		edit := func(c *Config) error {
			for _, err := range []error{c.SetHook(CreateRuntime, setup().Up), c.SetHook(Poststop, setup().Down), c.AddNetworkNamespace()} {
				if err != nil {
					return err
				}
			}
			_, err := c.MountResolvConf("/r")
			return err
		}
		if err == nil {
			err = edit(c)
		}
		if err != nil {
			if !errors.Is(err, fault.Usage) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if !json.Valid(c.Bytes()) {
			t.Fatalf("not JSON any more: %s", c.Bytes())
		}
		again, err := ParseConfig("config.json", c.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := edit(again); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), c.Bytes()) {
			t.Errorf("not idempotent:\n%s\n%s", c.Bytes(), again.Bytes())
		}
	})
}
