package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/launcher"
)

func reportFixture() Report {
	b := launcher.Binary{
		Path: "/usr/bin/slirp4netns", Version: launcher.Version{Version: "1.0.0"},
		Features: launcher.ParseFeatures("--cidr=CIDR x\n--mtu=MTU x\n"),
	}
	return Report{Slirp4netns: NewBinary(b, nil), Host: []Result{
		{Name: "user-namespaces", Status: Failed, Reason: "forbidden", Remedy: "sysctl"},
		{Name: "sandbox", Status: Warning, Reason: "no"},
		{Name: "seccomp", Status: Unknown, Reason: "who knows"},
		{Name: "tun-device", Status: OK, Reason: "yes"},
	}}
}

func TestRequire(t *testing.T) {
	r := reportFixture()
	for _, tc := range []struct{ names, want, hint string }{
		{"", "", ""},
		{"cidr", "", ""},
		{"cidr,mtu", "", ""},
		{"tun-device,sandbox", "", ""},
		{"cidr,disable-dns", "missing: disable-dns (upstream has it since 1.1.0, installed is 1.0.0)", "install a newer slirp4netns, or one that was built with disable-dns"},
		{"disable-dns,macaddress", "missing: disable-dns (upstream has it since 1.1.0, installed is 1.0.0); macaddress (upstream has it since 1.1.9, installed is 1.0.0)", "install a newer slirp4netns, or one that was built with disable-dns"},
		{"user-namespaces", "missing: user-namespaces: forbidden", "sysctl"},
		{"seccomp", "missing: seccomp: who knows", ""},
	} {
		var names []string
		if tc.names != "" {
			names = strings.Split(tc.names, ",")
		}
		err := r.Require(names)
		got := ""
		if err != nil {
			got = err.Error()
			if !errors.Is(err, fault.Unsupported) || fault.Hint(err) != tc.hint {
				t.Errorf("%s: hint %q, want %q", tc.names, fault.Hint(err), tc.hint)
			}
		}
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.names, got, tc.want)
		}
	}
	r.Slirp4netns = NewBinary(launcher.Binary{Path: "x"}, errors.New("x is missing"))
	if err := r.Require([]string{"cidr"}); err == nil || err.Error() != "missing: cidr (upstream has it since 0.3.0)" {
		t.Errorf("without a binary: %v", err)
	}
}

func TestSummary(t *testing.T) {
	results := func(all ...Status) (list []Result) {
		for i, s := range all {
			list = append(list, Result{Name: fmt.Sprintf("check-%d", i), Status: s, Reason: "because"})
		}
		return list
	}
	for _, tc := range []struct {
		r     Report
		uid   int
		ready bool
		want  string
	}{
		{Report{Host: results(OK, OK)}, 1000, true, "ready for rootless use"},
		{Report{Host: results(OK, Unknown)}, 0, true, "ready for use by root"},
		{Report{Host: results(Warning, OK, Warning)}, 1000, true, "ready for rootless use, warnings: 2"},
		{Report{Host: results(Warning, Failed, Failed)}, 1000, false, "not ready: check-1: because"},
		{Report{Slirp4netns: Binary{Error: "slirp4netns is not on PATH"}, Host: results(Failed)}, 1000, false, "not ready: slirp4netns is not on PATH"},
	} {
		if ready, line := summarize(tc.r, tc.uid); ready != tc.ready || line != tc.want {
			t.Errorf("got %v, %q, want %q", ready, line, tc.want)
		}
	}
}

// A failed step of the self-test is the first thing to fix, unless a check has failed.
func TestAddSelfTest(t *testing.T) {
	steps := []Step{{Name: "a", Status: OK}, {Name: "b", Status: Unknown, Reason: "x"}, {Name: "c", Status: Failed, Reason: "because"}, {Name: "d", Status: Failed, Reason: "y"}}
	for _, tc := range []struct {
		steps []Step
		ready bool
		want  string
	}{
		{nil, true, "ready"},
		{steps[:2], true, "ready"},
		{steps, false, "not ready: self-test: c: because"},
	} {
		r := Report{Ready: true, Summary: "ready", SelfTest: []Step{}}
		r.AddSelfTest(tc.steps)
		if r.Ready != tc.ready || r.Summary != tc.want || len(r.SelfTest) != len(tc.steps) || r.SelfTest == nil {
			t.Errorf("got %+v", r)
		}
	}
	r := Report{Summary: "not ready: tun-device: missing"}
	if r.AddSelfTest(steps); r.Ready || r.Summary != "not ready: tun-device: missing" {
		t.Errorf("got %+v", r)
	}
}

func TestReportJSON(t *testing.T) {
	data, err := json.Marshal(reportFixture())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`{"slirp4netns":{"path":"/usr/bin/slirp4netns","version":"1.0.0","commit":"","libslirp":"","configVersionMax":"","libseccomp":"","features":[{"name":"api-socket","have":false,"since":"0.3.0"},{"name":"cidr","have":true,"since":"0.3.0"}`,
		`"error":""},"host":[{"name":"user-namespaces","status":"failed","reason":"forbidden","remedy":"sysctl"}`,
		`"ready":false,"summary":""}`,
	} {
		if !strings.Contains(string(data), part) {
			t.Errorf("%s\nhas no %s", data, part)
		}
	}
}
