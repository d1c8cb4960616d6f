package launcher

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/crashpoint"
	"github.com/slirpctl/slirpctl/internal/procfs"
)

// LoopbackBan is a packet filter for slirp4netns's tap that drops frames that would reach the host's
// loopback. slirp4netns's --disable-host-loopback only compares the destination with the gateway
// (sotranslate_out in libslirp's socket.c); a program in the namespace that sends raw frames, or
// rewrites them with nftables, can use other destinations.
type LoopbackBan []bpf.Instruction

// Verdicts of a socket filter.
const (
	refuse = 0
	accept = 1 << 18 // bytes to keep; more than a frame has
)

// NewLoopbackBan returns the filter. It passes the gateway's address, which --disable-host-loopback handles, and that
// of the built-in DNS, which may be a resolver on the host's loopback: libslirp forwards only port 53 there.
func NewLoopbackBan() LoopbackBan {
	return concat(
		// A VLAN tag is kept apart from the frame until that is read.
		LoopbackBan{bpf.LoadExtension{Num: bpf.ExtVLANTagPresent}},
		unless(0, refuse),
		// The EtherType. libslirp handles only these protocols.
		LoopbackBan{bpf.LoadAbsolute{Off: 12, Size: 2}},
		when(unix.ETH_P_ARP, verdict(accept)),
		when(unix.ETH_P_IP, concat(
			LoopbackBan{bpf.LoadAbsolute{Off: 30, Size: 1}}, // the destination's first byte
			when(0, verdict(refuse)),
			when(127, verdict(refuse)),
			verdict(accept))),
		unless(unix.ETH_P_IPV6, refuse),
		// ::/96 and ::ffff:0:0/96: the unspecified address, ::1, and IPv4 addresses.
		LoopbackBan{bpf.LoadAbsolute{Off: 38, Size: 4}},
		unless(0, accept),
		LoopbackBan{bpf.LoadAbsolute{Off: 42, Size: 4}},
		unless(0, accept),
		LoopbackBan{bpf.LoadAbsolute{Off: 46, Size: 4}},
		when(0, verdict(refuse)),
		when(0xffff, verdict(refuse)),
		verdict(accept),
	)
}

func concat(parts ...LoopbackBan) (all LoopbackBan) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func verdict(v uint32) LoopbackBan { return LoopbackBan{bpf.RetConstant{Val: v}} }

// when runs then if the accumulator is val.
func when(val uint32, then LoopbackBan) LoopbackBan {
	return append(LoopbackBan{bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: val, SkipTrue: uint8(len(then))}}, then...)
}

// unless ends with v if the accumulator is not val.
func unless(val, v uint32) LoopbackBan {
	return LoopbackBan{bpf.JumpIf{Cond: bpf.JumpEqual, Val: val, SkipTrue: 1}, bpf.RetConstant{Val: v}}
}

// fill fills the ready pipe, so that slirp4netns blocks in its write(2) to it until [makeRoom]: the process group for
// [stopAtReady] is known only once slirp4netns is running. It returns the number of bytes.
func fill(pipe *os.File) (n int, err error) {
	err = control(pipe, func(fd uintptr) error {
		// The smallest size is a page. A larger pipe works, too.
		_, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 1)
		if err := unix.SetNonblock(int(fd), true); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		for page := make([]byte, os.Getpagesize()); ; {
			m, err := unix.Write(int(fd), page)
			switch {
			case err == nil:
				n += m
			case errors.Is(err, unix.EAGAIN):
				return os.NewSyscallError("fcntl", unix.SetNonblock(int(fd), false)) // slirp4netns must block
			case !errors.Is(err, unix.EINTR):
				return os.NewSyscallError("write", err)
			}
		}
	})
	return n, err
}

// stopAtReady makes the kernel stop the process group of slirp4netns in the write(2) to the ready pipe,
// after which slirp4netns would read its first frame: the pipe's read end signals input to the group,
// with SIGSTOP instead of SIGIO (fcntl(2), F_SETSIG).
func stopAtReady(pipe *os.File, group int) error {
	return control(pipe, func(fd uintptr) error {
		for _, c := range [][2]int{{unix.F_SETOWN, -group}, {unix.F_SETSIG, int(unix.SIGSTOP)}, {unix.F_SETFL, unix.O_NONBLOCK | unix.O_ASYNC}} {
			if _, err := unix.FcntlInt(fd, c[0], c[1]); err != nil {
				return os.NewSyscallError("fcntl", err)
			}
		}
		return nil
	})
}

// makeRoom reads the bytes of [fill], so that slirp4netns can write to the pipe.
func makeRoom(pipe *os.File, filled int) error {
	_, err := io.CopyN(io.Discard, pipe, int64(filled))
	return err
}

// waitPause is the interval in which [Process.readReady] looks for a slirp4netns that was stopped too early.
const waitPause = 20 * time.Millisecond

// readReady waits until slirp4netns reports that it is ready, or ends. With stops, [stopAtReady] was called: a
// slirp4netns that reached its write(2) before [makeRoom] was stopped there, before it wrote. It is continued, and stops
// again when it has written.
func (p *Process) readReady(pipe *os.File, stops bool) bool {
	var b [1]byte
	for stopped := false; ; {
		if stops {
			_ = pipe.SetReadDeadline(time.Now().Add(waitPause))
		}
		n, err := pipe.Read(b[:])
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n == 1 && b[0] == '1'
		}
		// All were stopped before the read, and so have written nothing since.
		now := p.allStopped()
		if stopped && now {
			_ = p.Signal(unix.SIGCONT)
		}
		stopped = now && !stopped
	}
}

