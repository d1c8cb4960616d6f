package supervisor

import (
	"errors"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// NoUsernsError: this host does not let the caller make a user namespace. Which of its settings
// forbids that is for package probe to find out.
type NoUsernsError struct{ Err error }

func (e *NoUsernsError) Error() string { return "make a user namespace: " + e.Err.Error() }
func (e *NoUsernsError) Unwrap() error { return e.Err }

// explainNamespaces tells the refusal of the namespaces of `up -- COMMAND` from other failures.
func explainNamespaces(err error) error {
	var ne *nsexec.Error
	var pe *nscommand.PIDNamespaceError
	if errors.As(err, &pe) || !errors.As(err, &ne) || ne.Step != nsexec.StepClone && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return &NoUsernsError{err}
}
