// Package fault has the kinds of failure that slirpctl's exit status tells apart, and how an error says what
// to do about it. It exists so that the command need not know the error types of every package: an error is
// of a kind if errors.Is says so, and has a hint if it has a method Hint. It imports nothing of this module.
package fault

// Kind is a kind of failure. It is an error only so that errors.Is takes it.
type Kind string

// The kinds. What is of none is a plain failure.
const (
	Usage       Kind = "wrong usage or configuration"
	Unsupported Kind = "not supported by slirp4netns or the host"
	NotFound    Kind = "not found"
	Conflict    Kind = "conflict"
	Timeout     Kind = "timed out"
)

func (k Kind) Error() string { return string(k) }

// New returns an error of a kind, with a hint or "". It can be compared, as one made by errors.New.
func New(kind Kind, msg, hint string) error { return &fault{kind, msg, hint} }

type fault struct {
	kind      Kind
	msg, hint string
}

func (f *fault) Error() string        { return f.msg }
func (f *fault) Is(target error) bool { return target == f.kind }
func (f *fault) Hint() string         { return f.hint }

// Hint returns the first hint, from the outside in, of err and what it wraps; or "".
func Hint(err error) string {
	if h, ok := err.(interface{ Hint() string }); ok {
		if hint := h.Hint(); hint != "" {
			return hint
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return Hint(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if hint := Hint(inner); hint != "" {
				return hint
			}
		}
	}
	return ""
}
