package slirpapi

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// need fails the test in CI and skips it elsewhere.
func need(t testing.TB, ok bool, what string) {
	t.Helper()
	if ok {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test needs " + what)
	}
	t.Skip("this test needs " + what)
}

// realSlirp is a slirp4netns on a network namespace of its own.
type realSlirp struct {
	path   string // of the API socket
	cmd    *exec.Cmd
	exitFD *os.File
	target int
	extra  []string
	log    bytes.Buffer
}

func startReal(t testing.TB, extra ...string) *realSlirp {
	t.Helper()
	_, err := exec.LookPath("slirp4netns")
	need(t, err == nil, "slirp4netns")
	need(t, os.Getuid() == 0, "root")
	target := exec.Command("sleep", "600")
	target.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		target.Process.Kill()
		target.Wait()
	})
	s := &realSlirp{path: filepath.Join(t.TempDir(), "api.sock"), target: target.Process.Pid, extra: extra}
	s.start(t)
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *realSlirp) start(t testing.TB) {
	t.Helper()
	readyR, readyW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer readyR.Close()
	exitR, exitW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{"-c", "-r", "3", "-e", "4", "-a", s.path}, s.extra...)
	s.cmd = exec.Command("slirp4netns", append(args, strconv.Itoa(s.target), "tap0")...)
	s.cmd.ExtraFiles = []*os.File{readyW, exitR}
	s.log.Reset()
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.exitFD = exitW
	err = s.cmd.Start()
	readyW.Close()
	exitR.Close()
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := io.ReadAll(readyR); string(b) != "1" {
		s.stop()
		t.Fatalf("slirp4netns did not get ready: %s", s.log.String())
	}
}

// stop ends slirp4netns and returns how it exited.
func (s *realSlirp) stop() error {
	if s.exitFD == nil {
		return nil
	}
	s.exitFD.Close()
	s.exitFD = nil
	return s.cmd.Wait()
}

func (s *realSlirp) kill() {
	s.cmd.Process.Kill()
	s.stop()
	os.Remove(s.path)
}

func (s *realSlirp) newManager(t testing.TB) (*Handler, *hostfwd.Manager) {
	t.Helper()
	h := NewHandler(Config{Path: s.path, Network: netip.MustParsePrefix("10.0.2.0/24")})
	m := hostfwd.NewManager(h, hostfwd.Config{Guest: netip.MustParseAddr("10.0.2.100")})
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return h, m
}

func forwards(t testing.TB, specs ...string) []hostfwd.Forward {
	t.Helper()
	var fs []hostfwd.Forward
	for _, s := range specs {
		spec, err := hostfwd.ParseSpec(s)
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, spec.Forwards()...)
	}
	return fs
}

// freePort returns a free TCP and UDP port of 127.0.0.1 outside the kernel's ephemeral range, so that
// no other process gets it by chance.
func freePort(t testing.TB) int {
	t.Helper()
	for port := 20000 + os.Getpid()%5000; port < 32000; port++ {
		free := true
		for _, p := range []hostfwd.Proto{hostfwd.TCP, hostfwd.UDP} {
			free = free && hostfwd.Diagnose(hostfwd.Forward{Proto: p, HostPort: uint16(port)}) == nil
		}
		if free {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// ownLoopback returns a loopback address that other runs of the tests don't use now.
func ownLoopback() string {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(64 | pid>>16&63), byte(pid >> 8), byte(pid)}).String()
}

func listens(f hostfwd.Forward) bool {
	c, err := net.Dial("tcp", netip.AddrPortFrom(f.HostIP, f.HostPort).String())
	if err == nil {
		c.Close()
	}
	return err == nil
}

// entryLines formats the forwards that slirp4netns lists, without ids, sorted.
func entryLines(t *testing.T, path string) []string {
	t.Helper()
	entries, err := (&Client{Path: path}).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Forward.String())
	}
	slices.Sort(out)
	return out
}

// raiseFiles sets slirp4netns's descriptor limit to n.
func (s *realSlirp) raiseFiles(t testing.TB, n int) {
	t.Helper()
	_, err := exec.LookPath("prlimit")
	need(t, err == nil, "prlimit")
	if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(s.cmd.Process.Pid), fmt.Sprintf("--nofile=%d:%d", n, n)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
