package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
)

// NeighbourError is a namespace that has its network from another instance already, as the second
// container of a pod finds it.
type NeighbourError struct {
	Name    string         // of that instance
	Publish []hostfwd.Spec // asked for in vain
	Err     error
}

func (e *NeighbourError) Error() string {
	return fmt.Sprintf("the namespace has its network from instance %q already: %v", e.Name, e.Err)
}

func (e *NeighbourError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *NeighbourError) Hint() string {
	specs := " SPEC"
	if len(e.Publish) > 0 {
		specs = ""
		for _, s := range e.Publish {
			specs += " " + s.String()
		}
	}
	return "publish ports through it: slirpctl forward add " + e.Name + specs
}

// explainTaken names the instance whose tap is in the way, if err is about one.
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
			return &NeighbourError{Name: e.Name, Publish: s.req.Options.Publish, Err: err}
		}
	}
	return err
}
