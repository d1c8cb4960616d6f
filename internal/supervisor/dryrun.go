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

// DryRun returns the slirp4netns command line for a request, quoted for a shell. It changes nothing.
// The PID of a COMMAND, which is not started, is written as "PID". For options that fall back when a
// start fails, it returns the first attempt.
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
	const unknown = 1 << 30 // above the kernel's largest PID
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
