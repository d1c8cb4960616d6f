package egress

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
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
	return slices.Clone(s.list)
}

// Add adds rules, all or none. A rule that is there already keeps its id.
func (s *Set) Add(rules ...Rule) ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.extend(slices.Clone(s.list), rules)
}

// extend makes the rules those of list, which it owns, and rules. It returns the entries of rules. The caller holds s.mu.
func (s *Set) extend(list []Entry, rules []Rule) ([]Entry, error) {
	have := make(map[string]Entry, len(list))
	for _, e := range list {
		have[ruleKey(e.Rule)] = e
	}
	last := s.last
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
	list := slices.Clone(s.list)
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		i, found := slices.BinarySearchFunc(list, id, func(e Entry, id int) int { return cmp.Compare(e.ID, id) })
		if !found {
			return NotFound(fmt.Sprint(id))
		}
		list = slices.Delete(list, i, i+1)
	}
	s.replace(list, s.last)
	return nil
}

// Replace makes the rules exactly these. Those that were there keep their ids.
func (s *Set) Replace(rules ...Rule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := map[string]bool{}
	for _, r := range rules {
		want[ruleKey(r)] = true
	}
	_, err := s.extend(slices.DeleteFunc(slices.Clone(s.list), func(e Entry) bool { return !want[ruleKey(e.Rule)] }), rules)
	return err
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
	for e := range x.allow.named(name) {
		d := x.deny.whole(name, e)
		if d == nil {
			return Verdict{Allowed: true, Rule: e}
		}
		v = Verdict{Rule: d}
	}
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
	if d := first(x.deny.named(f.Name), f); d != nil {
		return Verdict{Rule: d}
	}
	if d := first(x.deny.addressed(f.Addr), f); d != nil {
		return Verdict{Rule: d}
	}
	byAddr := first(x.allow.addressed(f.Addr), f)
	if f.Name == "" && byAddr != nil {
		return Verdict{Allowed: true, Rule: byAddr}
	}
	special := f.Addr.IsValid() && (f.Own || Special(f.Addr))
	byName := first(x.allow.named(f.Name), f)
	switch {
	case byName == nil, f.Name == "" && special:
		return Verdict{Reason: NoRule}
	case special && byAddr == nil:
		return Verdict{Rule: byName, Reason: SpecialAddr}
	}
	return Verdict{Allowed: true, Rule: byName}
}

// first returns the first of rules that covers a flow's protocol and port, or nil.
func first(rules iter.Seq[*Entry], f Flow) *Entry {
	for e := range rules {
		if e.Rule.covers(f.Proto, f.Port) {
			return e
		}
	}
	return nil
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
	for i := range list {
		e := &list[i]
		t := &x.allow
		if e.Action == Deny {
			t = &x.deny
		}
		switch r := &e.Rule; {
		case r.Any:
			t.any = append(t.any, e)
		case r.Suffix:
			t.suffixes[r.Name] = append(t.suffixes[r.Name], e)
		case r.Name != "":
			t.names[r.Name] = append(t.names[r.Name], e)
		default:
			t.nets[r.Prefix] = append(t.nets[r.Prefix], e)
			if is4 := r.Prefix.Addr().Is4(); !slices.Contains(t.bits[is4], r.Prefix.Bits()) {
				t.bits[is4] = append(t.bits[is4], r.Prefix.Bits())
			}
		}
	}
	return x
}

// each yields entries, and reports whether all were wanted.
func each(entries []*Entry, yield func(*Entry) bool) bool {
	for _, e := range entries {
		if !yield(e) {
			return false
		}
	}
	return true
}

// named yields the rules that match a name: its own, those of its suffixes, and *. Without a name, that is *.
func (t *table) named(name string) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		if !each(t.names[name], yield) {
			return
		}
		for _, parent, ok := strings.Cut(name, "."); ok && len(t.suffixes) > 0; _, parent, ok = strings.Cut(parent, ".") {
			if !each(t.suffixes[parent], yield) {
				return
			}
		}
		each(t.any, yield)
	}
}

// addressed yields the rules for networks that have an address, none for an invalid one.
func (t *table) addressed(a netip.Addr) iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		for _, bits := range t.bits[a.Is4()] {
			if p, err := a.Prefix(bits); err == nil && !each(t.nets[p], yield) {
				return
			}
		}
	}
}

// whole returns a rule of t that matches name and covers all that e allows, or nil.
func (t *table) whole(name string, e *Entry) *Entry {
	for d := range t.named(name) {
		if d.Rule.coversAll(&e.Rule) {
			return d
		}
	}
	return nil
}
