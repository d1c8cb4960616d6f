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
	// The kernel cuts at most this much and this many out of one send (UDP_SEGMENT).
	gsoBytes    = 65000
	gsoSegments = 64
	inControl   = 96
	outControl  = 96
)

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// batch is where datagrams are between their two sockets. They are never copied.
type batch struct {
	mem []byte // mapped, udpBatch × datagramSpace

	in    [udpBatch]mmsghdr
	inIov [udpBatch]unix.Iovec
	name  [udpBatch]sockaddr
	inCtl [udpBatch][inControl]byte
	seg   [udpBatch]int    // size of one datagram in in[i], whose last may be shorter
	local [udpBatch][]byte // the control message that answers in[i] from where it went

	outs, iovs int
	out        [udpBatch]mmsghdr
	outIov     [2 * udpBatch]unix.Iovec
	outCtl     [udpBatch][outControl]byte
	outSeg     [udpBatch]int // 0: a single datagram
}

func newBatch() (*batch, error) {
	mem, err := unix.Mmap(-1, 0, udpBatch*datagramSpace, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	b := &batch{mem: mem}
	for i := range b.in {
		b.inIov[i].Base = &mem[i*datagramSpace]
		b.inIov[i].SetLen(datagramSpace)
		h := &b.in[i].hdr
		h.Iov = &b.inIov[i]
		h.SetIovlen(1)
	}
	return b, nil
}

// forget gives the datagrams' memory back.
func (b *batch) forget() { _ = unix.Madvise(b.mem, unix.MADV_DONTNEED) }

func (b *batch) free() { _ = unix.Munmap(b.mem) }

// data returns the datagrams of in[i].
func (b *batch) data(i int) []byte {
	return b.mem[i*datagramSpace:][:b.in[i].n]
}

// receive reads what waits at fd. Names and local addresses are wanted from a listener only.
func (b *batch) receive(fd int, named bool) (int, unix.Errno) {
	for i := range b.in {
		h := &b.in[i].hdr
		h.Name, h.Namelen = nil, 0
		if named {
			b.name[i] = sockaddr{}
			h.Name, h.Namelen = &b.name[i].raw[0], unix.SizeofSockaddrInet6
		}
		h.Control = &b.inCtl[i][0]
		h.SetControllen(inControl)
		h.Flags = 0
	}
	n, e := recvmmsg(fd, b.in[:])
	if e != 0 {
		return 0, e
	}
	for i := range n {
		b.name[i].n = b.in[i].hdr.Namelen
		b.readControl(i)
	}
	return n, 0
}

// readControl finds the datagram size and the local address of in[i].
func (b *batch) readControl(i int) {
	b.seg[i], b.local[i] = int(b.in[i].n), nil
	for c := b.inCtl[i][:b.in[i].hdr.Controllen]; len(c) >= unix.SizeofCmsghdr; {
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
			// Keep the address (ipi_spec_dst); the route decides the interface.
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

// sameSender returns the end of the run of datagrams that starts at i and has one source.
func (b *batch) sameSender(i, n int) int {
	j := i + 1
	for j < n && b.name[j] == b.name[i] {
		j++
	}
	return j
}

// send passes in[from:to] on through fd, to name if fd isn't connected, from the local
// address in control if that is given. What the socket won't take is lost, as datagrams are.
// gso is cleared when the kernel refuses to cut for this socket.
func (b *batch) send(fd, from, to int, name *sockaddr, control []byte, gso *bool) {
	for i := from; i < to; {
		seg, n := b.seg[i], int(b.in[i].n)
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
			total += int(b.in[i].n)
			i++
		}
		if total > seg {
			b.cutAt(seg)
		}
	}
	b.flush(fd, gso)
}

// joins says whether in[i] can go behind total bytes of full datagrams of size seg.
func (b *batch) joins(i, seg, total int) bool {
	n := int(b.in[i].n)
	if n == 0 || total+n > gsoBytes || (total+n+seg-1)/seg > gsoSegments || b.iovs == len(b.outIov) {
		return false
	}
	return b.seg[i] == seg || n < seg && b.seg[i] == n
}

// begin opens another message of the batch that goes out.
func (b *batch) begin(fd int, name *sockaddr, control []byte, gso *bool) {
	if b.outs == len(b.out) || b.iovs == len(b.outIov) {
		b.flush(fd, gso)
	}
	h := &b.out[b.outs].hdr
	*h = unix.Msghdr{Iov: &b.outIov[b.iovs]}
	if name != nil {
		h.Name, h.Namelen = &name.raw[0], name.n
	}
	if len(control) > 0 {
		h.Control = &b.outCtl[b.outs][0]
		h.SetControllen(copy(b.outCtl[b.outs][:], control))
	}
	b.outSeg[b.outs] = 0
	b.outs++
}

// gather adds p to the message begun last.
func (b *batch) gather(p []byte) {
	v := &b.outIov[b.iovs]
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
	b.iovs++
	h := &b.out[b.outs-1].hdr
	h.SetIovlen(int(h.Iovlen) + 1)
}

// cutAt makes the kernel cut the message begun last into datagrams of size seg.
func (b *batch) cutAt(seg int) {
	i := b.outs - 1
	h, ctl := &b.out[i].hdr, &b.outCtl[i]
	at := int(h.Controllen)
	c := (*unix.Cmsghdr)(unsafe.Pointer(&ctl[at]))
	c.Level, c.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	c.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(ctl[at+unix.CmsgLen(0):], uint16(seg))
	h.Control = &ctl[0]
	h.SetControllen(at + unix.CmsgSpace(2))
	b.outSeg[i] = seg
}

func (b *batch) flush(fd int, gso *bool) {
	for sent, failed := 0, false; sent < b.outs; {
		n, e := sendmmsg(fd, b.out[sent:b.outs])
		switch {
		case e == 0:
			sent, failed = sent+n, false
			continue
		case e == unix.EAGAIN, e == unix.ENOBUFS:
			sent = b.outs
			continue
		case b.outSeg[sent] > 0 && (e == unix.EINVAL || e == unix.EIO || e == unix.EMSGSIZE || e == unix.EOPNOTSUPP):
			*gso = false
			b.sendCut(fd, sent)
		case !failed:
			failed = true // an earlier datagram's ICMP error: says nothing about this one
			continue
		}
		sent, failed = sent+1, false
	}
	b.outs, b.iovs = 0, 0
}

// sendCut sends out[i], which the kernel would not cut, one datagram at a time.
func (b *batch) sendCut(fd, i int) {
	whole := b.out[i].hdr
	seg := b.outSeg[i]
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
