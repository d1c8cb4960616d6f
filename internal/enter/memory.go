package enter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/target"
)

// fromMemory makes sure that processes of the target can't change this program's file. They could get
// at it: the command may be a script with the interpreter /proc/self/exe. If they may have the right to write to
// the file, this program is executed again from a sealed copy in memory, and fromMemory does not return.
func fromMemory(proc *target.Snapshot) error {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil // a file that can't be read can't be written to either
	}
	defer exe.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(exe.Fd()), &st); err != nil {
		return err
	}
	if seals, err := unix.FcntlInt(exe.Fd(), unix.F_GET_SEALS, 0); err == nil && seals&unix.F_SEAL_WRITE != 0 {
		return nil // this is the copy
	}
	if !proc.MayBecome(int(st.Uid)) {
		return nil
	}
	copied, err := sealedCopy(exe)
	if err == nil {
		err = syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", copied.Fd()), os.Args, os.Environ())
	}
	return fault.Errorf(0, "install slirpctl as root, so that nobody else can change it",
		"programs in the namespaces could change %s, and it can't be executed from a copy in memory: %w", os.Args[0], err)
}

func sealedCopy(file *os.File) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("slirpctl", flags|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("slirpctl", flags)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	if _, err = io.Copy(f, file); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
