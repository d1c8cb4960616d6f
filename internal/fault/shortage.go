package fault

import (
	"errors"
	"syscall"
)

// IsShortage reports whether err is a lack of descriptors or memory, which ends when others release theirs.
func IsShortage(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
