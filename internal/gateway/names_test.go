package gateway

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestNames(t *testing.T) {
	n := newNames()
	first := n.addr("first.example")
	if again := n.addr("first.example"); again != first || n.name(first) != "first.example" {
		t.Fatalf("%s, then %s, which is %q", first, again, n.name(first))
	}
	seen := map[netip.Addr]bool{first: true}
	for i := range mostNames - 1 {
		name := fmt.Sprintf("n%d.example", i)
		a := n.addr(name)
		if seen[a] || !fakeNet.Contains(a) || n.name(a) != name {
			t.Fatalf("%s is %s", name, a)
		}
		seen[a] = true
	}
	if n.name(first) == "" {
		t.Fatal("the first made room before the bound")
	}
	// It was used last: the second makes room.
	if a := n.addr("more.example"); !seen[a] || a == first || n.name(a) != "more.example" || n.name(first) != "first.example" {
		t.Errorf("more.example is %s", a)
	}
	for i := range 2 * mostNames {
		if a := n.addr(fmt.Sprintf("flood%d.example", i)); !seen[a] {
			t.Fatalf("a new address %s", a)
		}
	}
	if len(n.byName) != mostNames || len(n.byAddr) != mostNames || n.used.Len() != mostNames {
		t.Errorf("%d, %d, %d", len(n.byName), len(n.byAddr), n.used.Len())
	}
	if a := netip.MustParseAddr("192.0.2.1"); n.name(a) != "" {
		t.Errorf("%s has a name", a)
	}
}

func TestLearn(t *testing.T) {
	n := newNames()
	a := netip.MustParseAddr("192.0.2.1")
	n.learn("a.example", a)
	n.learn("b.example", a) // shared: the last one counts
	n.learn("b.example", a.Next())
	if n.name(a) != "b.example" || n.name(a.Next()) != "b.example" {
		t.Errorf("%q, %q", n.name(a), n.name(a.Next()))
	}
	for range 2 * mostNames {
		a = a.Next()
		n.learn("flood.example", a)
	}
	if len(n.byAddr) != mostNames || n.used.Len() != mostNames {
		t.Errorf("%d, %d", len(n.byAddr), n.used.Len())
	}
}
