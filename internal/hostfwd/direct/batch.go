package direct

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	udpBatch = 64
	// datagramSpace holds any datagram, and any run of them that the kernel has joined
	// (UDP_GRO). Only the pages that are written to are ever resident.
	datagramSpace = 64 << 10
	// The kernel's limits for one send with UDP_SEGMENT, bytes and segments.
	gsoBytes    = 65000
	gsoSegments = 64
	rxControl   = 96
	txControl   = 96
)

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// batch holds datagrams between receiving and sending. They are never copied.
type batch struct {
	mem []byte // mapped, udpBatch × datagramSpace

	rx    [udpBatch]mmsghdr
	rxIov [udpBatch]unix.Iovec
	name  [udpBatch]sockaddr
	rxCtl [udpBatch][rxControl]byte
	seg   [udpBatch]int    // size of one datagram in rx[i], whose last may be shorter
	local [udpBatch][]byte // control message to answer rx[i] from its destination address

	txs, iovs int
	tx        [udpBatch]mmsghdr
	txIov     [2 * udpBatch]unix.Iovec
	txCtl     [udpBatch][txControl]byte
	txSeg     [udpBatch]int // 0: a single datagram
}

func newBatch() (*batch, error) {
	mem, err := unix.Mmap(-1, 0, udpBatch*datagramSpace, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	b := &batch{mem: mem}
	for i := range b.rx {
		b.rxIov[i].Base = &mem[i*datagramSpace]
		b.rxIov[i].SetLen(datagramSpace)
		h := &b.rx[i].hdr
		h.Iov = &b.rxIov[i]
		h.SetIovlen(1)
	}
	return b, nil
}

// forget returns the datagrams' memory to the kernel.
func (b *batch) forget() { _ = unix.Madvise(b.mem, unix.MADV_DONTNEED) }

func (b *batch) free() { _ = unix.Munmap(b.mem) }

// data returns the datagrams of rx[i].
func (b *batch) data(i int) []byte {
	return b.mem[i*datagramSpace:][:b.rx[i].n]
}

// receive reads the datagrams available on fd. Names and local addresses are read from a listener only.
func (b *batch) receive(fd int, named bool) (int, unix.Errno) {
	for i := range b.rx {
		h := &b.rx[i].hdr
		h.Name, h.Namelen = nil, 0
		if named {
			b.name[i] = sockaddr{}
			h.Name, h.Namelen = &b.name[i].raw[0], unix.SizeofSockaddrInet6
		}
		h.Control = &b.rxCtl[i][0]
		h.SetControllen(rxControl)
		h.Flags = 0
	}
	n, e := recvmmsg(fd, b.rx[:])
	if e != 0 {
		return 0, e
	}
	for i := range n {
		b.name[i].n = b.rx[i].hdr.Namelen
		b.readControl(i)
	}
	return n, 0
}

// readControl finds the datagram size and the local address of rx[i].
func (b *batch) readControl(i int) {
	b.seg[i], b.local[i] = int(b.rx[i].n), nil
	for c := b.rxCtl[i][:b.rx[i].hdr.Controllen]; len(c) >= unix.SizeofCmsghdr; {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&c[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(c) {
			return
		}
		data := c[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			if s := int(binary.NativeEndian.Uint32(data)); s > 0 {
				b.seg[i] = min(s, b.seg[i])
			}
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// Keep the address (ipi_spec_dst); the route determines the interface.
			clear(data[:4])
			clear(data[8:12])
			b.local[i] = c[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			if data[0] != 0xfe || data[1]&0xc0 != 0x80 { // only link-local needs the interface
				clear(data[16:20])
			}
			b.local[i] = c[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)]
		}
		c = c[min(len(c), unix.CmsgSpace(size-unix.CmsgLen(0))):]
	}
}

// sameSender returns the end of the run of datagrams from one source that starts at i.
func (b *batch) sameSender(i, n int) int {
	j := i + 1
	for j < n && b.name[j] == b.name[i] {
		j++
	}
	return j
}

// send sends rx[from:to] through fd, to name if fd isn't connected, from the local address in
// control if given. Datagrams that the socket doesn't accept are dropped. gso is cleared if the
// kernel refuses to segment for this socket.
func (b *batch) send(fd, from, to int, name *sockaddr, control []byte, gso *bool) {
	for i := from; i < to; {
		seg, n := b.seg[i], int(b.rx[i].n)
		if n > seg && !*gso {
			for off := 0; off < n; off += seg {
				b.begin(fd, name, control, gso)
				b.gather(b.data(i)[off:min(off+seg, n)])
			}
			i++
			continue
		}
		b.begin(fd, name, control, gso)
		b.gather(b.data(i))
		i++
		total := n
		for *gso && i < to && seg > 0 && total%seg == 0 && b.joins(i, seg, total) {
			b.gather(b.data(i))
			total += int(b.rx[i].n)
			i++
		}
		if total > seg {
			b.cutAt(seg)
		}
	}
	b.flush(fd, gso)
}

// joins reports whether rx[i] can follow total bytes of full datagrams of size seg.
func (b *batch) joins(i, seg, total int) bool {
	n := int(b.rx[i].n)
	if n == 0 || total+n > gsoBytes || (total+n+seg-1)/seg > gsoSegments || b.iovs == len(b.txIov) {
		return false
	}
	return b.seg[i] == seg || n < seg && b.seg[i] == n
}

// begin starts another outgoing message of the batch.
func (b *batch) begin(fd int, name *sockaddr, control []byte, gso *bool) {
	if b.txs == len(b.tx) || b.iovs == len(b.txIov) {
		b.flush(fd, gso)
	}
	h := &b.tx[b.txs].hdr
	*h = unix.Msghdr{Iov: &b.txIov[b.iovs]}
	if name != nil {
		h.Name, h.Namelen = &name.raw[0], name.n
	}
	if len(control) > 0 {
		h.Control = &b.txCtl[b.txs][0]
		h.SetControllen(copy(b.txCtl[b.txs][:], control))
	}
	b.txSeg[b.txs] = 0
	b.txs++
}

// gather adds p to the message begun last.
func (b *batch) gather(p []byte) {
	v := &b.txIov[b.iovs]
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
	b.iovs++
	h := &b.tx[b.txs-1].hdr
	h.SetIovlen(int(h.Iovlen) + 1)
}

// cutAt makes the kernel segment the message begun last into datagrams of size seg.
func (b *batch) cutAt(seg int) {
	i := b.txs - 1
	h, ctl := &b.tx[i].hdr, &b.txCtl[i]
	at := int(h.Controllen)
	c := (*unix.Cmsghdr)(unsafe.Pointer(&ctl[at]))
	c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	c.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(ctl[at+unix.CmsgLen(0):], uint16(seg))
	h.Control = &ctl[0]
	h.SetControllen(at + unix.CmsgSpace(2))
	b.txSeg[i] = seg
}

func (b *batch) flush(fd int, gso *bool) {
	for sent, failed := 0, false; sent < b.txs; {
		n, e := sendmmsg(fd, b.tx[sent:b.txs])
		switch {
		case e == 0:
			sent, failed = sent+n, false
			continue
		case e == unix.EAGAIN, e == unix.ENOBUFS:
			sent = b.txs
			continue
		case b.txSeg[sent] > 0 && (e == unix.EINVAL || e == unix.EIO || e == unix.EMSGSIZE || e == unix.EOPNOTSUPP):
			*gso = false
			b.sendCut(fd, sent)
		case !failed:
			failed = true // an earlier datagram's ICMP error, unrelated to this one
			continue
		}
		sent, failed = sent+1, false
	}
	b.txs, b.iovs = 0, 0
}

// sendCut sends tx[i], which the kernel refused to segment, one datagram at a time.
func (b *batch) sendCut(fd, i int) {
	whole := b.tx[i].hdr
	seg := b.txSeg[i]
	one := [1]mmsghdr{{hdr: whole}}
	h := &one[0].hdr
	h.SetControllen(int(whole.Controllen) - unix.CmsgSpace(2))
	if h.Controllen == 0 {
		h.Control = nil
	}
	for _, v := range unsafe.Slice(whole.Iov, whole.Iovlen) {
		for p := unsafe.Slice(v.Base, v.Len); len(p) > 0; {
			n := min(seg, len(p))
			var piece unix.Iovec
			piece.Base = &p[0]
			piece.SetLen(n)
			h.Iov = &piece
			h.SetIovlen(1)
			_, _ = sendmmsg(fd, one[:])
			p = p[n:]
		}
	}
}
