package nsexec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// opening is the work of a child that executes no program: it opens a file or makes a socket, and hands it over.
type opening struct {
	path    *byte // nil: a socket
	flags   uintptr
	iov     unix.Iovec
	msg     unix.Msghdr
	control []byte
}

// open opens a file from inside a network namespace, or for "" makes an IPv4 datagram socket of it, and returns the
// close-on-exec descriptor. userns, if not nil, is joined first. Errors: [*fs.PathError], [*Error].
//
// No program is executed for it, so processes inside can't trace what does it. What this process then does with the
// descriptor takes the same rights as joining the namespaces.
func open(userns, netns *os.File, path string, flags int) (fd int, err error) {
	c := Cmd{Path: "-", Args: []string{"-"}, JoinUser: userns, JoinNet: netns}
	p, cleanup, err := c.prepare()
	if err != nil {
		return -1, err
	}
	defer cleanup()
	p.opening = &opening{flags: uintptr(flags | unix.O_CLOEXEC), control: unix.UnixRights(0)}
	if path != "" {
		if p.opening.path, err = syscall.BytePtrFromString(path); err != nil {
			return -1, err
		}
	}
	ours, theirs, err := SocketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return -1, err
	}
	defer ours.Close()
	p.report = int(theirs.Fd())
	pid, err := fork(p)
	theirs.Close()
	runtime.KeepAlive(p)
	if err != nil {
		return -1, err
	}
	reap(pid) // what it has sent stays in the socket
	var msg [8]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(int(ours.Fd()), msg[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil || n < len(msg) {
		return -1, errors.Join(err, errors.New("the process that enters the namespaces was killed"))
	}
	switch s, errno := parse(msg[:]); {
	case errno == 0:
	case s == stepOpen:
		return -1, &fs.PathError{Op: "open", Path: path, Err: errno}
	default:
		return -1, &Error{stepNames[s], errno}
	}
	fds := Rights(oob[:oobn])
	if len(fds) != 1 {
		return -1, unix.EMFILE
	}
	return fds[0], nil
}

// Rights returns the descriptors in the control messages of a UNIX socket.
func Rights(oob []byte) (fds []int) {
	msgs, _ := unix.ParseSocketControlMessage(oob)
	for _, m := range msgs {
		got, _ := unix.ParseUnixRights(&m)
		fds = append(fds, got...)
	}
	return fds
}

// handOver opens and sends the descriptor.
//
//go:norace
//go:nosplit
func (o *opening) handOver(p *plan) {
	var fd uintptr
	if o.path != nil {
		fd = p.do5(stepOpen, unix.SYS_OPENAT, cwd, at(o.path), o.flags, 0, 0)
	} else {
		fd = p.do(stepSocket, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	}
	*(*int32)(unsafe.Pointer(&o.control[unix.SizeofCmsghdr])) = int32(fd)
	o.iov.Base, o.iov.Len = &p.msg[0], 8
	o.msg.Iov, o.msg.Iovlen = &o.iov, 1
	o.msg.Control, o.msg.Controllen = &o.control[0], uint64(len(o.control))
	p.do(stepSocket, unix.SYS_SENDMSG, uintptr(p.report), uintptr(unsafe.Pointer(&o.msg)), unix.MSG_NOSIGNAL)
	if p.errno == 0 {
		exit(0)
	}
	p.end()
}

// Sysctl returns the value of a sysctl of a network namespace, named by its path below /proc/sys, and sets
// it to value, unless value is "" or the sysctl has the value keep. userns, if not nil, is joined first.
// If the sysctl doesn't exist, the error is [fs.ErrNotExist].
func Sysctl(userns, netns *os.File, name, keep, value string) (old string, err error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("sysctl %q: not a name", name)
	}
	path := filepath.Join("/proc/sys", name)
	var unwritable error
	fd := -1
	if value != "" {
		fd, unwritable = open(userns, netns, path, unix.O_RDWR)
	}
	if fd < 0 { // it may not be necessary to write
		if fd, err = open(userns, netns, path, unix.O_RDONLY); err != nil {
			return "", err
		}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	data, err := io.ReadAll(f)
	old = strings.TrimSpace(string(data))
	switch {
	case err != nil, value == "", old == value, keep != "" && old == keep:
		return old, err
	case unwritable != nil:
		return old, unwritable
	}
	_, err = f.WriteAt([]byte(value), 0)
	return old, err
}
