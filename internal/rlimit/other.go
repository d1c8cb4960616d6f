//go:build !amd64 && !arm64

package rlimit

import "syscall"

func get() Limit {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return Limit{1024, 1024}
	}
	return Limit{l.Cur, l.Max}
}
