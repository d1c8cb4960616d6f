package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is memory for recvmmsg(2) and sendmmsg(2), so that the load generator of the UDP rows
// is not the bottleneck. It uses neither GSO nor GRO, like most programs.
type batch struct {
	bufs [][]byte
	iov  []unix.Iovec
	msgs []mmsghdr
}

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

func newBatch(n, size int) *batch {
	b := &batch{make([][]byte, n), make([]unix.Iovec, n), make([]mmsghdr, n)}
	for i := range n {
		b.bufs[i] = make([]byte, size)
		b.iov[i].Base = &b.bufs[i][0]
		b.iov[i].SetLen(size)
		b.msgs[i].hdr.Iov = &b.iov[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

// receive waits for one datagram and reads all that are available.
func (b *batch) receive(fd int) (int, error) {
	n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])),
		uintptr(len(b.msgs)), unix.MSG_WAITFORONE, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// send sends the first n datagrams and returns how many the kernel took.
func (b *batch) send(fd, n int) int {
	r, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.msgs[0])),
		uintptr(n), 0, 0, 0)
	if e != 0 {
		return 0
	}
	return int(r)
}
