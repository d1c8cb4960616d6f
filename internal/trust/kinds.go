package trust

import "github.com/slirpctl/slirpctl/internal/fault"

// Is gives the kind of failure to errors.Is.
func (*Error) Is(target error) bool { return target == fault.Usage }
