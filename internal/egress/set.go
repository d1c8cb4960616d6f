package egress

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// Mode says what becomes of a flow that no rule allows.
type Mode uint8

// The modes. Open needs no gateway and no Set.
const (
	Open    Mode = iota
	Log          // it passes; the log says that it would have been denied
	Enforce      // it is denied: "deny" on the command line
)

// Entry is a rule of a set, with its id.
type Entry struct {
	ID     int    `json:"id"`
	Action Action `json:"action"`
	Text   string `json:"rule"` // see [Rule.String]
	Rule   Rule   `json:"-"`
}

func newEntry(id int, r Rule) Entry { return Entry{id, r.Action, r.String(), r} }

// Verdict is the answer to whether something may pass.
type Verdict struct {
	Allowed bool
	// Rule is the rule that decided, nil where none did.
	Rule *Entry
	// Reason is why, in few words, where no rule says it; "" otherwise.
	Reason string
}

// Reasons of a verdict without a rule.
const (
	NoRule       = "no rule allows it"
	SpecialAddr  = "the name leads to a private or local address, which takes a rule for the address besides"
	UnusableName = "the name can't be compared"
)

// MostRules bounds a set.
const MostRules = 100_000

var errTooMany = fault.New(fault.Usage, fmt.Sprintf("more than %d egress rules", MostRules), "")

// Set is the rules of one instance. Its methods may be called concurrently; a decision sees the
// rules of one moment and waits for nobody.
type Set struct {
	mu   sync.Mutex // of changes
	list []Entry    // in the order of their ids
	last int
	now  atomic.Pointer[index]
}

// NewSet returns a set with these rules, in this order.
func NewSet(rules ...Rule) (*Set, error) {
	s := &Set{}
	s.now.Store(newIndex(nil))
	_, err := s.Add(rules...)
	return s, err
}

// Rules returns the rules in the order of their ids.
func (s *Set) Rules() []Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Entry(nil), s.list...)
}

// Add adds rules, all or none. A rule that is there already keeps its id.
func (s *Set) Add(rules ...Rule) ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have := s.byText()
	list, last := append([]Entry(nil), s.list...), s.last
	var added []Entry
	for _, r := range rules {
		key := ruleKey(r)
		e, ok := have[key]
		if !ok {
			last++
			e = newEntry(last, r)
			have[key] = e
			list = append(list, e)
		}
		added = append(added, e)
	}
	if len(list) > MostRules {
		return nil, errTooMany
	}
	s.replace(list, last)
	return added, nil
}

// NotFound is the failure that a set has no such rule.
func NotFound(rule string) error {
	return fault.Errorf(fault.NotFound, "", "there is no egress rule %s", rule)
}

// Remove removes rules by id, all or none.
func (s *Set) Remove(ids ...int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := map[int]bool{}
	for _, id := range ids {
		gone[id] = true
	}
	var list []Entry
	for _, e := range s.list {
		if !gone[e.ID] {
			list = append(list, e)
			continue
		}
		gone[e.ID] = false
	}
	for _, id := range ids {
		if gone[id] {
			return NotFound(fmt.Sprint(id))
		}
	}
	s.replace(list, s.last)
	return nil
}

// Replace makes the rules exactly these. Those that were there keep their ids.
func (s *Set) Replace(rules ...Rule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(rules) > MostRules {
		return errTooMany
	}
	have, want := s.byText(), map[string]bool{}
	for _, r := range rules {
		want[ruleKey(r)] = true
	}
	var list []Entry
	for _, e := range s.list {
		if want[ruleKey(e.Rule)] {
			list = append(list, e)
		}
	}
	last := s.last
	for _, r := range rules {
		key := ruleKey(r)
		if _, ok := have[key]; !ok {
			last++
			e := newEntry(last, r)
			have[key] = e
			list = append(list, e)
		}
	}
	s.replace(list, last)
	return nil
}

func (s *Set) byText() map[string]Entry {
	have := make(map[string]Entry, len(s.list))
	for _, e := range s.list {
		have[ruleKey(e.Rule)] = e
	}
	return have
}

func ruleKey(r Rule) string { return fmt.Sprint(r.Action, " ", r.String(), " ", r.Unchecked) }

func (s *Set) replace(list []Entry, last int) {
	s.list, s.last = list, last
	s.now.Store(newIndex(list))
}

// Name says whether a name may be looked up: a rule allows it on some port, and none denies it on
// every port that is allowed. name is as [CanonicalName] returns it.
func (s *Set) Name(name string) Verdict {
	x := s.now.Load()
	v := Verdict{Reason: NoRule}
	x.allow.named(name, func(e *Entry) bool {
		if d := x.deny.whole(name, e); d != nil {
			v = Verdict{Rule: d}
			return true
		}
		v = Verdict{Allowed: true, Rule: e}
		return false
	})
	return v
}

// Flow is one connection, datagram flow or echo request that leaves.
type Flow struct {
	Proto Proto
	// Name is the name that was asked for, "" where there was none.
	Name string
	// Addr is the address it goes to; invalid while Name is not resolved.
	Addr netip.Addr
	// Port is 0 for ICMP.
	Port uint16
	// Own says that Addr is one of the host's own addresses.
	Own bool
}

