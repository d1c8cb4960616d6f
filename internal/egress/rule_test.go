package egress

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
)

func TestParseRule(t *testing.T) {
	for _, c := range []struct{ in, allow, deny string }{
		{"pypi.org", "pypi.org:80,443/tcp", "pypi.org"},
		{"*.PythonHosted.org.", "*.pythonhosted.org:80,443/tcp", "*.pythonhosted.org"},
		{"*", "*:80,443/tcp", "*"},
		{"*:*", "*:*/tcp", "*"},
		{"*:*/udp", "*:*/udp", "*:*/udp"},
		{"github.com:22", "github.com:22/tcp", "github.com:22"},
		{"github.com:443,22,8000-8100", "github.com:22,443,8000-8100/tcp", "github.com:22,443,8000-8100"},
		{"a.example:1-5,4-9,10", "a.example:1-10/tcp", "a.example:1-10"},
		{"dns.example:53/UDP", "dns.example:53/udp", "dns.example:53/udp"},
		{"10.1.2.3", "10.1.2.3:80,443/tcp", "10.1.2.3"},
		{"10.0.0.0/8:5432", "10.0.0.0/8:5432/tcp", "10.0.0.0/8:5432"},
		{"10.0.0.0/8/icmp", "10.0.0.0/8/icmp", "10.0.0.0/8/icmp"},
		{"192.0.2.1/icmp", "192.0.2.1/icmp", "192.0.2.1/icmp"},
		{"2001:db8::1", "[2001:db8::1]:80,443/tcp", "2001:db8::1"},
		{"[2001:db8::1]", "[2001:db8::1]:80,443/tcp", "2001:db8::1"},
		{"[2001:db8::1]:22", "[2001:db8::1]:22/tcp", "[2001:db8::1]:22"},
		{"2001:db8::/32", "[2001:db8::/32]:80,443/tcp", "2001:db8::/32"},
		{"[2001:db8::]/32:53/udp", "[2001:db8::/32]:53/udp", "[2001:db8::/32]:53/udp"},
		{"[2001:db8::/32]:53/udp", "[2001:db8::/32]:53/udp", "[2001:db8::/32]:53/udp"},
		{"::ffff:192.0.2.1", "192.0.2.1:80,443/tcp", "192.0.2.1"},
		{"münchen.example", "xn--mnchen-3ya.example:80,443/tcp", "xn--mnchen-3ya.example"},
		{"localhost:8080", "localhost:8080/tcp", "localhost:8080"},
		{"_sip._tcp.example", "_sip._tcp.example:80,443/tcp", "_sip._tcp.example"},
	} {
		for action, want := range map[Action]string{Allow: c.allow, Deny: c.deny} {
			r, err := ParseRule(action, c.in)
			if err != nil {
				t.Errorf("%s %s: %v", action, c.in, err)
				continue
			}
			got := strings.TrimSuffix(r.String(), "")
			if action == Deny && want != got && got != want+"/tcp" {
				t.Errorf("%s %s: %s, want %s", action, c.in, got, want)
			}
			if action == Allow && got != want {
				t.Errorf("%s %s: %s, want %s", action, c.in, got, want)
			}
			again, err := ParseRule(action, got)
			if err != nil || again.String() != got {
				t.Errorf("%s %s: %s reads back as %s, %v", action, c.in, got, again, err)
			}
		}
	}
}

func TestParseRuleRefuses(t *testing.T) {
	for _, in := range []string{
		"", ".", "a..b", ":443", "/tcp", "a.example:", "a.example:0", "a.example:65536", "a.example:9-1", "a.example:x",
		"a.example/sctp", "a.example/", "a.example:53/icmp", "a*.example", "*.*.example", "*.", "a b", "a\x00b.example",
		"10.0.0.1/8", "10.0.0.0/33", "1.2.3", "0x7f.1", "256.1.1.1", "[::1", "fe80::1%eth0", "::ffff:10.0.0.0/104",
		"a.example:443:80", "http://a.example", strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "example",
	} {
		r, err := ParseRule(Allow, in)
		if !errors.Is(err, fault.Usage) {
			t.Errorf("%q: %s, %v", in, r, err)
		}
	}
}

