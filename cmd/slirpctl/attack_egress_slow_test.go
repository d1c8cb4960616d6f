package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	helperPrograms["stall"] = stall
	helperPrograms["stallsite"] = stallSite
}

// TestAttackEgressSlowReaders: hundreds of connections of which one end never reads take little memory, leave others their
// way, and end with the instance.
func TestAttackEgressSlowReaders(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		l.env = append(l.env, "SERVERS=stallsite 192.0.2.53 \"$DIR/ended\" & exec httpd -listen 192.0.2.53:80 -port port")
		const each = 150
		r := l.attackEgress(fmt.Sprintf(`
			slirpctl up -d --name x --allow 192.0.2.53:80-82 -- stall %d 192.0.2.53 >/dev/null
			stalled() { slirpctl logs x | grep 'stand still'; }
			export -f stalled
			waitfor bash -c stalled
			slirpctl exec x -- fetch http://192.0.2.53/ | head -1
			grep VmRSS /proc/$(slirpctl list --json | jsonget 0.supervisorPid)/status
			[ ! -e "$DIR/ended" ] || echo too early
			slirpctl down x
			waitfor test -e "$DIR/ended"; cat "$DIR/ended"`, each))
		for _, want := range []string{"stand still", "it works\n", fmt.Sprintf("%d have ended\n", 2*each)} {
			if !strings.Contains(r.out, want) || strings.Contains(r.out, "too early") {
				t.Errorf("no %q: %s%s", want, r.out, r.err)
			}
		}
		_, rss, _ := strings.Cut(r.out, "VmRSS:")
		if kB, err := strconv.Atoi(strings.TrimSpace(rss[:max(0, strings.Index(rss, "kB"))])); err != nil || kB > 64<<10 {
			t.Errorf("the supervisor has %d kB, %v: %s", kB, err, r.out)
		}
	})
}

// stall N ADDR has N connections to port 81 of which it never reads, and N to port 82 to which it writes as long as it can.
func stall(args []string) int {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return failed("stall: %v", err)
	}
	var full sync.WaitGroup
	for i := range 2 * n {
		c, err := net.Dial("tcp", net.JoinHostPort(args[1], strconv.Itoa(81+i%2)))
		if err != nil {
			return failed("stall: %v", err)
		}
		if i%2 == 1 {
			full.Go(func() { fill(c) })
		}
	}
	full.Wait()
	fmt.Println("they stand still")
	select {}
}

// fill writes until nobody takes it, or the connection ends.
func fill(c net.Conn) (err error) {
	for data := make([]byte, 1<<16); err == nil; {
		_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		_, err = c.Write(data)
	}
	return err
}

// stallSite ADDR FILE accepts connections on ports 81 and 82 of which it never reads; on 81 it writes as long as it can. When
// all that there were have ended it writes their number to FILE.
func stallSite(args []string) int {
	var mu sync.Mutex
	open, all := 0, 0
	serve := func(c *net.TCPConn, write bool) {
		if write {
			_ = fill(c)
		}
		// Neither end reads: the other's end shows as an error of the socket alone.
		if rc, err := c.SyscallConn(); err == nil {
			_ = rc.Control(func(fd uintptr) {
				for ended := false; !ended; {
					p := []unix.PollFd{{Fd: int32(fd)}}
					_, err := unix.Poll(p, -1)
					ended = p[0].Revents != 0 || err != nil && !errors.Is(err, unix.EINTR)
				}
			})
		}
		mu.Lock()
		defer mu.Unlock()
		if open--; open == 0 {
			_ = publish(args[1], fmt.Sprintf("%d have ended\n", all))
		}
	}
	for _, port := range []int{82, 81} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.ParseIP(args[0]), Port: port})
		if err != nil {
			return failed("stallsite: %v", err)
		}
		go func() {
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					os.Exit(failed("stallsite: %v", err))
				}
				_ = c.SetReadBuffer(4096)
				mu.Lock()
				open++
				all++
				mu.Unlock()
				go serve(c, port == 81)
			}
		}()
	}
	select {}
}
