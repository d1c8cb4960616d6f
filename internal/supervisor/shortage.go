package supervisor

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/launcher"
)

// shortagePause is the time between two starts of slirp4netns during a shortage.
const shortagePause = 250 * time.Millisecond

// isShortage reports whether a start failed because a resource is short that may become available again:
// descriptors, memory, processes, a source address. It does not count as a death of slirp4netns.
func isShortage(err error) bool {
	var start *launcher.StartError
	switch {
	case errors.Is(err, launcher.ErrNoSource):
		return true
	case errors.As(err, &start):
		return slices.Contains([]launcher.StartProblem{launcher.FileLimit, launcher.MemoryLimit, launcher.ProcessLimit}, start.Problem)
	}
	return slices.ContainsFunc([]syscall.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.ENOBUFS}, func(e syscall.Errno) bool {
		return errors.Is(err, e)
	})
}
