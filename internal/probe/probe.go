// Package probe checks what the host and the installed slirp4netns can do, and what to do about
// problems. It exists so that `slirpctl probe` and the failures of `up` give the same answer:
// every check is a small function that can be run alone.
//
// No conclusion is drawn from a version if the feature can be tried. What needs a namespace is tried
// in a temporary child of this program, see [Child].
package probe

import (
	"context"
	"fmt"
	"time"
)

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	OK      Status = "ok"
	Warning Status = "warning" // works, but something that may be wanted doesn't
	Failed  Status = "failed"  // `up` can't work
	Unknown Status = "unknown" // could not be determined
)

// Result is the result of a check.
type Result struct {
	Name   string `json:"name"` // kebab-case
	Status Status `json:"status"`
	Reason string `json:"reason"` // one line, no full stop
	Remedy string `json:"remedy"` // a command to paste into a shell; "" where there is nothing to do
}

// A Check checks one thing. It reads and tries, and leaves nothing behind.
type Check func(context.Context, *Env) Result

// checks are all checks by name, in the order in which they are printed: the first problem to fix
// comes first.
func checks() []struct {
	name  string
	check Check
} {
	return []struct {
		name  string
		check Check
	}{
		{"proc", Proc},
		{"system-calls", SystemCalls},
		{"user-namespaces", UserNamespaces},
		{"tun-device", TunDevice},
		{"runtime-directory", RuntimeDirectory},
		{"sandbox", Sandbox},
		{"seccomp", Seccomp},
		{"egress-rules", EgressRules},
		{"resolv-conf", ResolvConf},
		{"cidr-overlap", CIDROverlap},
		{"nsenter", Nsenter},
		{"id-map-tools", IDMapTools},
		{"subid-ranges", SubIDRanges},
		{"ping-group-range", PingGroupRange},
		{"unprivileged-ports", UnprivilegedPorts},
		{"tcp-rmem", TCPRmem},
	}
}

// Names returns the names of all host checks, in their order.
func Names() []string {
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	return names
}

// checkTimeout bounds each check. The slowest normally takes some milliseconds.
const checkTimeout = 2 * time.Second

// Host runs every check, all concurrently, and returns their results in the order of [Names]. It
// takes little more than 2 seconds at worst.
func Host(ctx context.Context, env *Env) []Result {
	all := checks()
	pending := make([]<-chan Result, len(all))
	for i, c := range all {
		pending[i] = start(ctx, env, c.name, c.check)
	}
	results := make([]Result, len(all))
	for i := range all {
		results[i] = <-pending[i]
	}
	return results
}

// Run runs one check within 2 seconds. A check that hangs (say, on a dead network file system)
// or panics is [Unknown].
func Run(ctx context.Context, env *Env, name string, check Check) Result {
	return <-start(ctx, env, name, check)
}

func start(ctx context.Context, env *Env, name string, check Check) <-chan Result {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	done := make(chan Result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- Result{Name: name, Status: Unknown, Reason: fmt.Sprintf("the check itself failed: %v", p)}
			}
		}()
		done <- check(ctx, env)
	}()
	out := make(chan Result, 1)
	go func() {
		defer cancel()
		select {
		case r := <-done:
			out <- r
		case <-ctx.Done():
			// A check that ends because of the timeout may still have a better answer.
			select {
			case r := <-done:
				out <- r
			case <-time.After(checkTimeout / 10):
				out <- Result{Name: name, Status: Unknown, Reason: "no answer: " + context.Cause(ctx).Error()}
			}
		}
	}()
	return out
}
