package gateway

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// records is what a policy has recorded.
type records struct {
	mu   sync.Mutex
	list []egress.Record
}

func (r *records) add(rec egress.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, rec)
}

func (r *records) last() egress.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return egress.Record{}
	}
	return r.list[len(r.list)-1]
}

// testPolicy returns a policy with rules; those that begin with "!" deny.
func testPolicy(t testing.TB, mode egress.Mode, rules ...string) (*Policy, *records) {
	t.Helper()
	var list []egress.Rule
	for _, text := range rules {
		action, text := egress.Allow, text
		if rest, deny := strings.CutPrefix(text, "!"); deny {
			action, text = egress.Deny, rest
		}
		r, err := egress.ParseRule(action, text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	set, err := egress.NewSet(list...)
	if err != nil {
		t.Fatal(err)
	}
	rec := &records{}
	return NewPolicy(set, mode, subnet.Default(), rec.add), rec
}

// testDNS returns a name server whose host answers every question with the address 192.0.2.7, and what that was
// asked.
func testDNS(t testing.TB, mode egress.Mode, rules ...string) (*nameServer, *[][]byte, *records) {
	p, rec := testPolicy(t, mode, rules...)
	s := newNameServer(nil, nil, p)
	asked := &[][]byte{}
	s.ask = func(query []byte, _ bool) ([]byte, error) {
		*asked = append(*asked, query)
		var m dnsmessage.Message
		if err := m.Unpack(query); err != nil {
			return nil, err
		}
		m.Response, m.Additionals = true, nil
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}},
		}}
		return m.Pack()
	}
	return s, asked, rec
}

func query(t testing.TB, name string, typ dnsmessage.Type) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true, CheckingDisabled: true, AuthenticData: true},
		Questions: []dnsmessage.Question{{Name: n, Type: typ, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: 4096},
			Body:   &dnsmessage.OPTResource{Options: []dnsmessage.Option{{Code: 65001, Data: []byte("smuggled")}}},
		}},
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unpack(t *testing.T, b []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil {
		t.Fatalf("%v: %x", err, b)
	}
	if !m.Response || m.ID != 4711 {
		t.Errorf("no answer to the query: %+v", m.Header)
	}
	return m
}

func TestDNSAllowed(t *testing.T) {
	s, asked, rec := testDNS(t, egress.Enforce, "www.example", "*.sub.example")
	var addr netip.Addr
	for _, name := range []string{"www.example.", "WWW.eXample.", "www.example."} {
		m := unpack(t, s.answer(query(t, name, dnsmessage.TypeA), false))
		if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 1 || m.Questions[0].Name.String() != name {
			t.Fatalf("%s: %+v", name, m)
		}
		a := netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A)
		if !fakeNet.Contains(a) || addr.IsValid() && a != addr {
			t.Errorf("%s: %s, before %s", name, a, addr)
		}
		addr = a
	}
	if s.policy.names.name(addr) != "www.example" {
		t.Errorf("%s is %q", addr, s.policy.names.name(addr))
	}
	for _, typ := range []dnsmessage.Type{dnsmessage.TypeAAAA, typeHTTPS, typeSVCB, dnsmessage.TypeALL} {
		m := unpack(t, s.answer(query(t, "a.b.sub.example.", typ), false))
		if m.RCode != dnsmessage.RCodeSuccess || len(m.Answers)+len(m.Authorities)+len(m.Additionals) != 0 {
			t.Errorf("%v: %+v", typ, m)
		}
	}
	if len(*asked) != 0 || len(rec.list) != 0 {
		t.Errorf("asked: %x; recorded: %+v", *asked, rec.list)
	}
}

