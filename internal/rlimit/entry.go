//go:build amd64 || arm64

package rlimit

//lint:file-ignore U1000 entry is the linker's, and in assembly

// entry is where the program begins (go build -ldflags '-E …/internal/rlimit.entry'): it ends it with one line
// where the Go runtime, which comes next, would end it with a dump of its state. The runtime reserves 1.3 GB of
// address space before anything else, and needs descriptors of its own.
func entry()

const (
	leastSpace = 1500 << 20 // RLIMIT_AS, bytes
	leastFiles = 16         // RLIMIT_NOFILE
	failed     = 125        // the exit status, which is none of COMMAND's
)

var (
	noSpace = "slirpctl: error: the limit on address space (RLIMIT_AS) is too low: the Go runtime reserves 1.3 GB of it, which is no memory\n" +
		"slirpctl: hint: raise it to 1500 MiB or more: ulimit -v 1536000; limit memory by a cgroup (MemoryMax= in systemd)\n"
	noFiles = "slirpctl: error: the limit on open files (RLIMIT_NOFILE) is too low: nothing works with fewer than 16\n" +
		"slirpctl: hint: raise it: ulimit -n 1024 (LimitNOFILE= in systemd)\n"
)
