package hostfwd

import (
	"fmt"
	"os"
	"syscall"
)

// FileLimitError is an open-file limit that is too low for what is wanted.
type FileLimitError struct {
	Need, Limit uint64 // open files
}

func (e *FileLimitError) Error() string {
	return fmt.Sprintf("%d open files are needed, and the limit is %d", e.Need, e.Limit)
}

// Hint says what the user can do.
func (e *FileLimitError) Hint() string {
	return "raise the limit (ulimit -n, LimitNOFILE= of systemd), or forward fewer ports"
}

// RaiseOpenFiles raises the soft limit of open files to the hard one, and returns it. The Go
// runtime does so as well, but takes it back in the processes it starts; after this call
// they inherit the raised limit. slirp4netns needs that, with its socket per forward and per
// connection.
func RaiseOpenFiles() (limit uint64, err error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, os.NewSyscallError("setrlimit", err)
	}
	return l.Cur, nil
}

// CheckOpenFiles raises the limit of open files, and returns a [*FileLimitError] if need more
// files can't be opened by this process.
func CheckOpenFiles(need int) error {
	limit, err := RaiseOpenFiles()
	if err != nil {
		return err
	}
	used := 0
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		used = len(fds)
	}
	if total := uint64(used) + uint64(max(need, 0)); total > limit {
		return &FileLimitError{Need: total, Limit: limit}
	}
	return nil
}