func TestDNSDenied(t *testing.T) {
	s, asked, rec := testDNS(t, egress.Enforce, "*.example", "!bad.example")
	for name, recorded := range map[string]string{
		"example.": "example", "other.test.": "other.test", "BAD.example.": "bad.example", ".": ".",
		"secret-data.www.example.evil.test.": "secret-data.www.example.evil.test",
		"www.example\x00.":                   `www.example\x00.`, "a b.example.": "a b.example.", "www.ex\u00e4mple.": `www.ex\u00e4mple.`,
		strings.Repeat("a", 63) + ".test.": strings.Repeat("a", 63) + ".test",
	} {
		for _, typ := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeTXT, dnsmessage.TypeAAAA, 65280} {
			m := unpack(t, s.answer(query(t, name, typ), false))
			if m.RCode != dnsmessage.RCodeNameError || len(m.Answers) != 0 || len(m.Additionals) != 1 {
				t.Fatalf("%q, %v: %+v", name, typ, m)
			}
			o := m.Additionals[0].Body.(*dnsmessage.OPTResource).Options
			if len(o) != 1 || o[0].Code != 15 || binary.BigEndian.Uint16(o[0].Data) != 15 {
				t.Errorf("%q: no Extended DNS Error 15: %+v", name, o)
			}
			if r := rec.last(); r.Name != recorded || r.Verdict != egress.Denied || r.Proto != "dns" {
				t.Errorf("%q: recorded %+v", name, r)
			}
		}
	}
	// Who asks without an OPT record gets none.
	plain := query(t, "other.test.", dnsmessage.TypeA)
	plain = plain[:bytes.Index(plain, []byte("\x04test\x00"))+10]
	plain[11] = 0
	if m := unpack(t, s.answer(plain, false)); m.RCode != dnsmessage.RCodeNameError || len(m.Additionals) != 0 {
		t.Errorf("without OPT: %+v", m)
	}
	// Another class than the Internet's.
	q := query(t, "www.example.", dnsmessage.TypeTXT)
	i := bytes.Index(q, []byte("\x07example\x00")) + 9
	q[i+3] = 3
	if m := unpack(t, s.answer(q, false)); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("class CH: %+v", m)
	}
	if len(*asked) != 0 {
		t.Errorf("the host was asked: %q", *asked)
	}
}

// What is asked of the host is made anew.
func TestDNSForwarded(t *testing.T) {
	s, asked, _ := testDNS(t, egress.Enforce, "*.example")
	ids := map[uint16]bool{}
	for _, typ := range []dnsmessage.Type{dnsmessage.TypeMX, dnsmessage.TypeTXT, dnsmessage.TypeSRV, dnsmessage.TypePTR, 65280} {
		*asked = nil
		m := unpack(t, s.answer(query(t, "wWw.EXAMPLE.", typ), false))
		if len(m.Answers) != 1 || len(*asked) != 1 {
			t.Fatalf("%v: %+v", typ, m)
		}
		var q dnsmessage.Message
		if err := q.Unpack((*asked)[0]); err != nil {
			t.Fatal(err)
		}
		ids[q.ID] = true
		want := dnsmessage.Question{Name: dnsmessage.MustNewName("www.example."), Type: typ, Class: dnsmessage.ClassINET}
		if q.Header != (dnsmessage.Header{ID: q.ID, RecursionDesired: true}) || len(q.Questions) != 1 || q.Questions[0] != want || len(q.Additionals) != 0 {
			t.Errorf("asked %+v", q)
		}
		if len((*asked)[0]) != 12+13+4 || bytes.Contains((*asked)[0], []byte("smuggled")) {
			t.Errorf("more than a question leaves: %q", (*asked)[0])
		}
	}
	if len(ids) < 2 {
		t.Errorf("the ids are always the same, the guest's choice: %v", ids)
	}
	// An answer to something else is none.
	s.ask = func(q []byte, _ bool) ([]byte, error) { q[0]++; return q, nil }
	if m := unpack(t, s.answer(query(t, "www.example.", dnsmessage.TypeMX), false)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("%+v", m)
	}
	s.ask = func([]byte, bool) ([]byte, error) { return []byte("short"), nil }
	if m := unpack(t, s.answer(query(t, "www.example.", dnsmessage.TypeMX), false)); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("%+v", m)
	}
}

