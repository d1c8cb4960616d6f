package launcher

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// base is what every release since 0.2.0 lists.
var base = []Feature{Configure, EnableIPv6, ExitFD, MTU, ReadyFD}

// plus returns the sorted union.
func plus(list []Feature, more ...Feature) []Feature {
	all := slices.Concat(list, more)
	slices.Sort(all)
	return all
}

// wantFeatures says what each help text in testdata/help lists, read by hand.
func wantFeatures() map[string][]Feature {
	v02 := base
	v03 := plus(v02, APISocket, CIDR, DisableHostLoopback)
	v04 := plus(v03, EnableSandbox, EnableSeccomp, NetnsType, UsernsPath)
	v110 := plus(v04, DisableDNS, OutboundAddr, OutboundAddr6)
	v1112 := plus(v110, MACAddress)
	v12 := plus(v1112, TargetType)
	v13 := plus(v12, NetnsTypeTapfd)
	return map[string][]Feature{
		"v0.2.3": v02, "v0.3.0": v03, "v0.4.0": v04, "v1.0.0": v04, "v1.1.0": v110, "v1.1.12": v1112,
		"debian-1.2.0": v12, "v1.2.3": v12, "v1.3.0": v13, "v1.3.3": v13, "master": v13,
	}
}

// texts returns the names and contents of testdata/help/*.KIND.txt.
func texts(t testing.TB, kind string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("testdata/help/*." + kind + ".txt")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no %s texts: %v", kind, err)
	}
	all := map[string]string{}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(p), "."+kind+".txt")] = string(text)
	}
	return all
}

func TestParseFeaturesOfEveryHelpText(t *testing.T) {
	want := wantFeatures()
	help := texts(t, "help")
	for name, text := range help {
		got := list(ParseFeatures(text))
		if w, ok := want[name]; !ok || !slices.Equal(got, w) {
			t.Errorf("%s:\n got %v\nwant %v", name, got, w)
		}
	}
	if len(help) != len(want) {
		t.Errorf("%d help texts, want %d", len(help), len(want))
	}
}

func TestParseFeaturesBelievesOnlyOptions(t *testing.T) {
	for _, tc := range []struct {
		name, help string
		want       []Feature
	}{
		{"empty", "", nil},
		{"mentioned in a description", "--foo   like --cidr, but for --mtu\n", nil},
		{"mentioned in prose", "Use --cidr to change the network.\n", nil},
		{"indented", "    -m, --mtu=MTU    specify\n", []Feature{MTU}},
		{"tab", "--userns-path=PATH\t specify\n", []Feature{UsernsPath}},
		{"CRLF", "--disable-dns\r\n", []Feature{DisableDNS}},
		{"at the very end", "--cidr", []Feature{CIDR}},
		{"longer name", "--cidr6=X  other\n--mtus\n", nil},
		{"tapfd only as a value", "--netns-type=TYPE \t type ([path|pid|tapfd], default=pid)", []Feature{NetnsType, NetnsTypeTapfd}},
		{"tapfd of something else", "--target-type=TYPE  ([tapfd])", []Feature{TargetType}},
		{"not tapfd", "--netns-type=TYPE  ([path|mytapfds])", []Feature{NetnsType}},
		{"the invented option name", "--netns-type-tapfd  x", nil},
		{"one dash", "-cidr  x", nil},
	} {
		if got := ParseFeatures(tc.help); got != Features(tc.want...) {
			t.Errorf("%s: got %v, want %v", tc.name, list(got), tc.want)
		}
	}
}

func TestFeatureTable(t *testing.T) {
	all := AllFeatures()
	if len(all) != 18 || !slices.IsSorted(all) {
		t.Errorf("want 18 features in order, have %v", all)
	}
	for _, f := range all {
		if !f.Known() || f.Since() == "" || !Features(f).Has(f) {
			t.Errorf("%s: known %v, since %q", f, f.Known(), f.Since())
		}
	}
	if f := Feature("nonsense"); f.Known() || f.Since() != "" || Features(f) != 0 || Features(all...).Has(f) {
		t.Error("an unknown feature counts as one")
	}
}

// list returns the features in a set.
func list(s FeatureSet) []Feature {
	return slices.DeleteFunc(AllFeatures(), func(f Feature) bool { return !s.Has(f) })
}

func Features(list ...Feature) FeatureSet {
	var s FeatureSet
	for _, f := range list {
		s |= f.bit()
	}
	return s
}

func FuzzParseFeatures(f *testing.F) {
	for _, text := range texts(f, "help") {
		f.Add(text)
	}
	f.Add("--netns-type=TYPE\t[tapfd]")
	f.Fuzz(func(t *testing.T, help string) {
		set := ParseFeatures(help)
		for _, feature := range list(set) {
			option := "--" + string(feature)
			if feature == NetnsTypeTapfd {
				option = "tapfd"
			}
			if !strings.Contains(help, option) {
				t.Errorf("%s found in %q", feature, help)
			}
		}
		if set.Has(NetnsTypeTapfd) && !set.Has(NetnsType) {
			t.Errorf("tapfd without --netns-type in %q", help)
		}
		// More text never takes a feature away.
		if more := ParseFeatures(help + "\n--cidr=CIDR  x\n"); more != set|Features(CIDR) {
			t.Errorf("%q: %v became %v", help, list(set), list(more))
		}
	})
}