// allStopped reports whether slirp4netns is stopped, with the wrapper that started it.
func (p *Process) allStopped() bool {
	for _, pid := range withDescendants(p.PID()) {
		if pgid, err := unix.Getpgid(pid); err == nil && pgid == p.PID() && !isStopped(pid) {
			return false
		}
	}
	return true
}

// cancelStop undoes stopAtReady. Closing the pipe is not enough: a process that is being forked has a copy.
func cancelStop(pipe *os.File) {
	_ = control(pipe, func(fd uintptr) error {
		_, err := unix.FcntlInt(fd, unix.F_SETFL, unix.O_NONBLOCK)
		return err
	})
}

func control(f *os.File, do func(fd uintptr) error) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := rc.Control(func(fd uintptr) { err = do(fd) }); cerr != nil {
		return cerr
	}
	return err
}

// applyBan attaches the filter to the tap of a slirp4netns that [stopAtReady] is stopping.
func (p *Process) applyBan(ban LoopbackBan) error {
	tap, err := p.findTap()
	if err != nil {
		return err
	}
	defer unix.Close(tap)
	// It stops when it returns from write(2).
	for deadline := time.Now().Add(stopTimeout); !p.Stopped(); time.Sleep(20 * time.Microsecond) {
		if time.Now().After(deadline) {
			return errors.New("slirp4netns is not stopped by SIGSTOP")
		}
	}
	crashpoint.Here("slirp4netns held")
	// Drop new frames, so that the queue of frames from before the filter can be emptied.
	if err := attach(tap, verdict(refuse)); err != nil {
		return err
	}
	refused, err := drain(tap, ban)
	if err == nil && refused {
		// An attack. Another CPU may still be queueing a frame that it did not filter: wait until
		// every CPU has left that code (membarrier(2); 0 to 30 ms).
		if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
			time.Sleep(20 * time.Millisecond)
		}
		_, err = drain(tap, ban)
	}
	if err != nil {
		return err
	}
	return attach(tap, ban)
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL of linux/membarrier.h.
const membarrierGlobal = 1

// attach sets the tap's filter.
func attach(tap int, filter LoopbackBan) error {
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	fprog := unix.SockFprog{Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))} // of the same layout
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(tap), unix.TUNATTACHFILTER, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
		return os.NewSyscallError("ioctl(TUNATTACHFILTER)", errno)
	}
	return nil
}

// drain discards the frames queued in the tap, whose filter drops new ones; slirp4netns is stopped.
// refused reports whether ban would have refused one of them.
func drain(tap int, ban LoopbackBan) (refused bool, err error) {
	vm, err := bpf.NewVM(ban[3:]) // without the check for a VLAN tag, which is not in the frame
	if err != nil {
		return false, err
	}
	frame := make([]byte, 1<<16+64)
	for {
		// The calls may fail with EINTR: Go's scheduler sends signals.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(tap), Events: unix.POLLIN}}, 0)
		if err == nil && n == 0 {
			return refused, nil
		}
		if err == nil {
			n, err = unix.Read(tap, frame)
		}
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return refused, os.NewSyscallError("read the tap", err)
		}
		if v, err := vm.Run(frame[:n]); err != nil || v == refuse {
			refused = true
		}
	}
}

// findTap returns a duplicate of slirp4netns's descriptor of the tap. slirp4netns is the child or, if the
// child is a wrapper, another process of its group. findTap sets p.holder to it.
func (p *Process) findTap() (fd int, err error) {
	var first error
	for _, pid := range withDescendants(p.PID()) {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if pgid, err := unix.Getpgid(pid); err == nil && pgid == p.PID() { // while the pidfd is open and in this group, pid is the same process
			if fd, err = stealTap(pidfd, pid); err == nil {
				p.mu.Lock()
				p.holder, p.holderPID = pidfd, pid
				p.mu.Unlock()
				return fd, nil
			}
			if first == nil {
				first = err
			}
		}
		unix.Close(pidfd)
	}
	return -1, first
}

var errNoTap = errors.New("slirp4netns has no tap")

func stealTap(pidfd, pid int) (int, error) {
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return -1, err
	}
	err = errNoTap
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		fd, gerr := unix.PidfdGetfd(pidfd, n, 0)
		if gerr != nil {
			if !errors.Is(gerr, unix.EBADF) {
				err = fmt.Errorf("take the tap from slirp4netns: %w", os.NewSyscallError("pidfd_getfd", gerr))
			}
			continue
		}
		if isTap(fd) {
			return fd, nil
		}
		unix.Close(fd)
	}
	return -1, err
}

func isTap(fd int) bool {
	var st unix.Stat_t
	const tun = 10<<8 | 200 // devices.txt of the kernel: misc, TAP/TUN
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != tun {
		return false
	}
	ifr, err := unix.NewIfreq("x")
	return err == nil && unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr) == nil && ifr.Uint16()&unix.IFF_TAP != 0
}

// withDescendants lists a process and its descendants.
func withDescendants(pid int) []int {
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		list = append(list, procfs.Children(list[i])...)
	}
	return list
}