func set(t *testing.T, rules ...string) *Set {
	t.Helper()
	s, err := NewSet()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range rules {
		action := Allow
		if rest, ok := strings.CutPrefix(text, "!"); ok {
			action, text = Deny, rest
		}
		r, err := ParseRule(action, text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestName(t *testing.T) {
	s := set(t, "a.example", "*.b.example", "c.example:22,443", "!x.b.example", "!c.example:443", "10.0.0.0/8")
	for name, want := range map[string]bool{
		"a.example": true, "b.example": false, "y.b.example": true, "z.y.b.example": true, "x.b.example": false,
		"xa.example": false, "a.example.com": false, "c.example": true, "10.0.0.1": false, "example": false,
	} {
		if got := s.Name(name); got.Allowed != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if set(t, "*", "!bad.example").Name("bad.example").Allowed {
		t.Error("a deny rule does not win over *")
	}
	if !set(t, "*", "!bad.example:22").Name("bad.example").Allowed {
		t.Error("a deny rule for one port hides the name from the others")
	}
}

func TestFlow(t *testing.T) {
	s := set(t, "a.example", "*.b.example:*", "10.1.0.0/16:5432", "lan.example:5432", "!198.51.100.0/24", "dns.example:53/udp", "192.0.2.9/icmp", "!y.b.example:22")
	for _, c := range []struct {
		proto Proto
		name  string
		addr  string
		port  uint16
		want  bool
	}{
		{TCP, "a.example", "203.0.113.1", 443, true},
		{TCP, "a.example", "", 443, true},
		{TCP, "a.example", "203.0.113.1", 22, false},
		{UDP, "a.example", "203.0.113.1", 443, false},
		{TCP, "", "203.0.113.1", 443, false},
		{TCP, "x.b.example", "203.0.113.1", 22, true},
		{TCP, "y.b.example", "203.0.113.1", 22, false},
		{TCP, "y.b.example", "203.0.113.1", 23, true},
		{TCP, "", "10.1.2.3", 5432, true},
		{TCP, "", "10.1.2.3", 80, false},
		{TCP, "", "10.2.2.3", 5432, false},
		{TCP, "lan.example", "10.1.2.3", 5432, true},
		{TCP, "lan.example", "10.2.2.3", 5432, false},
		{TCP, "lan.example", "127.0.0.1", 5432, false},
		{TCP, "a.example", "127.0.0.1", 443, false},
		{TCP, "a.example", "169.254.169.254", 80, false},
		{TCP, "a.example", "::1", 443, false},
		{TCP, "a.example", "::ffff:127.0.0.1", 443, false},
		{TCP, "a.example", "0.0.0.0", 443, false},
		{TCP, "a.example", "fe80::1", 443, false},
		{TCP, "a.example", "198.51.100.7", 443, false},
		{UDP, "dns.example", "203.0.113.1", 53, true},
		{TCP, "dns.example", "203.0.113.1", 53, false},
		{ICMP, "", "192.0.2.9", 0, true},
		{ICMP, "", "192.0.2.8", 0, false},
	} {
		f := Flow{Proto: c.proto, Name: c.name, Port: c.port}
		if c.addr != "" {
			f.Addr = netip.MustParseAddr(c.addr)
		}
		if got := s.Flow(f); got.Allowed != c.want {
			t.Errorf("%v: %+v, want %v", c, got, c.want)
		}
		if f.Addr.IsValid() && f.Name != "" {
			f.Own = true
			if got := s.Flow(f); got.Allowed && c.name != "lan.example" {
				t.Errorf("%v: it leads to the host's own address", c)
			}
		}
	}
	all := set(t, "*:*")
	for addr, want := range map[string]bool{"203.0.113.1": true, "10.0.0.1": false, "169.254.169.254": false, "127.0.0.1": false} {
		if got := all.Flow(Flow{Proto: TCP, Addr: netip.MustParseAddr(addr), Port: 80}); got.Allowed != want {
			t.Errorf("* and %s: %v", addr, got)
		}
	}
}

func TestSetChanges(t *testing.T) {
	s := set(t, "a.example", "b.example")
	rule := func(text string) Rule {
		r, err := ParseRule(Allow, text)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if err := s.Remove(1, 7); err == nil || len(s.Rules()) != 2 {
		t.Errorf("half removed: %v, %v", err, s.Rules())
	}
	added, err := s.Add(rule("b.example"), rule("c.example"))
	if err != nil || added[0].ID != 2 || added[1].ID != 3 {
		t.Errorf("added %v, %v", added, err)
	}
	if err := s.Replace(rule("c.example"), rule("d.example")); err != nil {
		t.Fatal(err)
	}
	if got := s.Rules(); len(got) != 2 || got[0].ID != 3 || got[1].ID != 4 {
		t.Errorf("replaced: %v", got)
	}
	if s.Name("a.example").Allowed || !s.Name("d.example").Allowed {
		t.Error("the decisions are of other rules")
	}
	if err := s.Remove(3, 4); err != nil || s.Name("d.example").Allowed {
		t.Errorf("removed: %v", err)
	}
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{"*.a.example:1-2,3/udp", "[::1]:22", "10.0.0.0/8/icmp", "ü.example"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, action := range []Action{Allow, Deny} {
			r, err := ParseRule(action, text)
			if err != nil {
				continue
			}
			again, err := ParseRule(action, r.String())
			if err != nil || again.String() != r.String() {
				t.Fatalf("%q is %s, which is %s, %v", text, r, again, err)
			}
			if r.Name != "" {
				if c, err := CanonicalName(r.Name); err != nil || c != r.Name {
					t.Fatalf("%q: the name %q is not canonical", text, r.Name)
				}
			}
		}
	})
}

func FuzzCanonicalName(f *testing.F) {
	f.Add("A.example.")
	f.Fuzz(func(t *testing.T, name string) {
		c, err := CanonicalName(name)
		if err != nil {
			return
		}
		if again, err := CanonicalName(c); err != nil || again != c || strings.ToLower(c) != c || len(c) > maxName {
			t.Fatalf("%q: %q, %q, %v", name, c, again, err)
		}
	})
}

func BenchmarkFlow10000(b *testing.B) {
	s, _ := NewSet()
	var rules []Rule
	for i := range 10_000 {
		r, err := ParseRule(Allow, "*.h"+strings.Repeat("x", i%40)+string(rune('a'+i%26))+".example")
		if err != nil {
			b.Fatal(err)
		}
		rules = append(rules, r)
	}
	if _, err := s.Add(rules...); err != nil {
		b.Fatal(err)
	}
	f := Flow{Proto: TCP, Name: "deep.down.hxxb.example", Addr: netip.MustParseAddr("203.0.113.1"), Port: 443}
	for b.Loop() {
		s.Flow(f)
	}
}
