package supervisor

import (
	"errors"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/nsexec"
)

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
