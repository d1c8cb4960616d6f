//go:build amd64 || arm64

package rlimit

// getrlimit calls getrlimit(2). It returns 0 or a negative errno.
//
//go:noescape
func getrlimit(resource uintptr, l *Limit) int

func get() Limit {
	const nofile = 7 // RLIMIT_NOFILE
	var l Limit
	if getrlimit(nofile, &l) != 0 {
		return Limit{1024, 1024}
	}
	return l
}
