package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// helperPrograms are programs on the scripts' PATH, in addition to slirpctl. Each returns its exit
// status.
var helperPrograms = map[string]func(args []string) int{
	"idle":    idle,
	"hold":    hold,
	"httpd":   httpd,
	"fetch":   fetch,
	"frames":  frames,
	"dnsd":    dnsd,
	"lookup":  lookup,
	"waitfor": waitfor,
	"jsonget": jsonget,
	"expect":  expect,
	"closed":  closed,
	"alive":   alive,
	"binds":   binds,
	"forbid":  forbid,
	deathsig:  deathSignal,
}

func failed(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

// idle prints that it runs, and does nothing until it is killed.
func idle([]string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	<-c
	return 0
}

// hold prints when it runs and when it is continued; signals have their default effect. A shell can't be
// used: dash waits in vfork(2), where a stop of its child alone is never noticed.
func hold([]string) int {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCONT)
	fmt.Println("holding")
	for range c {
		fmt.Println("continued")
	}
	return 0
}

// httpd [-listen ADDR] [-port FILE] [-body TEXT] answers every request with TEXT and the client's
// address, and writes its port to FILE once it listens.
func httpd(args []string) int {
	fs := flag.NewFlagSet("httpd", flag.ExitOnError)
	listen := fs.String("listen", "127.0.0.1:0", "")
	file := fs.String("port", "", "")
	body := fs.String("body", "it works", "")
	_ = fs.Parse(args)
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return failed("httpd: %v", err)
	}
	if err := publish(*file, fmt.Sprint(l.Addr().(*net.TCPAddr).Port)); err != nil {
		return failed("httpd: %v", err)
	}
	err = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s\nclient %s\n", *body, r.RemoteAddr)
	}))
	return failed("httpd: %v", err)
}

// publish writes a server's address to a file atomically, because a script waits for the file.
func publish(file, addr string) error {
	if file == "" {
		return nil
	}
	if err := os.WriteFile(file+".new", []byte(addr), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// fetch [-host HOST] URL prints a page, of HOST if that is given. It times out if there is no answer.
func fetch(args []string) int {
	var host string
	if len(args) > 1 && args[0] == "-host" {
		host, args = args[1], args[2:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return failed("fetch: %v", err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return failed("fetch: %v", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return failed("fetch: %v", err)
	}
	return 0
}

// dnsd ADDR FILE is a name server that answers every question for an A record with 192.0.2.53,
// or what the name says (see dnsAnswer), and others with no data. It writes its address to FILE once it listens.
func dnsd(args []string) int {
	conn, err := net.ListenPacket("udp", args[0])
	if err != nil {
		return failed("dnsd: %v", err)
	}
	if err := publish(args[1], conn.LocalAddr().String()); err != nil {
		return failed("dnsd: %v", err)
	}
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return failed("dnsd: %v", err)
		}
		if answer := dnsAnswer(buf[:n]); answer != nil {
			_, _ = conn.WriteTo(answer, from)
		}
	}
}

// dnsAnswer answers one question, see RFC 1035, section 4. A name leads to 192.0.2.53, or to the addresses that its
// labels are, each as x and hexadecimal digits.
func dnsAnswer(query []byte) []byte {
	if len(query) < 12 {
		return nil
	}
	var addrs []netip.Addr
	end := 12
	for end < len(query) && query[end] != 0 {
		label := query[end+1 : min(len(query), end+1+int(query[end]))]
		if digits, ok := strings.CutPrefix(string(label), "x"); ok {
			b, _ := hex.DecodeString(digits)
			if a, ok := netip.AddrFromSlice(b); ok {
				addrs = append(addrs, a)
			}
		}
		end += int(query[end]) + 1
	}
	if len(addrs) == 0 {
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 53})}
	}
	end += 5 // the root label, type, class
	if end > len(query) {
		return nil
	}
	answer := append([]byte(nil), query[:end]...)
	answer[2], answer[3] = 0x81, 0x80 // a response, recursion available
	copy(answer[4:12], []byte{0, 1, 0, 0, 0, 0, 0, 0})
	const typeA, typeAAAA = 1, 28
	typ := binary.BigEndian.Uint16(query[end-4:])
	for _, a := range addrs {
		if typ == typeA && a.Is4() || typ == typeAAAA && a.Is6() {
			answer[7]++
			answer = append(answer, 0xc0, 12, 0, byte(typ), 0, 1, 0, 0, 0, 60, 0, byte(a.BitLen()/8))
			answer = append(answer, a.AsSlice()...)
		}
	}
	return answer
}

