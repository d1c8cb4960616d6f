package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// neighbour returns the error for a namespace that already gets its network from the named instance, as for
// the second container of a pod. The hint says how to publish specs through that instance.
func neighbour(name string, specs []hostfwd.Spec, err error) error {
	publish := " SPEC"
	if len(specs) > 0 {
		publish = ""
		for _, s := range specs {
			publish += " " + s.String()
		}
	}
	return fault.Errorf(0, "publish ports through it: slirpctl forward add "+name+publish,
		"the namespace has its network from instance %q already: %w", name, err)
}

// explainTaken names the instance that owns the tap, if err says that the tap exists already.
func (s *supervisor) explainTaken(ctx context.Context, err error) error {
	var start *launcher.StartError
	if !errors.As(err, &start) || start.Problem != launcher.InterfaceExists {
		return err
	}
	own, serr := s.tgt.Netns.Stat()
	base, berr := instance.OpenBase(s.req.Base)
	if serr != nil || berr != nil {
		return err
	}
	entries, lerr := base.List(ctx)
	if lerr != nil {
		return err
	}
	for _, e := range entries {
		if e.State == nil || e.Name == s.inst.Name() || e.State.Tap != s.req.Options.TapName {
			continue
		}
		paths := []string{e.State.Target.Netns, fmt.Sprintf("/proc/%d/ns/net", e.State.Target.PID)}
		if slices.ContainsFunc(paths, func(path string) bool {
			other, err := os.Stat(path)
			return err == nil && os.SameFile(own, other)
		}) {
			return neighbour(e.Name, s.req.Options.Publish, err)
		}
	}
	return err
}

// explainNamespaces adds kind and checks to err if the kernel refused the namespaces of `up -- COMMAND`.
func explainNamespaces(err error) error {
	var ne *nsexec.Error
	if errors.Is(err, nscommand.ErrPIDNamespace) || !errors.As(err, &ne) || ne.Step != nsexec.StepClone && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return &fault.Error{
		Kind: fault.Unsupported, Msg: "make a user namespace: " + err.Error(), Err: err, Checks: []string{"user-namespaces"},
	}
}
