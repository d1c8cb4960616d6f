package supervisor

import (
	"errors"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// explainNamespaces tells the refusal of the namespaces of `up -- COMMAND` from other failures.
func explainNamespaces(err error) error {
	var ne *nsexec.Error
	if errors.Is(err, nscommand.ErrPIDNamespace) || !errors.As(err, &ne) || ne.Step != nsexec.StepClone && !errors.Is(err, syscall.EPERM) {
		return err
	}
	return &fault.Error{
		Kind: fault.Unsupported, Msg: "make a user namespace: " + err.Error(), Err: err, Checks: []string{"user-namespaces"},
	}
}
