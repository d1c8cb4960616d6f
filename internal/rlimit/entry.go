//go:build amd64 || arm64

package rlimit

//lint:file-ignore U1000 entry is used by the linker, the rest in assembly

// entry is the entry point of the program (go build -ldflags '-E …/internal/rlimit.entry'). If a limit is too low
// for the Go runtime, it exits with a short message, instead of the runtime's crash dump. The runtime first
// reserves 1.3 GB of address space, and needs some descriptors.
func entry()

const (
	minSpace = 1500 << 20 // RLIMIT_AS, bytes
	minFiles = 16         // RLIMIT_NOFILE
	failed   = 125        // exit status for a failure of slirpctl itself
)

var (
	noSpace = "slirpctl: error: the limit on address space (RLIMIT_AS) is too low: the Go runtime reserves 1.3 GB of it, without using memory\n" +
		"slirpctl: hint: raise it to 1500 MiB or more: ulimit -v 1536000; limit memory by a cgroup (MemoryMax= in systemd)\n"
	noFiles = "slirpctl: error: the limit on open files (RLIMIT_NOFILE) is too low: nothing works with fewer than 16\n" +
		"slirpctl: hint: raise it: ulimit -n 1024 (LimitNOFILE= in systemd)\n"
)