func TestDNSMalformed(t *testing.T) {
	for _, mode := range []egress.Mode{egress.Enforce, egress.Log} {
		s, asked, _ := testDNS(t, mode, "*.example")
		good := query(t, "www.example.", dnsmessage.TypeMX)
		edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
		for name, q := range map[string][]byte{
			"empty": {}, "short": good[:11],
			"a response": edit(func(b []byte) []byte { b[2] |= 0x80; return b }),
		} {
			if a := s.answer(q, false); a != nil {
				t.Errorf("%s: answered %x", name, a)
			}
		}
		for name, q := range map[string][]byte{
			"no question":    edit(func(b []byte) []byte { b[5] = 0; return b }),
			"two questions":  edit(func(b []byte) []byte { b[5] = 2; return append(b[:12:12], append(bytes.Clone(b[12:29]), b[12:]...)...) }),
			"half a name":    good[:15],
			"a loop":         edit(func(b []byte) []byte { b[12], b[13] = 0xc0, 12; return b }),
			"dot in a label": edit(func(b []byte) []byte { b[14] = '.'; return b }),
			"an update":      edit(func(b []byte) []byte { b[2] |= 5 << 3; return b }),
			"a notify":       edit(func(b []byte) []byte { b[2] |= 4 << 3; return b }),
		} {
			if m := unpack(t, s.answer(q, false)); m.RCode != dnsmessage.RCodeFormatError {
				t.Errorf("%s: %+v", name, m)
			}
		}
		if len(*asked) != 0 {
			t.Errorf("the host was asked: %x", *asked)
		}
	}
}

func TestDNSLogLearns(t *testing.T) {
	s, asked, rec := testDNS(t, egress.Log)
	q := query(t, "wWw.example.", dnsmessage.TypeA)
	m := unpack(t, s.answer(q, false))
	if len(m.Answers) != 1 || len(*asked) != 1 || !bytes.Equal((*asked)[0], q) {
		t.Errorf("%+v; asked %x", m, *asked)
	}
	if name := s.policy.names.name(netip.MustParseAddr("192.0.2.7")); name != "www.example" {
		t.Errorf("learned %q", name)
	}
	if len(rec.list) != 0 {
		t.Errorf("recorded %+v", rec.list)
	}
}

// Clients that hold connections for nothing leave queries over UDP their answers, and don't hold up the end.
func TestDNSHeldConnections(t *testing.T) {
	s, _, _ := testDNS(t, egress.Enforce, "www.example")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.udp, s.tcp = udp, tcp
	var running sync.WaitGroup
	running.Go(s.serveUDP)
	running.Go(s.serveTCP)
	for range dnsAtOnce + 1 {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	waitUntil(t, "they are accepted", func() bool { return len(s.conns) == dnsAtOnce })
	c, err := net.Dial("udp", udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 512)
	waitUntil(t, "a query over UDP is answered", func() bool {
		_, _ = c.Write(query(t, "www.example.", dnsmessage.TypeA))
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(buf)
		return err == nil && n > 12
	})
	began := time.Now()
	s.close()
	running.Wait()
	if took := time.Since(began); took > dnsIdle/2 {
		t.Errorf("the end took %v", took)
	}
}

func FuzzDNS(f *testing.F) {
	f.Add(query(f, "www.example.", dnsmessage.TypeA))
	f.Add(query(f, "www.example.", dnsmessage.TypeTXT))
	f.Add(query(f, "other.test.", dnsmessage.TypeA))
	f.Fuzz(func(t *testing.T, q []byte) {
		s, asked, _ := testDNS(t, egress.Enforce, "www.example", "*.sub.example")
		s.answer(q, false)
		for _, out := range *asked {
			var m dnsmessage.Message
			if err := m.Unpack(out); err != nil || len(m.Questions) != 1 {
				t.Fatalf("%v: %x", err, out)
			}
			name := strings.TrimSuffix(m.Questions[0].Name.String(), ".")
			if name != strings.ToLower(name) || name != "www.example" && !strings.HasSuffix(name, ".sub.example") || len(out) != 12+len(name)+2+4 {
				t.Fatalf("asked %x for %x", out, q)
			}
		}
		l, _, _ := testDNS(t, egress.Log)
		l.answer(q, true)
		l.learn(q)
	})
}
