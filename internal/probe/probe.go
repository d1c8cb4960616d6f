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
	"slices"
	"sync"
	"time"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/options"
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

// A check checks one thing. It reads and tries, and leaves nothing behind. Its result has no name yet.
type check func(context.Context, *Env) Result

// checks are all checks by name, in the order in which they are printed: the first problem to fix
// comes first. A finding of a check that only some options need is no problem without them.
func checks() []namedCheck {
	return []namedCheck{
		{"proc", procMount, nil},
		{"system-calls", systemCalls, nil},
		{"user-namespaces", userNamespaces, nil},
		{"tun-device", tunDevice, nil},
		{"runtime-directory", runtimeDirectory, nil},
		{"sandbox", sandbox, func(o *options.Options) bool { return o.Sandbox != options.Off }},
		{"seccomp", seccomp, func(o *options.Options) bool { return o.Seccomp != options.Off }},
		{"egress-rules", egressRules, func(o *options.Options) bool { return o.Egress.Mode != egress.Open }},
		{"resolv-conf", resolvConf, nil},
		{"cidr-overlap", cidrOverlap, nil},
		{"nsenter", nsenter, func(*options.Options) bool { return false }},
		{"id-map-tools", idMapTools, mapsUsers},
		{"subid-ranges", subIDRanges, mapsUsers},
		{"ping-group-range", pingGroupRange, nil},
		{"unprivileged-ports", unprivilegedPorts, nil},
		{"netem", netem, func(*options.Options) bool { return false }},
		{"tcp-rmem", tcpRmem, func(o *options.Options) bool { return o.PortHandler == options.HandlerSlirp4netns }},
	}
}

type namedCheck struct {
	name  string
	check check
	used  func(*options.Options) bool // nil: always
}

func mapsUsers(o *options.Options) bool { return o.MapUsers }

// The results of checks. remedy may be "".

func ok(format string, a ...any) Result {
	return Result{Status: OK, Reason: fmt.Sprintf(format, a...)}
}

func warning(remedy, format string, a ...any) Result {
	return Result{Status: Warning, Reason: fmt.Sprintf(format, a...), Remedy: remedy}
}

func failed(remedy, format string, a ...any) Result {
	return Result{Status: Failed, Reason: fmt.Sprintf(format, a...), Remedy: remedy}
}

func unknown(format string, a ...any) Result {
	return Result{Status: Unknown, Reason: fmt.Sprintf(format, a...)}
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

// host runs every check, all concurrently, and returns their results in the order of [Names]. It
// takes little more than 2 seconds at worst.
func host(ctx context.Context, env *Env) []Result {
	all := checks()
	results := make([]Result, len(all))
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() { results[i] = c.run(ctx, env) })
	}
	wg.Wait()
	return results
}

// run runs one check within 2 seconds. The result of a check that hangs (say, on a dead network file system)
// or panics is [Unknown].
func (c namedCheck) run(ctx context.Context, env *Env) (r Result) {
	defer func() {
		r.Name = c.name
		unused := c.used != nil && env.Options != nil && !c.used(env.Options) && !slices.Contains(env.Required, c.name)
		if unused && r.Status != OK {
			r = Result{Name: c.name, Status: OK, Reason: "not used: " + r.Reason}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	done := make(chan Result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- unknown("the check itself failed: %v", p)
			}
		}()
		done <- c.check(ctx, env)
	}()
	select {
	case r := <-done:
		return r
	case <-ctx.Done():
	}
	// A check that ends because of the timeout may still have a better answer.
	select {
	case r := <-done:
		return r
	case <-time.After(checkTimeout / 10):
		return unknown("no answer: %v", context.Cause(ctx))
	}
}
