package egress

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func tcpRecord(verdict, reason, name, ip string, port uint16) Record {
	return Record{Verdict: verdict, Reason: reason, Proto: "tcp", Name: name, IP: ip, Port: port}
}

func TestDenials(t *testing.T) {
	w := NewRecorder(io.Discard)
	for i := range 3 * mostDenials {
		for range 2 {
			w.Write(tcpRecord(Denied, NoRule, "", fmt.Sprintf("192.0.2.%d", i), 443))
		}
	}
	list, more := w.Denials()
	if len(list) != mostDenials || more != 4*mostDenials || list[1] != (Denial{"192.0.2.1:443/tcp", 2, NoRule, "192.0.2.1:443/tcp"}) {
		t.Errorf("%d others besides %+v", more, list)
	}
	w = NewRecorder(io.Discard)
	w.Write(tcpRecord(Denied, SpecialAddr, "www.example", "10.1.2.3", 443))
	w.Write(NameRecord("evil.example", Verdict{Reason: NoRule}, time.Now()))
	deny, err := ParseRule(Deny, "10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	rule := newEntry(1, deny)
	w.Write(NewRecord(Enforce, Flow{Proto: UDP, Addr: netip.MustParseAddr("10.1.2.3"), Port: 53}, Verdict{Rule: &rule}, time.Now()))
	list, _ = w.Denials()
	for i, want := range []Denial{
		{Target: "www.example:443/tcp", Times: 1, Reason: "10.1.2.3: " + SpecialAddr},
		{Target: "evil.example", Times: 1, Reason: NoRule, Allow: "evil.example"},
		{Target: "10.1.2.3:53/udp", Times: 1, Reason: "the rule deny 10.0.0.0/8"},
	} {
		if list[i] != want {
			t.Errorf("%+v, want %+v", list[i], want)
		}
	}
}

// A policy of more than is remembered says that it is not complete; one of as much does not.
func TestRecordedPolicyIsBounded(t *testing.T) {
	for over, complete := range []bool{true, false} {
		w := NewRecorder(io.Discard)
		for i := range mostPassed + over {
			for range 2 {
				w.Write(tcpRecord(Allowed, "", fmt.Sprintf("n%d.example", i/1000), "", uint16(i%1000+1)))
			}
		}
		rules, all := w.Policy(false)
		var b bytes.Buffer
		if err := WritePolicy(&b, rules, all); err != nil {
			t.Fatal(err)
		}
		if len(rules) != mostPassed/1000 || all != complete || strings.HasPrefix(b.String(), "# Not complete") == complete {
			t.Errorf("%d more: %d rules, complete %v: %.100s", over, len(rules), all, b.String())
		}
		p, err := ReadPolicy("x.yaml", func(string) ([]byte, error) { return b.Bytes(), nil })
		if err != nil || len(p.Rules) != len(rules) {
			t.Errorf("read back: %+v, %v", p, err)
		}
	}
}
