package forwardtest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// bulk is the number of bytes that the transfer tests send in each direction.
const bulk = 64 << 20

// bulkData returns a stream of bulk bytes without repetitions.
func bulkData(seed uint64) io.Reader {
	var s [32]byte
	s[0] = byte(seed)
	return io.LimitReader(rand.NewChaCha8(s), bulk)
}

// guestMain is the program inside. It opens and closes servers by commands on stdin, one a line,
// and ends with stdin:
//
//	listen NETWORK ADDR MODE   → ok PORT
//	close NETWORK ADDR         → ok
//	run PROGRAM ARG...         → ok
//	last                       → ok TEXT, what the server "deaf" has got
func guestMain() int {
	fmt.Println("ready")
	servers := map[string]io.Closer{}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		answer, err := "", error(nil)
		switch f[0] {
		case "listen":
			var c io.Closer
			if c, answer, err = serve(f[1], f[2], f[3]); err == nil {
				servers[f[1]+f[2]] = c
			}
		case "close":
			err = servers[f[1]+f[2]].Close()
		case "run":
			var out []byte
			if out, err = exec.Command(f[1], f[2:]...).CombinedOutput(); err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
		case "last":
			answer = <-deafGot
		}
		if err != nil {
			fmt.Println("error", err)
			continue
		}
		fmt.Println("ok", answer)
	}
	return 0
}

func serve(network, addr, mode string) (io.Closer, string, error) {
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, addr)
		if err != nil {
			return nil, "", err
		}
		go serveUDP(c, mode)
		return c, strconv.Itoa(c.LocalAddr().(*net.UDPAddr).Port), nil
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, "", err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveTCP(c.(*net.TCPConn), mode)
		}
	}()
	return l, strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

func serveUDP(c net.PacketConn, mode string) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		answer := buf[:n]
		if mode == "whoami" {
			answer = []byte(from.(*net.UDPAddr).IP.String())
		}
		_, _ = c.WriteTo(answer, from)
	}
}

var deafGot = make(chan string, 1)

func serveTCP(c *net.TCPConn, mode string) {
	defer c.Close()
	switch mode {
	case "echo":
		_, _ = io.Copy(c, c)
	case "whoami":
		fmt.Fprint(c, c.RemoteAddr().(*net.TCPAddr).IP)
	case "late": // answers only when the client has sent everything
		all, err := io.ReadAll(c)
		if err == nil {
			_, _ = c.Write(all)
		}
	case "deaf": // sends everything first, then only reads
		fmt.Fprint(c, "hello")
		_ = c.CloseWrite()
		all, err := io.ReadAll(c)
		deafGot <- fmt.Sprintf("%s %v", all, err)
	case "exchange":
		_, _ = exchange(c, 1)
	case "reset":
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.SetLinger(0)
	}
}

// exchange sends bulkData(seed) and the hash of the data received, and returns the hash of our
// data that the other side sends.
func exchange(c *net.TCPConn, seed uint64) (theirView []byte, err error) {
	h := sha256.New()
	var wg sync.WaitGroup
	var readErr, writeErr error
	wg.Go(func() { _, readErr = io.CopyN(h, c, bulk) })
	wg.Go(func() { _, writeErr = io.Copy(c, bulkData(seed)) })
	wg.Wait()
	if readErr != nil || writeErr != nil {
		return nil, fmt.Errorf("read: %w, write: %w", readErr, writeErr)
	}
	if _, err := c.Write(h.Sum(nil)); err != nil {
		return nil, err
	}
	_ = c.CloseWrite()
	return io.ReadAll(c)
}

// askMain is a client: ask NETWORK ADDR prints the reply of a "whoami" server.
func askMain(args []string) int {
	answer, err := ask(args[0], args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(answer)
	return 0
}

func ask(network, addr string) (string, error) {
	var d net.Dialer
	d.Timeout = testTimeout
	if network == "udp" {
		// Datagrams may be lost, for example one that is sent too early.
		for range 20 {
			answer, err := exchangeUDP(addr, "who am I?")
			if err == nil {
				return answer, nil
			}
		}
		return "", fmt.Errorf("udp %s: no answer", addr)
	}
	c, err := d.Dial(network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(testTimeout))
	all, err := io.ReadAll(c)
	if err == nil && len(all) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(all), err
}

func exchangeUDP(addr, text string) (string, error) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		return "", err
	}
	buf := make([]byte, 65536)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// guest is a running instance of `up -- guest`.
type guest struct {
	t      testing.TB
	w      *world
	name   string
	host   string // the host's address for the suite's clients
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr bytes.Buffer
}

// up starts an instance in the foreground; it ends with the test.
func (w *world) up(name string, args ...string) *guest {
	w.t.Helper()
	args = append([]string{"up", "--name", name}, args...)
	g := &guest{t: w.t, w: w, name: name, cmd: w.command(context.Background(), append(args, "--", bin(w.t, "guest"))...)}
	g.cmd.Stderr = &g.stderr
	var err error
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	g.out = bufio.NewScanner(out)
	if err := g.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	if !g.out.Scan() || g.out.Text() != "ready" {
		_ = g.cmd.Wait()
		w.t.Fatalf("up: %s", g.stderr.String())
	}
	w.t.Cleanup(func() {
		g.in.Close() // ends the guest, and with it the instance
		defer time.AfterFunc(testTimeout, func() { _ = g.cmd.Process.Kill() }).Stop()
		if err := g.cmd.Wait(); err != nil {
			w.t.Errorf("up: %v\n%s", err, g.stderr.String())
		}
	})
	return g
}

func (g *guest) tell(format string, args ...any) string {
	g.t.Helper()
	fmt.Fprintf(g.in, format+"\n", args...)
	if !g.out.Scan() {
		g.t.Fatalf("the guest has ended:\n%s", g.stderr.String())
	}
	answer, ok := strings.CutPrefix(g.out.Text(), "ok ")
	if !ok {
		g.t.Fatalf("in the guest: "+format+": "+g.out.Text(), args...)
	}
	return answer
}

// listen starts a server inside and returns its port.
func (g *guest) listen(network, addr, mode string) int {
	g.t.Helper()
	port, err := strconv.Atoi(g.tell("listen %s %s %s", network, addr, mode))
	if err != nil {
		g.t.Fatal(err)
	}
	return port
}

func (g *guest) close(network, addr string) {
	g.t.Helper()
	g.tell("close %s %s", network, addr)
}

// forward adds one forward from a free host port to the guest's port.
func (g *guest) forward(host string, port int, proto string) row {
	g.t.Helper()
	return g.w.add(g.name, fmt.Sprintf("%s:0:%d/%s", host, port, proto))[0]
}

func (g *guest) ids() []string {
	g.t.Helper()
	return strings.Fields(g.w.must("forward", "list", g.name, "-q"))
}

func (g *guest) remove(which ...string) {
	g.t.Helper()
	g.w.must(append([]string{"forward", "remove", g.name}, which...)...)
}
