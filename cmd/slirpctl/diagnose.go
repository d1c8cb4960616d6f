package main

import (
	"context"
	"errors"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// diagnose asks this host for the cause of a failure, where there is a check for it: what that finds becomes the
// hint, and a system call that the host denies the kind.
func diagnose(err error) error {
	if err == nil {
		return nil
	}
	ctx, env := context.Background(), probe.NewEnv("", subnet.Network{}, nil)
	if checks := fault.Checks(err); len(checks) > 0 {
		if r, ok := probe.Explain(ctx, env, checks...); ok {
			return fault.Errorf(0, r.Hint(), "%w", err)
		}
	}
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
		if hint := probe.DeniedCall(ctx, env, err); hint != "" {
			kind := fault.Of(err)
			if kind == 0 {
				kind = fault.Unsupported
			}
			return fault.Errorf(kind, hint, "%w", err)
		}
	}
	if errors.Is(err, syscall.EMFILE) {
		return fault.Errorf(0, "raise the limit: ulimit -n (RLIMIT_NOFILE; LimitNOFILE= in systemd)", "%w", err)
	}
	if errors.Is(err, syscall.EAGAIN) { // of fork(2)
		return fault.Errorf(0, "raise the limit: ulimit -u (RLIMIT_NPROC), or that of the cgroup (pids.max; TasksMax in systemd)", "%w", err)
	}
	return err
}
