package probe

import (
	"context"
	"strings"
)

// Explain runs the checks called names, in order, to find the cause of a failure. ok is false
// if none of them finds a problem.
func Explain(ctx context.Context, env *Env, names ...string) (r Result, ok bool) {
	for _, name := range names {
		for _, c := range checks() {
			if c.name != name {
				continue
			}
			if r := c.run(ctx, env); r.Status == Failed || r.Status == Warning {
				return r, true
			}
		}
	}
	return Result{}, false
}

// Hint returns the result as one line that ends with the remedy.
func (r Result) Hint() string {
	var b strings.Builder
	b.WriteString(r.Name + ": " + r.Reason)
	if r.Remedy != "" {
		b.WriteString("; try: " + r.Remedy)
	}
	return b.String()
}