// lookup NAME prints the IPv4 addresses of NAME, according to the server in /etc/resolv.conf.
func lookup(args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := net.Resolver{PreferGo: true}
	addrs, err := r.LookupNetIP(ctx, "ip4", args[0])
	if err != nil {
		return failed("lookup: %v", err)
	}
	for _, a := range addrs {
		fmt.Println(netip.Addr.Unmap(a))
	}
	return 0
}

// waitfor [-for DURATION] PROGRAM [ARG...] runs a program repeatedly until it succeeds, and prints
// its last output. -not waits until it fails.
func waitfor(args []string) int {
	fs := flag.NewFlagSet("waitfor", flag.ExitOnError)
	limit := fs.Duration("for", time.Minute, "")
	not := fs.Bool("not", false, "")
	_ = fs.Parse(args)
	deadline := time.Now().Add(*limit)
	for {
		out, err := exec.Command(fs.Arg(0), fs.Args()[1:]...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return failed("waitfor: %v", err)
		}
		if (err != nil) == *not {
			os.Stdout.Write(out)
			return 0
		}
		if time.Now().After(deadline) {
			return failed("waitfor: still not so after %s: %s: %v: %s", *limit, strings.Join(fs.Args(), " "), err, out)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// jsonget PATH [FILE] prints a value of a JSON document: see jsonValue.
func jsonget(args []string) int {
	in := os.Stdin
	if len(args) > 1 {
		f, err := os.Open(args[1])
		if err != nil {
			return failed("jsonget: %v", err)
		}
		in = f
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return failed("jsonget: %v", err)
	}
	value, err := jsonValue(text, args[0])
	if err != nil {
		return failed("jsonget: %v", err)
	}
	fmt.Println(value)
	return 0
}

// closed PROGRAM [ARG...] runs it with standard input, output and error closed.
func closed(args []string) int {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return failed("closed: %v", err)
	}
	for fd := range 3 {
		_ = syscall.Close(fd)
	}
	_ = syscall.Exec(path, args, os.Environ())
	return 1
}

// alive PID succeeds if a thread of the process runs. A zombie doesn't count: not every init reaps. For
// a moment, a zombie may have other threads that run, and hold its locks.
func alive(args []string) int {
	stats, _ := filepath.Glob("/proc/" + args[0] + "/task/*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
		if err == nil && ok && rest != "" && rest[0] != 'Z' && rest[0] != 'X' {
			return 0
		}
	}
	return failed("alive: %s does not run", args[0])
}

// binds ADDR succeeds if a program can listen on the address: an IPv6 address that is still
// being checked for duplicates can't be used.
func binds(args []string) int {
	l, err := net.Listen("tcp", net.JoinHostPort(args[0], "0"))
	if err != nil {
		return failed("binds: %v", err)
	}
	l.Close()
	return 0
}

const deathsig = "deathsig"

// The signal belongs to a thread, and the program starts on its first one: stay there.
var _ = func() bool {
	if filepath.Base(os.Args[0]) == deathsig {
		runtime.LockOSThread()
	}
	return true
}()

// deathSignal prints the signal that this process gets when its parent dies, see PR_GET_PDEATHSIG(2const).
func deathSignal([]string) int {
	var sig int32
	if err := unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&sig)), 0, 0, 0); err != nil {
		return failed("deathsig: %v", err)
	}
	fmt.Println("signal", sig)
	return 0
}
