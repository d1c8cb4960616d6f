package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// server is the destination of forwards. A client's first byte selects what it does:
//
//	E   echoes every byte, including this one, until the client ends
//	S   reads bytes until the client ends, and measures the time
//	Q   replies with 16 bytes: bytes and nanoseconds of the last S, once it is over
//	G   sends bytes for as many tenths of a second as the second byte says
//	U   replies with 8 bytes: datagrams counted since the last U
//
// It uses blocking system calls on threads of their own, to keep the cost of the load low.
type server struct {
	tcp, udp int

	sink  sync.Mutex // held while a sink runs
	bytes int64
	took  time.Duration

	datagrams atomic.Int64
}

const (
	serverThreads = 24        // more than the maximum number of clients
	chunk         = 128 << 10 // bytes a write or read; iperf3's default
)

// listen opens port on every address, for TCP and UDP.
func listen(port int) (*server, error) {
	s := &server{}
	for _, k := range []struct {
		typ int
		fd  *int
	}{{unix.SOCK_STREAM, &s.tcp}, {unix.SOCK_DGRAM, &s.udp}} {
		fd, err := unix.Socket(unix.AF_INET, k.typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
		*k.fd = fd
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
			return nil, fmt.Errorf("bind port %d: %w", port, err)
		}
	}
	_ = unix.SetsockoptInt(s.udp, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	if err := unix.Listen(s.tcp, 1024); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	runtime.GOMAXPROCS(serverThreads + 8) // each blocked thread keeps its P
	for range serverThreads {
		go s.accept()
	}
	go s.count()
	return s, nil
}

func (s *server) accept() {
	runtime.LockOSThread()
	buf := make([]byte, chunk)
	for {
		fd, _, err := unix.Accept4(s.tcp, unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EBADF) || errors.Is(err, unix.EINVAL) {
			return
		}
		if err == nil {
			s.serve(fd, buf)
			unix.Close(fd)
		}
	}
}

func (s *server) serve(fd int, buf []byte) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	n, err := unix.Read(fd, buf[:4])
	if err != nil || n == 0 {
		return
	}
	switch buf[0] {
	case 'E':
		for err == nil && n > 0 {
			if err = writeAll(fd, buf[:n]); err == nil {
				n, err = unix.Read(fd, buf)
			}
		}
	case 'S':
		s.sink.Lock()
		defer s.sink.Unlock()
		s.bytes, s.took = 0, 0
		start := time.Now()
		for {
			n, err := unix.Read(fd, buf)
			if n <= 0 || err != nil {
				break
			}
			s.bytes += int64(n)
			s.took = time.Since(start)
		}
	case 'Q':
		s.sink.Lock()
		out := binary.BigEndian.AppendUint64(nil, uint64(s.bytes))
		out = binary.BigEndian.AppendUint64(out, uint64(s.took))
		s.sink.Unlock()
		_ = writeAll(fd, out)
	case 'G':
		if n < 2 {
			return
		}
		for end := time.Now().Add(time.Duration(buf[1]) * 100 * time.Millisecond); time.Now().Before(end); {
			if writeAll(fd, buf) != nil {
				return
			}
		}
	case 'U':
		_ = writeAll(fd, binary.BigEndian.AppendUint64(nil, uint64(s.datagrams.Swap(0))))
	}
}

// count counts datagrams.
func (s *server) count() {
	runtime.LockOSThread()
	b := newBatch(64, 2048)
	for {
		n, err := b.receive(s.udp)
		if errors.Is(err, unix.EBADF) {
			return
		}
		s.datagrams.Add(int64(n))
	}
}

func writeAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func readFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Read(fd, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("the connection ended early")
		}
		p = p[n:]
	}
	return nil
}
