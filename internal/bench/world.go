package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// world is the environment of contestants: their user, directories and programs.
type world struct {
	self string // the benchmark's binary, at a path where contestants may execute it
	tmp  string
	env  []string

	runtime string              // XDG_RUNTIME_DIR
	cred    *syscall.Credential // nil: as the caller
	uid     int

	slirpctl string
	runs     int
	stream   time.Duration // of one stream

	mu    sync.Mutex
	count int // of instances, for names
}

// newWorld prepares a private directory. Root runs contestants as the ordinary user that
// .ci/testenv made, because they are meant for ordinary users.
func newWorld(slirpctl string) (*world, error) {
	w := &world{uid: os.Getuid(), slirpctl: slirpctl}
	home := os.Getenv("HOME")
	if w.uid == 0 {
		name := os.Getenv("SLIRPCTL_TEST_USER")
		if name == "" {
			return nil, errors.New("as root, run this through .ci/testenv (make bench does)")
		}
		u, err := user.Lookup(name)
		if err != nil {
			return nil, err
		}
		w.uid, _ = strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		home = u.HomeDir
		w.cred = &syscall.Credential{Uid: uint32(w.uid), Gid: uint32(gid)}
	}
	var err error
	if w.tmp, err = os.MkdirTemp("", "b"); err != nil {
		return nil, err
	}
	for _, dir := range []string{"tmp", "bin"} {
		if err := os.Mkdir(filepath.Join(w.tmp, dir), 0o700); err != nil {
			return nil, err
		}
	}
	// On a tmpfs, like every XDG_RUNTIME_DIR.
	if w.runtime, err = os.MkdirTemp("/dev/shm", "b"); err != nil {
		w.runtime = filepath.Join(w.tmp, "run")
		if err := os.Mkdir(w.runtime, 0o700); err != nil {
			return nil, err
		}
	}
	w.env = []string{
		"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "HOME=" + home, "LC_ALL=C",
		"XDG_RUNTIME_DIR=" + w.runtime, "TMPDIR=" + w.tmp + "/tmp",
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if w.self, err = w.copyProgram(exe); err != nil {
		return nil, err
	}
	if w.slirpctl, err = w.copyProgram(slirpctl); err != nil {
		return nil, err
	}
	return w, w.own()
}

// own changes the directory's owner to the user that contestants run as.
func (w *world) own() error {
	if w.cred == nil {
		return nil
	}
	for _, dir := range []string{w.tmp, w.runtime} {
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, int(w.cred.Uid), int(w.cred.Gid))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copyProgram copies a program to where that user can execute it.
func (w *world) copyProgram(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	to := filepath.Join(w.tmp, "bin", filepath.Base(path))
	if err := os.WriteFile(to, data, 0o755); err != nil {
		return "", err
	}
	return to, w.own()
}

func (w *world) close() {
	os.RemoveAll(w.tmp)
	os.RemoveAll(w.runtime)
}

// command returns a command of a contestant.
func (w *world) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = w.env
	cmd.Dir = "/"
	// A session for each: the kernel may divide the processors by session (sched(7), autogroup),
	// and a detached supervisor has its own.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.cred, Setsid: true}
	return cmd
}

// run runs a command to its end and returns its output. It kills a command that takes longer
// than a minute.
func (w *world) run(name string, args ...string) (string, error) {
	cmd := w.command(name, args...)
	said := &tail{}
	cmd.Stderr = said
	t := time.AfterFunc(time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer t.Stop()
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(name), err, said)
	}
	return string(out), err
}

// timed runs a command and returns how long it took, in milliseconds.
func (w *world) timed(name string, args ...string) (float64, error) {
	start := time.Now()
	_, err := w.run(name, args...)
	return milliseconds(time.Since(start)), err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

// name returns an unused instance name.
func (w *world) name() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count++
	return "b" + strconv.Itoa(w.count)
}

func (w *world) runDir() string { return w.runtime }

// endProcess waits for a command in its own process group, ends it by SIGTERM and SIGKILL if it takes
// too long, and reaps it.
func endProcess(cmd *exec.Cmd) {
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	for _, sig := range []syscall.Signal{0, syscall.SIGTERM, syscall.SIGKILL} {
		if sig != 0 {
			_ = syscall.Kill(-cmd.Process.Pid, sig)
		}
		select {
		case <-done:
			return
		case <-time.After(2 * time.Second):
		}
	}
	<-done
}

// endNow is endProcess without the first wait.
func endNow(cmd *exec.Cmd) {
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	endProcess(cmd)
}

// freePort returns a port that is now free on the host's loopback for TCP and UDP.
func freePort() (int, error) {
	for range 20 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp4", l.Addr().String())
		l.Close()
		if err == nil {
			u.Close()
			return port, nil
		}
	}
	return 0, errors.New("no free port")
}

func loopback(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
}

// tail keeps the end of a command's output.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-500):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(strings.TrimSpace(string(t.kept)), "\n", "; ")
}

// until calls f until it succeeds, for at most timeout.
func until(ctx context.Context, timeout time.Duration, f func() error) error {
	for end := time.Now().Add(timeout); ; time.Sleep(5 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
	}
}
