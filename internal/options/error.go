package options

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// Error says which value was refused, where it came from and why. [Load] returns no other type
// of error.
type Error struct {
	Source string // "flag --mtu", "environment SLIRPCTL_MTU", "/etc/slirpctl/config.yaml:3"
	Key    string // the key as written; "" if the whole source is bad
	Value  string // the value as written
	Reason string
	Help   string // what to do about it; may be ""
	Err    error  // the cause, or nil
}

// Error returns one line, without the hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Source)
	if e.Key != "" && !strings.HasSuffix(e.Source, " --"+e.Key) && !strings.HasSuffix(e.Source, " "+envName(e.Key)) {
		b.WriteString(": " + printable(e.Key))
	}
	if e.Value != "" {
		b.WriteString(": " + strconv.Quote(e.Value))
	}
	b.WriteString(": " + e.Reason)
	return plaintext.Line(b.String())
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports the error's kind, [fault.Usage].
func (*Error) Is(target error) bool { return target == fault.Usage }

// Hint returns what to do about it.
func (e *Error) Hint() string {
	return cmp.Or(e.Help, fault.Hint(e.Err), "see slirpctl up --help and man slirpctl.conf")
}

// printable quotes s if it would be ambiguous without quotes.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.ContainsAny(s, " :") {
		return q
	}
	return s
}

func didYouMean(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return "did you mean " + near + "?"
	}
	return "known: " + strings.Join(candidates, ", ")
}
