package supervisor

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
)

// DryRun returns the command line of slirp4netns that a request leads to, quoted for a shell,
// and changes nothing. The process of a COMMAND that was not started is written PID, and
// decisions that only a start can make are those it would try first.
func DryRun(ctx context.Context, req Request) (string, error) {
	bin, err := launcher.Detect(ctx, req.Options.Slirp4netnsPath)
	if err != nil {
		return "", err
	}
	plan, err := launcher.NewPlan(&req.Options)
	if err != nil {
		return "", err
	}
	sec, err := launcher.Decide(&req.Options, bin)
	if err != nil {
		return "", err
	}
	plan.Sandbox, plan.Seccomp = sec.Sandbox, sec.Seccomp
	const unknown = 1 << 30 // a PID that can't be
	name := cmp.Or(req.Options.Name, req.DefaultName)
	switch {
	case req.Netns != "":
		path := req.Netns
		if !strings.Contains(path, "/") {
			path = filepath.Join("/run/netns", path)
		}
		plan.Target = launcher.Target{NetnsPath: path, UsernsPath: req.Userns}
		if name == "" {
			name = filepath.Base(path)
		}
	case req.PID > 0:
		plan.Target = launcher.Target{PID: req.PID}
		if name == "" {
			name = fmt.Sprintf("pid-%d", req.PID)
		}
	default:
		plan.Target = launcher.Target{PID: unknown}
		if name == "" {
			name = "pid-PID"
		}
	}
	if err := instance.CheckPath(req.Base, name); err != nil {
		return "", err
	}
	if bin.Features.Has(launcher.APISocket) {
		plan.APISocket = filepath.Join(req.Base, name, instance.APISocket)
	}
	args, err := bin.Args(plan)
	if err != nil {
		return "", err
	}
	line := launcher.Quote(append([]string{bin.Path}, args...))
	return strings.ReplaceAll(line, fmt.Sprint(unknown), "PID"), nil
}
