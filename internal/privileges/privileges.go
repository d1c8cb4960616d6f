// Package privileges drops the privileges that slirpctl doesn't need as root. It exists because
// capabilities and no_new_privs are per thread, and a Go program does not control its threads:
// syscall.AllThreadsSyscall sometimes hung the whole program. So one thread drops its capabilities and
// executes the program again, and the kernel sets no_new_privs on all threads.
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

// kept are the capabilities that `slirpctl up` needs as root, most of them for slirp4netns or for the
// helper in a network namespace without a user namespace of its own.
const kept uint64 = 1<<unix.CAP_SYS_ADMIN | // enter and make namespaces; slirp4netns's sandbox mounts
	1<<unix.CAP_NET_ADMIN | // slirp4netns makes and configures the tap
	1<<unix.CAP_NET_RAW | // RootlessKit's transparent mode, in the namespace
	1<<unix.CAP_NET_BIND_SERVICE | // forwards below ip_unprivileged_port_start
	1<<unix.CAP_SYS_PTRACE | // read /proc/PID/ns of a target of another user
	1<<unix.CAP_DAC_OVERRIDE | // the same, and state in another user's directory
	1<<unix.CAP_SETUID | // uid_map; slirp4netns becomes root of the target's user namespace
	1<<unix.CAP_SETGID |
	1<<unix.CAP_SETFCAP | // a uid_map with uid 0 in it (user_namespaces(7), Linux 5.12)
	1<<unix.CAP_SETPCAP | // slirp4netns's sandbox drops from its bounding set
	1<<unix.CAP_SYS_RESOURCE | // raise the limit on open files
	1<<unix.CAP_KILL // signal a COMMAND that changed its user

// Drop drops, for this program and all that it starts, the capabilities that slirpctl doesn't need as
// root. It then executes the program again, with the same process id, arguments, environment and open
// descriptors, and does not return; nothing may have been read or printed before. It returns nil if
// there is nothing to drop, also for an ordinary user. After an error nothing has changed.
func Drop() error {
	if os.Geteuid() != 0 {
		return nil
	}
	unneeded, err := unneeded()
	if err != nil || len(unneeded) == 0 {
		return err
	}
	// If the exec fails, the thread is still locked when its goroutine ends, so it is destroyed.
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

// unneeded returns the capabilities in the bounding set that are not needed.
func unneeded() ([]uintptr, error) {
	var list []uintptr
	for c := uintptr(0); c < 64; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // past the kernel's last capability
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

// dropOnThread drops capabilities from all sets of the calling thread; the kernel adjusts the ambient set.
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

// NoNewPrivs sets no_new_privs on all threads of this program, which programs started later inherit: they gain no
// privileges from setuid programs (prctl(2), PR_SET_NO_NEW_PRIVS). A seccomp filter that allows everything, with
// SECCOMP_FILTER_FLAG_TSYNC (seccomp(2), Linux 3.17), makes the kernel set it on the other threads.
func NoNewPrivs() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	allow := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW}
	prog := unix.SockFprog{Len: 1, Filter: &allow}
	// SPEC_ALLOW: before Linux 5.16 a filter otherwise enables slow mitigations.
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

// Has reports whether the calling thread has a capability, CAP_…, in its user namespace, and so in all below.
func Has(capability int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}
