package options

import (
	"slices"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/fault"
)

func TestJoinPorts(t *testing.T) {
	for in, want := range map[string]string{
		"a.example:80,443":             "a.example:80,443",
		"a.example:80,443/udp,b":       "a.example:80,443/udp b",
		"a.example,10.0.0.1,[fd00::1]": "a.example 10.0.0.1 [fd00::1]",
		"*:1-2,4-8,*.b.example":        "*:1-2,4-8 *.b.example",
	} {
		if got := joinPorts(splitList(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// TestEgressSources: which mode and rules come out of all sources.
func TestEgressSources(t *testing.T) {
	const policy = "/policy.yaml"
	for _, tt := range []struct {
		flags       []string
		annotations map[string]string
		mode        egress.Mode
		rules       string
		err         string
	}{
		{nil, nil, egress.Open, "", ""},
		{[]string{"--allow=a.example", "--allow=b.example:1,2", "--deny=c.example"}, nil, egress.Enforce, "a.example:80,443/tcp b.example:1-2/tcp c.example", ""},
		{[]string{"--egress=log", "--allow=a.example"}, nil, egress.Log, "a.example:80,443/tcp", ""},
		{[]string{"--egress=deny"}, nil, egress.Enforce, "", ""},
		{[]string{"--egress=open", "--allow=a.example"}, nil, 0, "", "which open does not heed"},
		{[]string{"--allow=a b"}, nil, 0, "", "a b"},
		{[]string{"--egress-policy=" + policy}, nil, egress.Log, "p.example:80,443/tcp", ""},
		{[]string{"--egress-policy=" + policy, "--egress=deny"}, nil, egress.Enforce, "p.example:80,443/tcp", ""},
		{[]string{"--egress-policy=/nonexistent"}, nil, 0, "", "/nonexistent: can't be read"},
		{[]string{"--egress-record=x"}, nil, egress.Log, "", ""},
		{[]string{"--allow=a.example", "--ipv6"}, nil, 0, "", "IPv4 alone"},
		{[]string{"--allow=a.example", "--port-handler=slirp4netns"}, nil, 0, "", "gateway"},
		{nil, map[string]string{AnnotationAllow: "a.example"}, egress.Enforce, "*:*/tcp", ""},
		{[]string{"--ipv6"}, map[string]string{AnnotationAllow: "a.example"}, 0, "", "annotation"},
		{nil, map[string]string{AnnotationAllow: "a.example/x"}, 0, "", "annotation io.slirpctl.allow"},
		{nil, map[string]string{AnnotationOptions: "allow=a.example"}, 0, "", "use the annotation io.slirpctl.allow"},
	} {
		w := newWorld(t).file(policy, "egress: log\nallow: [p.example]\n")
		w.src.Annotations = tt.annotations
		m, err := w.load(tt.flags...)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error()+fault.Hint(err), tt.err) {
				t.Errorf("%q %v: %v, want %q", tt.flags, tt.annotations, err, tt.err)
			}
			continue
		}
		var rules []string
		for _, r := range m.Egress.Rules {
			rules = append(rules, r.String())
		}
		if got := strings.Join(rules, " "); err != nil || m.Egress.Mode != tt.mode || !strings.HasPrefix(got, tt.rules) || tt.rules == "" && got != "" {
			t.Errorf("%q %v: %v, %s, %q", tt.flags, tt.annotations, err, m.Egress.Mode, got)
		}
	}
}
