package options

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// sound checks what holds for every input: an *Error of one line that names its source, or options
// within their ranges that have the same values when given again as flags.
func sound(t *testing.T, m Merged, err error) {
	t.Helper()
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%T: %v", err, err)
		}
		if e.Source == "" || e.Reason == "" || strings.ContainsAny(e.Error(), "\n\r\x1b") {
			t.Errorf("error %q of %+v", e.Error(), *e)
		}
		return
	}
	if m.MTU < 68 || m.MTU > 65521 || !m.CIDR.Guest().IsValid() ||
		m.TapName == "" || len(m.TapName) > 15 || m.Timeout <= 0 || m.WaitNetns < 0 || m.ReadyFD < -1 || m.ExitFD < -1 {
		t.Errorf("out of range: %+v", m)
	}
	fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
	AddFlags(fs)
	AddGeneralFlags(fs)
	for _, v := range m.Values {
		k := lookup(v.Key)
		texts := []string{v.Value}
		if k.Kind == KindList {
			texts = splitList(v.Value)
		}
		for _, text := range texts {
			if f := fs.Lookup(k.Name); f != nil && v.Source != SourceDefault {
				if err := fs.Set(k.Name, text); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	again, err := Load(fs, Sources{Root: "/nonexistent"})
	if err != nil {
		t.Fatalf("what %+v prints is refused: %v", m, err)
	}
	for i, v := range m.Values {
		if v.Value != again.Values[i].Value && v.Key != "containers_conf" {
			t.Errorf("%s: %q becomes %q", v.Key, v.Value, again.Values[i].Value)
		}
	}
}

func FuzzPodmanStrings(f *testing.F) {
	f.Add("slirp4netns:mtu=1500,enable_ipv6=true", "port_handler=slirp4netns")
	f.Add("slirp4netns", "cidr=10.0.0.0/8")
	f.Fuzz(func(t *testing.T, network, option string) {
		fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
		AddFlags(fs)
		if err := errors.Join(fs.Set("network", network), fs.Set("option", option)); err != nil {
			t.Fatal(err)
		}
		m, err := Load(fs, Sources{Root: "/nonexistent"})
		sound(t, m, err)
	})
}

func FuzzConfigYAML(f *testing.F) { fuzzFile(f, "yaml", "mtu: 1500\npublish: [80, auto]\n") }
func FuzzConfigTOML(f *testing.F) { fuzzFile(f, "toml", "mtu = 1500\npublish = ['80', 'auto']\n") }
func FuzzConfigJSON(f *testing.F) { fuzzFile(f, "json", `{"mtu": 1500, "publish": [80, "auto"]}`) }

func fuzzFile(f *testing.F, format, seed string) {
	f.Add([]byte(seed))
	f.Fuzz(func(t *testing.T, data []byte) {
		as, err := parseFile("config", format, data)
		if err != nil {
			sound(t, Merged{}, err)
			return
		}
		m, err := merge(as, nil)
		sound(t, m, err)
	})
}

func FuzzContainersConf(f *testing.F) {
	f.Add([]byte("[engine]\nnetwork_cmd_path = '/x'\nnetwork_cmd_options = ['mtu=1500', {append=true}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var engine engineTable
		if err := engine.read("containers.conf", data); err != nil {
			sound(t, Merged{}, err)
			return
		}
		as, err := engine.assignments(func(p string) string { return p })
		if err != nil {
			sound(t, Merged{}, err)
			return
		}
		m, err := merge(as, nil)
		sound(t, m, err)
	})
}

// Every fuzz target has checked-in seeds in addition to the ones above.
func TestSeeds(t *testing.T) {
	for _, target := range []string{"FuzzPodmanStrings", "FuzzConfigYAML", "FuzzConfigTOML", "FuzzConfigJSON", "FuzzContainersConf"} {
		seeds, err := os.ReadDir(filepath.Join("testdata/fuzz", target))
		if err != nil || len(seeds) == 0 {
			t.Errorf("%s: no seeds: %v", target, err)
		}
	}
}