// Flow says whether a flow may pass. With a name, the rules for names and * decide, the deny
// rules for addresses are heeded, and an address that is [Special] or the host's own needs a rule
// for the address besides. Without a name, rules for addresses decide, and * for those that are
// not special.
func (s *Set) Flow(f Flow) Verdict {
	x := s.now.Load()
	first := func(t *table, by func(*table, func(*Entry) bool)) (found *Entry) {
		by(t, func(e *Entry) bool {
			if e.Rule.covers(f.Proto, f.Port) {
				found = e
			}
			return found == nil
		})
		return found
	}
	byName := func(t *table, visit func(*Entry) bool) { t.named(f.Name, visit) }
	byAddr := func(t *table, visit func(*Entry) bool) { t.addressed(f.Addr, visit) }
	special := f.Addr.IsValid() && (f.Own || Special(f.Addr))

	if f.Name != "" {
		if d := first(&x.deny, byName); d != nil {
			return Verdict{Rule: d}
		}
	} else if d := first(&x.deny, func(t *table, visit func(*Entry) bool) { each(t.any, visit) }); d != nil {
		return Verdict{Rule: d}
	}
	if f.Addr.IsValid() {
		if d := first(&x.deny, byAddr); d != nil {
			return Verdict{Rule: d}
		}
	}
	if f.Name == "" {
		if a := first(&x.allow, byAddr); a != nil {
			return Verdict{Allowed: true, Rule: a}
		}
		if special {
			return Verdict{Reason: NoRule}
		}
		if a := first(&x.allow, func(t *table, visit func(*Entry) bool) { each(t.any, visit) }); a != nil {
			return Verdict{Allowed: true, Rule: a}
		}
		return Verdict{Reason: NoRule}
	}
	a := first(&x.allow, byName)
	if a == nil {
		return Verdict{Reason: NoRule}
	}
	if special && first(&x.allow, byAddr) == nil {
		return Verdict{Rule: a, Reason: SpecialAddr}
	}
	return Verdict{Allowed: true, Rule: a}
}

// index is the rules of one moment, laid out for look-ups.
type index struct{ allow, deny table }

// table finds the rules of one action.
type table struct {
	names, suffixes map[string][]*Entry
	nets            map[netip.Prefix][]*Entry
	bits            map[bool][]int // the lengths of the prefixes in nets, by Is4
	any             []*Entry
}

func newIndex(list []Entry) *index {
	x := &index{}
	for _, t := range []*table{&x.allow, &x.deny} {
		t.names, t.suffixes, t.nets, t.bits = map[string][]*Entry{}, map[string][]*Entry{}, map[netip.Prefix][]*Entry{}, map[bool][]int{}
	}
	seen := map[*table]map[[2]int]bool{&x.allow: {}, &x.deny: {}}
	for i := range list {
		e := &list[i]
		t := &x.allow
		if e.Action == Deny {
			t = &x.deny
		}
		switch {
		case e.Rule.Any:
			t.any = append(t.any, e)
		case e.Rule.Suffix:
			t.suffixes[e.Rule.Name] = append(t.suffixes[e.Rule.Name], e)
		case e.Rule.Name != "":
			t.names[e.Rule.Name] = append(t.names[e.Rule.Name], e)
		default:
			t.nets[e.Rule.Prefix] = append(t.nets[e.Rule.Prefix], e)
			is4 := e.Rule.Prefix.Addr().Is4()
			family := 6
			if is4 {
				family = 4
			}
			if key := [2]int{family, e.Rule.Prefix.Bits()}; !seen[t][key] {
				seen[t][key] = true
				t.bits[is4] = append(t.bits[is4], e.Rule.Prefix.Bits())
			}
		}
	}
	return x
}

// each visits entries until visit returns false, and reports whether it always returned true.
func each(entries []*Entry, visit func(*Entry) bool) bool {
	for _, e := range entries {
		if !visit(e) {
			return false
		}
	}
	return true
}

// named visits the rules that match a name: its own, those of its suffixes, and *.
func (t *table) named(name string, visit func(*Entry) bool) bool {
	if !each(t.names[name], visit) {
		return false
	}
	for rest := name; len(t.suffixes) > 0; {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		if !each(t.suffixes[rest], visit) {
			return false
		}
	}
	return each(t.any, visit)
}

// addressed visits the rules for networks that have an address.
func (t *table) addressed(a netip.Addr, visit func(*Entry) bool) bool {
	for _, bits := range t.bits[a.Is4()] {
		if p, err := a.Prefix(bits); err == nil && !each(t.nets[p], visit) {
			return false
		}
	}
	return true
}

// whole returns a rule of t that matches name and covers all that e allows, or nil.
func (t *table) whole(name string, e *Entry) (found *Entry) {
	t.named(name, func(d *Entry) bool {
		if d.Rule.Proto != AnyProto && d.Rule.Proto != e.Rule.Proto {
			return true
		}
		for _, p := range e.Rule.Ports {
			covered := false
			for _, q := range d.Rule.Ports {
				covered = covered || q.First <= p.First && q.Last >= p.Last
			}
			if !covered {
				return true
			}
		}
		found = d
		return false
	})
	return found
}
