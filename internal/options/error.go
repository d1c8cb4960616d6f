package options

import (
	"strconv"
	"strings"
)

// Error says which value was refused, where it came from and why. It is the only type of
// error that [Load] returns.
type Error struct {
	Source string // "flag --mtu", "environment SLIRPCTL_MTU", "/etc/slirpctl/config.yaml:3"
	Key    string // the key as it was written; "" if the whole source is bad
	Value  string // the value as it was written
	Reason string
	Hint   string // what to do about it; may be ""
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
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// printable quotes s if it could break the line or the terminal.
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
