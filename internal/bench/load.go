package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const loadTimeout = 5 // maximum duration of a blocked call, in seconds

// dial connects to the server behind a forward.
func dial(to netip.AddrPort, typ int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	tv := unix.Timeval{Sec: loadTimeout}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
	if typ == unix.SOCK_STREAM {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if errors.Is(err, unix.EINTR) { // the connect continues (connect(2))
		err = connected(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect %s: %w", to, err)
	}
	return fd, nil
}

// connected waits for the end of an interrupted connect.
func connected(fd int) error {
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for end := time.Now().Add(loadTimeout * time.Second); time.Now().Before(end); {
		if n, _ := unix.Poll(p, 1000); n == 0 {
			continue
		}
		e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && e != 0 {
			err = unix.Errno(e)
		}
		return err
	}
	return unix.ETIMEDOUT
}

// onThread runs f on its own thread.
func onThread(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return f()
}

// sendStream sends to the server for d and returns Gbit/s as received by the server.
func sendStream(to netip.AddrPort, d time.Duration) (gbits float64, err error) {
	err = onThread(func() error {
		fd, err := dial(to, unix.SOCK_STREAM)
		if err != nil {
			return err
		}
		buf := make([]byte, chunk)
		buf[0] = 'S'
		err = writeAll(fd, buf[:1])
		for end := time.Now().Add(d); err == nil && time.Now().Before(end); {
			err = writeAll(fd, buf)
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	// The end of the stream may still be in the forwarder.
	for end := time.Now().Add(loadTimeout * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		var r [16]byte
		if err := ask(to, 'Q', r[:]); err != nil {
			return 0, err
		}
		n, took := binary.BigEndian.Uint64(r[:8]), binary.BigEndian.Uint64(r[8:])
		if n > 0 && took > uint64(d)/2 {
			return float64(n) * 8 / float64(took), nil
		}
	}
	return 0, errors.New("the stream did not arrive")
}

// receiveStream makes the server send for d and returns Gbit/s as received here.
func receiveStream(to netip.AddrPort, d time.Duration) (gbits float64, err error) {
	err = onThread(func() error {
		fd, err := dial(to, unix.SOCK_STREAM)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := writeAll(fd, []byte{'G', byte(max(1, d/(100*time.Millisecond)))}); err != nil {
			return err
		}
		buf := make([]byte, chunk)
		var total int64
		start := time.Now()
		var took time.Duration
		for {
			n, err := unix.Read(fd, buf)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return fmt.Errorf("receive: %w", err)
			}
			if n == 0 {
				break
			}
			total += int64(n)
			took = time.Since(start)
		}
		if took == 0 {
			return errors.New("nothing came")
		}
		gbits = float64(total) * 8 / float64(took)
		return nil
	})
	return gbits, err
}

// ask sends one byte and reads an answer of known length.
func ask(to netip.AddrPort, what byte, answer []byte) error {
	fd, err := dial(to, unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := writeAll(fd, []byte{what}); err != nil {
		return err
	}
	return readFull(fd, answer)
}

// exchange is one connection: connect, send 4 bytes, read 4, close.
func exchange(to netip.AddrPort) error {
	fd, err := dial(to, unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	b := [4]byte{'E', 'c', 'h', 'o'}
	if err := writeAll(fd, b[:]); err != nil {
		return err
	}
	return readFull(fd, b[:])
}

// connections returns how many exchanges a second a number of clients complete in d. Failed ones
// don't count; too many of them are an error.
func connections(to netip.AddrPort, clients int, d time.Duration) (perSecond float64, err error) {
	var mu sync.Mutex
	done, failed := 0, 0
	var last error
	var wg sync.WaitGroup
	start := time.Now()
	for range clients {
		wg.Go(func() {
			_ = onThread(func() error {
				n, bad := 0, 0
				var fail error
				for time.Since(start) < d {
					if err := exchange(to); err != nil {
						bad++
						fail = err
						continue
					}
					n++
				}
				mu.Lock()
				defer mu.Unlock()
				done, failed = done+n, failed+bad
				if fail != nil {
					last = fail
				}
				return nil
			})
		})
	}
	wg.Wait()
	if failed > done/100 {
		return 0, fmt.Errorf("%d of %d connections failed: %w", failed, failed+done, last)
	}
	return float64(done) / time.Since(start).Seconds(), nil
}

// roundTrips times n round trips of one byte, in microseconds.
func roundTrips(to netip.AddrPort, n int) (p50, p99 float64, err error) {
	took := make([]float64, 0, n)
	err = onThread(func() error {
		fd, err := dial(to, unix.SOCK_STREAM)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		b := []byte{'E'}
		for i := range n + n/10 {
			start := time.Now()
			if err := writeAll(fd, b); err != nil {
				return err
			}
			if err := readFull(fd, b); err != nil {
				return err
			}
			if i >= n/10 { // the first are warm-up
				took = append(took, float64(time.Since(start).Nanoseconds())/1e3)
			}
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], nil
}

const datagram = 1400 // bytes

// udpLoss sends datagrams at a rate for d and returns the share that the server did not get,
// and the actual rate.
func udpLoss(fd int, tcp netip.AddrPort, rate float64, d time.Duration) (loss, reached float64, err error) {
	var answer [8]byte
	if err := ask(tcp, 'U', answer[:]); err != nil { // reset the count
		return 0, 0, err
	}
	sent := 0
	var took time.Duration
	_ = onThread(func() error {
		// Make sleeps exact instead of rounding them up by 50 µs (prctl(2)).
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
		b := newBatch(64, datagram)
		start := time.Now()
		pause := unix.Timespec{Nsec: 50_000}
		for took = 0; took < d; took = time.Since(start) {
			for due := int(rate*time.Since(start).Seconds()) - sent; due > 0; {
				n := b.send(fd, min(due, 64))
				sent += max(n, 1) // a refused one counts as lost
				due -= max(n, 1)
				if time.Since(start) > d {
					break
				}
			}
			_ = unix.Nanosleep(&pause, nil)
		}
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
		return nil
	})
	time.Sleep(30 * time.Millisecond) // for datagrams still in buffers
	if err := ask(tcp, 'U', answer[:]); err != nil {
		return 0, 0, err
	}
	got := float64(binary.BigEndian.Uint64(answer[:]))
	return max(0, 1-got/float64(sent)), float64(sent) / took.Seconds(), nil
}

// udpRate searches for the highest rate, in datagrams a second, with less than 1 % loss.
func udpRate(tcp, udp netip.AddrPort) (float64, error) {
	fd, err := dial(udp, unix.SOCK_DGRAM)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	const d = 200 * time.Millisecond
	// To ignore short disturbances, the better of two attempts counts.
	good := func(rate float64) (bool, float64, error) {
		for range 2 {
			loss, reached, err := udpLoss(fd, tcp, rate, d)
			if err != nil || loss < 0.01 {
				return err == nil, reached, err
			}
		}
		return false, 0, nil
	}
	best, low, high := 0.0, 0.0, 0.0
	for rate := 20e3; rate < 4e6; rate *= 1.6 {
		ok, reached, err := good(rate)
		if err != nil {
			return 0, err
		}
		if !ok {
			high = rate
			break
		}
		low, best = rate, reached
		if reached < rate*0.9 { // the sender's own limit
			return best, nil
		}
	}
	for range 3 {
		mid := (low + high) / 2
		ok, reached, err := good(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			low, best = mid, reached
		} else {
			high = mid
		}
	}
	return best, nil
}
