package main

import (
	"context"
	"errors"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// diagnose runs the host checks that err refers to and adds what they find as a hint. An error without a kind
// becomes Unsupported if the host denies the system call that failed.
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
