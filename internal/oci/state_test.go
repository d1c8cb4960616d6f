package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

// testdata/state has states that runc 1.1.5 and crun 1.8.1 passed to hooks.
func TestParseState(t *testing.T) {
	for file, want := range map[string]specs.State{
		"runc-createRuntime.json": {Version: "1.0.2-dev", ID: "t1", Status: "creating", Pid: 13516, Bundle: "/tmp/bundle"},
		"runc-poststop.json":      {Version: "1.0.2-dev", ID: "t1", Status: "stopped", Bundle: "/tmp/bundle"},
		"crun-createRuntime.json": {Version: "1.0", ID: "t2", Status: "created", Pid: 15164, Bundle: "/tmp/bundle"},
		"crun-poststop.json":      {Version: "1.0", ID: "t2", Status: "stopped", Bundle: "/tmp/bundle"},
		"annotations.json": {
			Version: "1.0.2", ID: "web", Status: "creating", Pid: 4711, Bundle: "/b",
			Annotations: map[string]string{"io.slirpctl.publish": "8080:80,8443:443", "io.slirpctl.options": "mtu=1400", "org.example": "x"},
		},
	} {
		data, err := os.ReadFile(filepath.Join("testdata/state", file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadState(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if d := cmp.Diff(&want, got); d != "" {
			t.Errorf("%s: -want +got:\n%s", file, d)
		}
	}
}

func TestParseStateRefusals(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "empty"},
		{" \n", "empty"},
		{"[]", "not a JSON object"},
		{"null", "not a JSON object"},
		{`{"id":"x"`, "not JSON"},
		{`{"id":"x"} {"id":"y"}`, "not JSON"},
		{`{}`, "no id"},
		{`{"id":7}`, "id is a number, want string"},
		{`{"id":"x","pid":"7"}`, "pid is a string, want int"},
		{`{"id":"x","pid":-1}`, "not a process id"},
		{`{"id":"x","pid":1.5}`, "pid is a number 1.5, want int"},
		{`{"id":"x","pid":99999999}`, "not a process id"},
		{`{"id":"x","annotations":{"a":1}}`, "annotations"},
		{`{"id":"../x"}`, "not a container id"},
		{`{"id":".."}`, "not a container id"},
		{`{"id":"a\nb"}`, "not a container id"},
		{`{"id":"x","bundle":"a\u0000b"}`, "NUL"},
	} {
		_, err := ParseState([]byte(c.text))
		if !errors.Is(err, fault.Usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.text, err, c.want)
		}
	}
}

func TestReadStateBounds(t *testing.T) {
	pad := strings.Repeat(" ", MaxState)
	if _, err := ReadState(strings.NewReader(`{"id":"x"}` + pad)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v", err)
	}
	if _, err := ReadState(strings.NewReader(pad[:MaxState-10] + `{"id":"x"}`)); err != nil {
		t.Errorf("exactly as long as allowed: %v", err)
	}
	broken := errors.New("broken")
	if _, err := ReadState(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestInstanceName(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 4) // like Docker's and Podman's ids
	for _, c := range []struct{ id, want string }{
		{"web", "web"},
		{long, long},
		{"a.b-c_D9", "a.b-c_D9"},
		{"a+b", "a_b-300273da"},
		{"-web", "c-web-9cc3145b"},
		{long + "x", long[:55] + "-bb9e1cd5"},
	} {
		got, err := InstanceName(c.id)
		if err != nil || got != c.want || options.CheckName(got) != nil {
			t.Errorf("%q: %q, %v, want %q", c.id, got, err, c.want)
		}
	}
	seen := map[string]string{}
	for _, id := range []string{"a+b", "a_b", "a b", "ab", "a+b ", long + "x", long + "y", "_web", "-web", "ä"} {
		name, err := InstanceName(id)
		if err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q share the name %q", id, other, name)
		}
		seen[name] = id
	}
}

func FuzzParseState(f *testing.F) {
	files, _ := filepath.Glob("testdata/state/*.json")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"id":"a+b","pid":4194304,"annotations":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		st, err := ParseState(data)
		if err != nil {
			if !errors.Is(err, fault.Usage) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if name, err := InstanceName(st.ID); err != nil || options.CheckName(name) != nil {
			t.Errorf("id %q: name %q, %v", st.ID, name, err)
		}
		again, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		st2, err := ParseState(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if d := cmp.Diff(st, st2); d != "" {
			t.Error(d)
		}
	})
}
