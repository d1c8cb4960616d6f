// Package privileges gives up what root's slirpctl doesn't need. It exists because capabilities
// and no_new_privs belong to threads, and a Go program has several that it can't name: changing
// them one by one with syscall.AllThreadsSyscall was seen to leave the whole program asleep now
// and then. So capabilities are dropped on one thread, which then executes the program anew, and
// no_new_privs is brought to all threads by the kernel itself.
//
// A process in a new user namespace has every capability there, whatever its parent dropped
// (user_namespaces(7)): COMMAND loses nothing.
package privileges

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that `slirpctl up` needs as root, most of them to hand them on to
// slirp4netns or to the helper of a network namespace that has no user namespace of its own.
const kept uint64 = 1<<unix.CAP_SYS_ADMIN | // enter and make namespaces; slirp4netns's sandbox mounts
	1<<unix.CAP_NET_ADMIN | // slirp4netns makes and configures the tap
	1<<unix.CAP_NET_RAW | // RootlessKit's transparent mode, in the namespace
	1<<unix.CAP_NET_BIND_SERVICE | // forwards below ip_unprivileged_port_start
	1<<unix.CAP_SYS_PTRACE | // read /proc/PID/ns of a target of another user
	1<<unix.CAP_DAC_OVERRIDE | // the same, and state below another user's directory
	1<<unix.CAP_SETUID | // uid_map; slirp4netns becomes root of the target's user namespace
	1<<unix.CAP_SETGID |
	1<<unix.CAP_SETFCAP | // a uid_map with uid 0 in it (user_namespaces(7), Linux 5.12)
	1<<unix.CAP_SETPCAP | // slirp4netns's sandbox drops from its bounding set
	1<<unix.CAP_SYS_RESOURCE | // raise the limit on open files
	1<<unix.CAP_KILL // signal a COMMAND that changed its user

// Drop gives up for good, in this program and all that it starts, the capabilities that root's
// slirpctl won't need. Where there are any, it doesn't return: the program starts once more, with the
// same process id, arguments, environment and open descriptors, so nothing may have been read or
// printed yet. It returns nil where nothing is to be dropped, also for an ordinary user, and
// else why it could not be done, with everything as it was.
func Drop() error {
	if os.Geteuid() != 0 {
		return nil
	}
	unneeded, err := unneeded()
	if err != nil || len(unneeded) == 0 {
		return err
	}
	// The thread dies with its changes where the exec fails: it stays locked when its goroutine ends.
	failed := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := dropOnThread(unneeded)
		if err == nil {
			err = fmt.Errorf("execute slirpctl again: %w", syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
		}
		failed <- err
	}()
	return <-failed
}

// unneeded lists what a program executed now could have and doesn't need.
func unneeded() ([]uintptr, error) {
	var list []uintptr
	for c := uintptr(0); c < 64; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the kernel's last one
		}
		if err != nil {
			return nil, fmt.Errorf("read the capability bounding set: %w", err)
		}
		if has == 1 && kept&(1<<c) == 0 {
			list = append(list, c)
		}
	}
	return list, nil
}

// dropOnThread drops from every set of the calling thread; from the ambient one the kernel does it.
func dropOnThread(unneeded []uintptr) error {
	for _, c := range unneeded {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d from the bounding set: %w", c, err)
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data {
		mask := uint32(kept >> (32 * i))
		data[i].Permitted &= mask
		data[i].Effective &= mask
		data[i].Inheritable &= mask
	}
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}

// NoNewPrivs sets no_new_privs, for good, on every thread of this program and on all that it starts from now on
// (prctl(2), PR_SET_NO_NEW_PRIVS): no setuid program can give them anything. The kernel takes it
// to the other threads with a seccomp filter, SECCOMP_FILTER_FLAG_TSYNC (seccomp(2), Linux 3.17), which here
// allows everything.
func NoNewPrivs() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	prog := unix.SockFprog{Len: 1, Filter: &allow}
	// SPEC_ALLOW: before Linux 5.16 a filter would otherwise make the processor slower.
	tid, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC|unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return fmt.Errorf("no_new_privs for every thread: %w", errno)
	case tid != 0:
		return fmt.Errorf("no_new_privs for every thread: thread %d has a filter of its own", tid)
	}
	return nil
}
