package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeStart starts a shell script in slirp4netns's place and returns it with its log's path.
func fakeStart(t *testing.T, script string) (*Process, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "slirp4netns")
	writeFile(t, path, "#!/bin/sh\n"+script+"\n", 0o755)
	log := appendTo(filepath.Join(dir, "log"))
	writeFile(t, string(log), "", 0o600)
	p, err := Start(StartConfig{Path: path, Args: []string{"arg"}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p, string(log)
}

// appendTo is a file that is open only while something is written to it.
type appendTo string

func (path appendTo) Write(words []byte) (int, error) {
	f, err := os.OpenFile(string(path), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Write(words)
}

// patient is for what happens at once, or is broken.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestProcessReadyAndStop(t *testing.T) {
	// As the real one: ready on 3, and it ends when 4 hangs up. It says what it was given.
	p, log := fakeStart(t, `echo "$1 $PWD $PATH"; printf 1 >&3; exec 3>&-; read x <&4; echo hung up >&2`)
	if err := p.WaitReady(patient(t)); err != nil {
		t.Fatal(err)
	}
	if p.Exit() != "still running" {
		t.Errorf("Exit() = %q", p.Exit())
	}
	p.Stop()
	p.Stop()
	<-p.Done()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if want := "arg / " + strings.TrimPrefix(childPath, "PATH=") + "\nhung up\n"; string(text) != want {
		t.Errorf("the log has %q, want %q", text, want)
	} else if p.Output() != want {
		t.Errorf("Output() = %q, want %q", p.Output(), want)
	}
	if p.Exit() != "exit status 0" {
		t.Errorf("Exit() = %q", p.Exit())
	}
}

func TestProcessDiesBeforeReady(t *testing.T) {
	for script, want := range map[string]string{
		"exit 7":                    "exit status 7",
		"kill -SEGV $$":             "signal: segmentation fault",
		"exec 3>&-; exit 3":         "exit status 3",
		"printf 0 >&3; exit 4":      "exit status 4", // no 1
		"printf 1 >/dev/null; true": "exit status 0",
	} {
		p, _ := fakeStart(t, script)
		err := p.WaitReady(patient(t))
		if !errors.Is(err, ErrNotReady) || !strings.HasPrefix(p.Exit(), want) {
			t.Errorf("%s: %v, %s; want %s", script, err, p.Exit(), want)
		}
	}
}

func TestProcessNeverReady(t *testing.T) {
	p, _ := fakeStart(t, "exec sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.WaitReady(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.Kill()
	if p.Exit() != "signal: killed" {
		t.Errorf("Exit() = %q", p.Exit())
	}
}

// One that died after it was ready was ready.
func TestProcessReadyAndDead(t *testing.T) {
	p, _ := fakeStart(t, "printf 1 >&3")
	<-p.Done()
	<-p.ready
	if err := p.WaitReady(patient(t)); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestProcessOwnGroup(t *testing.T) {
	p, _ := fakeStart(t, "read x <&4")
	if pgid, err := syscall.Getpgid(p.PID()); err != nil || pgid != p.PID() {
		t.Errorf("process group %d, %v; want its own, %d", pgid, err, p.PID())
	}
	p.Stop()
}

func TestStartFails(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	before := openFDs(t)
	if _, err := Start(StartConfig{Path: filepath.Join(t.TempDir(), "none"), Log: log}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// A process that was started and stopped leaves no descriptor behind.
func TestProcessLeaksNothing(t *testing.T) {
	p, _ := fakeStart(t, "printf 1 >&3; exec 3>&-; read x <&4")
	if err := p.WaitReady(patient(t)); err != nil { // the poller and the rest are open now
		t.Fatal(err)
	}
	p.Stop()
	before := openFDs(t)
	for range 5 {
		p, _ := fakeStart(t, "printf 1 >&3; exec 3>&-; read x <&4")
		if err := p.WaitReady(patient(t)); err != nil {
			t.Fatal(err)
		}
		p.Stop()
		// The reader of the ready pipe closes it in its own time.
		for ctx := patient(t); openFDs(t) > before && ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
	}
	if after := openFDs(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func openFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// TestHolderEndsInterrupted: a signal to the waiting thread, such as the Go runtime's own, is no end of the wait.
func TestHolderEndsInterrupted(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	holder, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(holder)
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, unix.SIGUSR1)
	defer signal.Stop(handled)
	thread, done := make(chan int), make(chan struct{})
	start := time.Now()
	go func() {
		defer close(done)
		runtime.LockOSThread()
		thread <- unix.Gettid()
		(&Process{holder: holder}).waitHolder()
	}()
	tid := <-thread
	for range 10 {
		for sleeps := false; !sleeps; time.Sleep(time.Millisecond) {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", tid))
			sleeps = strings.Contains(string(stat), ") S ")
			select {
			case <-done:
				if time.Since(start) < stopTimeout {
					t.Fatal("a signal ended the wait")
				}
				return // a machine that is too slow for this
			default:
			}
		}
		_ = unix.Tgkill(os.Getpid(), tid, unix.SIGUSR1)
		<-handled
	}
	_ = cmd.Process.Kill()
	<-done
}
