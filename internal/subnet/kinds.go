package subnet

import "github.com/slirpctl/slirpctl/internal/fault"

// What kind of failure each error is, and what helps; see package fault.

// Is says which kind of failure it is.
func (*CIDRError) Is(target error) bool { return target == fault.Usage }
