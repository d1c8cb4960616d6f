package egress

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Record is one line of the egress log: a connection, a flow of datagrams, or a name that could not be
// looked up.
type Record struct {
	Time       time.Time `json:"time"`
	Verdict    string    `json:"verdict"`        // Allowed, Denied or WouldBeDenied
	Rule       string    `json:"rule,omitempty"` // that decided, with its action
	Proto      string    `json:"proto"`          // tcp, udp, icmp or dns
	Name       string    `json:"name,omitempty"` // that was asked for
	IP         string    `json:"ip,omitempty"`
	Port       uint16    `json:"port,omitempty"`
	BytesIn    int64     `json:"bytesIn"`
	BytesOut   int64     `json:"bytesOut"`
	DurationMs int64     `json:"durationMs"`
	Reason     string    `json:"reason,omitempty"` // of a verdict without a rule, or of a failure
}

// Verdicts of a record. The last is that of mode [Log].
const (
	Allowed       = "allowed"
	Denied        = "denied"
	WouldBeDenied = "would be denied"
)

// NewRecord starts the record of a flow that got verdict v in a mode.
func NewRecord(mode Mode, f Flow, v Verdict, now time.Time) Record {
	r := Record{Time: now.UTC().Truncate(time.Millisecond), Verdict: Allowed, Proto: f.Proto.String(), Name: f.Name, Port: f.Port, Reason: v.Reason}
	if f.Addr.IsValid() {
		r.IP = f.Addr.String()
	}
	if v.Rule != nil {
		r.Rule = v.Rule.Action.String() + " " + v.Rule.Text
	}
	if !v.Allowed {
		r.Verdict = Denied
		if mode == Log {
			r.Verdict = WouldBeDenied
		}
	}
	return r
}

// NameRecord is the record of a name that may not be looked up.
func NameRecord(name string, v Verdict, now time.Time) Record {
	r := NewRecord(Enforce, Flow{Name: name}, v, now)
	r.Proto = "dns"
	return r
}

// End completes the record with what was carried.
func (r *Record) End(in, out int64, now time.Time) {
	r.BytesIn, r.BytesOut = in, out
	r.DurationMs = now.Sub(r.Time).Milliseconds()
}

// target is whom the record is about.
func (r *Record) target() Rule {
	t := Rule{Action: Allow, Proto: TCP, Ports: []Ports{{r.Port, r.Port}}}
	switch r.Proto {
	case "udp":
		t.Proto = UDP
	case "icmp":
		t.Proto, t.Ports = ICMP, everyPort
	case "dns":
		t.Ports = webPorts
	}
	if a, err := netip.ParseAddr(r.IP); r.Name == "" && err == nil {
		t.Prefix = netip.PrefixFrom(a, a.BitLen())
	}
	t.Name = r.Name
	return t
}

// Recorder writes records as lines of JSON and remembers what they were about. Its methods may be called
// concurrently.
type Recorder struct {
	mu     sync.Mutex
	out    io.Writer
	denied map[string]*Denial
	order  []string // of denied
	more   int      // denials that it had no room for
	passed map[subject]map[uint16]bool
	room   int // how many more ports passed may have; -1: some were left out
}

// subject is a target whose ports are collected for a policy.
type subject struct {
	proto  Proto
	name   string
	suffix bool
	addr   netip.Addr
}

// Bounds of what a Recorder remembers.
const (
	mostDenials = 20     // as many as are listed at the end of COMMAND
	mostPassed  = 10_000 // ports of targets
)

// NewRecorder returns a Recorder that writes to out.
func NewRecorder(out io.Writer) *Recorder {
	return &Recorder{out: out, denied: map[string]*Denial{}, passed: map[subject]map[uint16]bool{}, room: mostPassed}
}

// Write writes a record. One that can't be written is lost: what it is about goes on.
func (w *Recorder) Write(r Record) {
	data, err := json.Marshal(r)
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Verdict == Denied {
		w.deny(&r)
	} else {
		w.pass(&r)
	}
	_, _ = w.out.Write(append(data, '\n'))
}

func (w *Recorder) deny(r *Record) {
	t := r.target()
	text := t.String()
	if r.Proto == "dns" && text != "" {
		text = r.Name
	}
	d := w.denied[text]
	switch {
	case d != nil:
	case len(w.denied) >= mostDenials:
		w.more++
		return
	default:
		d = &Denial{Target: text, Reason: r.Reason}
		switch {
		case r.Reason == SpecialAddr:
			d.Reason = r.IP + ": " + r.Reason
		case r.Rule != "" && r.Reason == "":
			d.Reason = "the rule " + r.Rule
		}
		if r.Reason == NoRule {
			d.Allow = text
		}
		w.denied[text] = d
		w.order = append(w.order, text)
	}
	d.Times++
}

func (w *Recorder) pass(r *Record) {
	t := r.target()
	a, _ := netip.ParseAddr(r.IP)
	s := subject{proto: t.Proto, name: r.Name, addr: a}
	if r.Name != "" && !Special(a) {
		s.addr = netip.Addr{}
	}
	ports := w.passed[s]
	switch {
	case ports[r.Port]:
		return
	case w.room <= 0:
		w.room = -1
		return
	case ports == nil:
		ports = map[uint16]bool{}
		w.passed[s] = ports
	}
	ports[r.Port] = true
	w.room--
}

// Denial is something that was denied.
type Denial struct {
	Target string // as a rule would name it
	Times  int
	Reason string
	Allow  string // the rule that would allow it; "" where a rule alone would not
}

// Denials returns the first targets that were denied, in order, and how often others were.
func (w *Recorder) Denials() (list []Denial, more int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.order {
		list = append(list, *w.denied[text])
	}
	return list, w.more
}

// Policy returns the fewest rules that would have allowed what has passed: by name where there was one.
// With generalize, names of which several have the same parent become a rule for all below that. They are not
// complete if more has passed than a Recorder remembers.
func (w *Recorder) Policy(generalize bool) (rules []Rule, complete bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ports := map[subject]map[uint16]bool{}
	add := func(s subject, seen map[uint16]bool) {
		if ports[s] == nil {
			ports[s] = map[uint16]bool{}
		}
		maps.Copy(ports[s], seen)
	}
	counted, siblings := map[string]bool{}, map[string]int{} // names, and how many there are by their parent
	for s := range w.passed {
		if _, parent, _ := strings.Cut(s.name, "."); strings.Contains(parent, ".") && !counted[s.name] {
			counted[s.name] = true
			siblings[parent]++
		}
	}
	for s, seen := range w.passed {
		if s.addr.IsValid() {
			add(subject{proto: s.proto, addr: s.addr}, seen)
		}
		if s.name == "" {
			continue
		}
		if _, parent, _ := strings.Cut(s.name, "."); generalize && siblings[parent] > 1 {
			add(subject{proto: s.proto, name: parent, suffix: true}, seen)
		} else {
			add(subject{proto: s.proto, name: s.name}, seen)
		}
	}
	for s, seen := range ports {
		r := Rule{Action: Allow, Proto: s.proto, Name: s.name, Suffix: s.suffix, Ports: everyPort}
		if s.name == "" {
			r.Prefix = netip.PrefixFrom(s.addr, s.addr.BitLen())
		}
		if s.proto != ICMP {
			r.Ports = nil
			for p := range seen {
				r.Ports = append(r.Ports, Ports{p, p})
			}
			r.Ports = mergePorts(r.Ports)
		}
		rules = append(rules, r)
	}
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Compare(a.String(), b.String()) })
	return rules, w.room >= 0
}
