package launcher

import (
	"strings"
	"testing"
)

func TestParseVersionOfEveryText(t *testing.T) {
	want := map[string]Version{
		"v0.2.3":       {Version: "0.2.3", Commit: "be6d34ba4c7ac62b9f31b0ea931ec91a5f16dc3b"},
		"v0.3.0":       {Version: "0.3.0", Commit: "4992082b2af77c09bca6bd8504e2ebfa5e118c18"},
		"v0.4.0":       {Version: "0.4.0", Commit: "17550477edf4ab09e69ca637c41fc50b1041a62a"},
		"v1.0.0":       {Version: "1.0.0", Commit: "a3be729152a33e692cd28b52f664defbf2e7810a", Libslirp: "4.7.0"},
		"v1.1.0":       {"1.1.0", "ee9b3db719f7587250a638f4e52bf64195edb9c4", "4.7.0", "4", ""},
		"v1.1.12":      {"1.1.12", "7a104a101aa3278a2152351a082a6df71f57c9a3", "4.7.0", "4", "2.5.4"},
		"debian-1.2.0": {"1.2.0", "656041d45cfca7a4176f6b7eed9e4fe6c11e8383", "4.7.0", "4", "2.5.4"},
		"v1.2.3":       {"1.2.3", "c22fde291bb35b354e6ca44d13be181c76a0a432", "4.7.0", "4", "2.5.4"},
		"v1.3.0":       {"1.3.0", "8a4d4391842f00b9c940bb8f067964427eb0c964", "4.7.0", "4", "2.5.4"},
		"v1.3.3":       {"1.3.3", "944fa94090e1fd1312232cbc0e6b43585553d824", "4.9.5", "6", "2.6.1"},
		"master":       {"1.3.2+dev", "9996a4e014ddb100010146b082047314ef228ba3", "4.7.0", "4", "2.5.4"},
	}
	have := texts(t, "version")
	for name, text := range have {
		if got := ParseVersion(text); got != want[name] {
			t.Errorf("%s: got %+v, want %+v", name, got, want[name])
		}
	}
	if len(have) != len(want) {
		t.Errorf("%d texts, want %d", len(have), len(want))
	}
}

func TestParseVersionOfOthers(t *testing.T) {
	for _, text := range []string{"", "pasta 0.0~git\ncommit: 1\n", "slirp4netns\n", "slirp4netns version \n"} {
		if got := ParseVersion(text); got.Version != "" {
			t.Errorf("%q has version %q", text, got.Version)
		}
	}
}

func TestVersionAtLeast(t *testing.T) {
	for _, tc := range []struct {
		have       string
		yes, known bool // against 1.2.1
	}{
		{"1.2.0", false, true},
		{"1.2.1", true, true},
		{"1.2.1+dev", true, true},
		{"1.2.1-beta.0", false, true},
		{"1.2.10", true, true},
		{"1.10.0", true, true},
		{"2.0.0", true, true},
		{"0.4.8", false, true},
		{"", false, false},
		{"1.2", false, false},
		{"1.x.1", false, false},
		{"unknown", false, false},
	} {
		if yes, known := (Version{Version: tc.have}).AtLeast(1, 2, 1); yes != tc.yes || known != tc.known {
			t.Errorf("%q: %v, %v", tc.have, yes, known)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	for _, text := range texts(f, "version") {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		v := ParseVersion(text)
		for _, field := range []string{v.Version, v.Commit, v.Libslirp, v.ConfigVersionMax, v.Libseccomp} {
			if field != strings.TrimSpace(field) || strings.Contains(field, "\n") || field != Printable(field) {
				t.Errorf("%q gave %q", text, field)
			}
		}
		v.AtLeast(1, 2, 1)
	})
}
