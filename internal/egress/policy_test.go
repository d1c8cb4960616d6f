package egress

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
)

func policyFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadPolicy(t *testing.T) {
	dir := t.TempDir()
	policyFile(t, dir, "base.toml", "allow = ['b.example']\ndeny = ['x.example:*']\ninclude = ['main.yaml']\n")
	policyFile(t, dir, "more.json", `{"allow": ["c.example", {"rule": "d.example:443", "check": "none"}]}`)
	main := policyFile(t, dir, "main.yaml", "egress: deny\nallow:\n  - a.example\ninclude: [base.toml, ./more.json]\n")
	p, err := ReadPolicy(main, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range p.Rules {
		text := r.Action.String() + " " + r.String()
		if r.Unchecked {
			text += " unchecked"
		}
		got = append(got, text)
	}
	want := "allow a.example:80,443/tcp, allow b.example:80,443/tcp, deny x.example, allow c.example:80,443/tcp, allow d.example:443/tcp unchecked"
	if strings.Join(got, ", ") != want || p.Mode != Enforce {
		t.Errorf("%s %s\nwant %s", p.Mode, strings.Join(got, ", "), want)
	}
}

func TestReadPolicyRefuses(t *testing.T) {
	dir := t.TempDir()
	for text, want := range map[string]string{
		"alow: [a.example]\n": `unknown key "alow"`,
		"egress: maybe\n":     `"maybe" is none of open, log, deny`,
		"allow: 4\n":          "4 is no list",
		"allow: [a..b]\n":     "entry 1: ",
		"allow: [a.example, {rule: b.example, chek: none}]\n": `entry 2: unknown key "chek"`,
		"allow: [{check: none}]\n":                            "needs the key rule",
		"deny: [{rule: b.example, check: none}]\n":            "a deny rule has none",
		"allow: [[a.example]]\n":                              "is no rule",
		"include: [gone.yaml]\n":                              "gone.yaml: can't be read: no such file",
		"allow: [a.example\n":                                 "line ",
		"- a.example\n":                                       "policy.yaml: ",
		"allow: a.example\nallow: b.example\n":                "already defined",
	} {
		p, err := ReadPolicy(policyFile(t, dir, "policy.yaml", text), nil)
		if !errors.Is(err, fault.Usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", text, p, err, want)
		}
	}
}

func FuzzReadPolicy(f *testing.F) {
	f.Add("p.yaml", "allow: [a.example]\n")
	f.Add("p.toml", "deny = ['*']\n")
	f.Add("p.json", `{"include": ["p.json"], "allow": [{"rule": "*", "check": "none"}]}`)
	f.Fuzz(func(t *testing.T, name, text string) {
		dir := t.TempDir()
		name = "p" + filepath.Ext(filepath.Base(name))
		if strings.ContainsAny(name, "/\x00") || len(name) > 100 || strings.Contains(text, "/") {
			return
		}
		path := filepath.Join(dir, name)
		if os.WriteFile(path, []byte(text), 0o600) != nil {
			return
		}
		p, err := ReadPolicy(path, nil)
		if err != nil {
			return
		}
		for _, r := range p.Rules {
			if _, err := ParseRule(r.Action, r.String()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
