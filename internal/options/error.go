package options

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// Error says which value was refused, where it came from and why. It is the only type of
// error that [Load] returns.
type Error struct {
	Source string // "flag --mtu", "environment SLIRPCTL_MTU", "/etc/slirpctl/config.yaml:3"
	Key    string // the key as it was written; "" if the whole source is bad
	Value  string // the value as it was written
	Reason string
	Help   string // what to do about it; may be ""
	Err    error  // the cause, where there is one
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

// Is says which kind of failure it is.
func (*Error) Is(target error) bool { return target == fault.Usage }

// Hint says what to do about it.
func (e *Error) Hint() string {
	return cmp.Or(e.Help, fault.Hint(e.Err), "slirpctl up --help and man slirpctl.conf show what is possible")
}

// printable quotes s if it could be taken for something else.
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
