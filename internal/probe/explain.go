package probe

import (
	"context"
	"strings"
)

// Explain asks the checks called names, in their order, for the cause of a failure. ok is false
// where none of them finds anything wrong.
func Explain(ctx context.Context, env *Env, names ...string) (r Result, ok bool) {
	for _, name := range names {
		for _, c := range checks() {
			if c.name != name {
				continue
			}
			if r := Run(ctx, env, c.name, c.check); r.Status == Failed || r.Status == Warning {
				return r, true
			}
		}
	}
	return Result{}, false
}

// Hint puts what was found into one line, with the remedy at its end.
func (r Result) Hint() string {
	var b strings.Builder
	b.WriteString(r.Name + ": " + r.Reason)
	if r.Remedy != "" {
		b.WriteString("; try: " + r.Remedy)
	}
	return b.String()
}
