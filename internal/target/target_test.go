package target

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// sleeper starts a process that does nothing in new namespaces, or in ours for 0.
func sleeper(t *testing.T, flags uintptr) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		lacking(t, err)
	}
	t.Cleanup(func() { end(cmd) })
	return cmd
}

// lacking skips where the machine forbids namespaces; in CI it does not.
func lacking(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

const newNetwork = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET

func TestFromPID(t *testing.T) {
	cmd := sleeper(t, newNetwork)
	tgt, err := FromPID(t.Context(), cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	if same, err := SameAs(tgt.Netns, fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)); err != nil || !same {
		t.Errorf("another network namespace was pinned: %v", err)
	}
	if same, err := SameAs(tgt.Userns, fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid)); err != nil || !same {
		t.Errorf("another user namespace was pinned: %v", err)
	}
	if tgt.Gone() {
		t.Error("gone while it runs")
	}
	end(cmd)
	if !tgt.Gone() {
		t.Error("not gone after its end")
	}
}

func TestFromPIDRefuses(t *testing.T) {
	dead := sleeper(t, newNetwork)
	end(dead)
	for _, pid := range []int{dead.Process.Pid, 1 << 22, -1} {
		if _, err := FromPID(t.Context(), pid, 0); !errors.Is(err, ErrGone) {
			t.Errorf("%d: %v", pid, err)
		}
	}
	ours := sleeper(t, 0)
	for _, pid := range []int{ours.Process.Pid, os.Getpid()} {
		if _, err := FromPID(t.Context(), pid, 5*time.Millisecond); !errors.Is(err, ErrOwnNetns) {
			t.Errorf("%d: %v", pid, err)
		}
	}
}

// A process that leaves our network a moment later is waited for.
func TestFromPIDWaits(t *testing.T) {
	ready, go1, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	defer go1.Close()
	cmd := exec.Command("sh", "-c", "read x; exec unshare --user --map-root-user --net sleep 1000")
	cmd.Stdin = ready
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	go func() {
		time.Sleep(20 * time.Millisecond)
		_, _ = go1.WriteString("go\n")
	}()
	tgt, err := FromPID(t.Context(), cmd.Process.Pid, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	// One that ends meanwhile is not waited for.
	short := exec.Command("sleep", "0.05")
	if err := short.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = short.Wait() }()
	if _, err := FromPID(t.Context(), short.Process.Pid, time.Hour); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
}

// TestFromPIDWaitsForIDs: unshare(1), bwrap(1) and newuidmap(1) write the id maps after the namespaces were made.
func TestFromPIDWaitsForIDs(t *testing.T) {
	cmd := exec.Command("unshare", "--user", "--net", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(cmd) })
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	// Nobody has an id in there, and nobody will: that is a target, too.
	tgt, err := FromPID(t.Context(), cmd.Process.Pid, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	tgt.Close()
	file := func(name string) string { return fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name) }
	mapped := make(chan error, 1)
	time.AfterFunc(20*time.Millisecond, func() {
		err := os.WriteFile(file("uid_map"), fmt.Appendf(nil, "0 %d 1", os.Getuid()), 0)
		if err == nil {
			err = os.WriteFile(file("setgroups"), []byte("deny"), 0)
		}
		if err == nil {
			err = os.WriteFile(file("gid_map"), fmt.Appendf(nil, "0 %d 1", os.Getgid()), 0)
		}
		mapped <- err
	})
	tgt, err = FromPID(t.Context(), cmd.Process.Pid, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	if ids, err := os.ReadFile(file("gid_map")); err != nil || len(ids) == 0 {
		t.Errorf("it did not wait: the map is %q, %v", ids, err)
	}
	if err := <-mapped; err != nil {
		t.Fatal(err)
	}
}

func TestFromNetns(t *testing.T) {
	cmd := sleeper(t, newNetwork)
	netns := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	userns := fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid)
	for _, user := range []string{"", userns} {
		tgt, err := FromNetns(netns, user)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := SameAs(tgt.Userns, userns); err != nil || !same {
			t.Errorf("another user namespace: %v", err)
		}
		tgt.Close()
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"no-such-name", "/no/such/path", file, t.TempDir(), userns} {
		if _, err := FromNetns(path, ""); !errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := FromNetns("/proc/self/ns/net", ""); !errors.Is(err, ErrOwnNetns) {
		t.Errorf("our own: %v", err)
	}
	if _, err := FromNetns(netns, netns); !errors.Is(err, fault.Unsupported) && !errors.Is(err, ErrGone) {
		t.Errorf("a network namespace for a user namespace: %v", err)
	}
}

func TestWatchTarget(t *testing.T) {
	cmd := sleeper(t, newNetwork)
	tgt, err := FromPID(t.Context(), cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	w, err := tgt.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	select {
	case <-w.Target:
		t.Fatal("gone while it runs")
	default:
	}
	end(cmd)
	within(t, w.Target, "the target's end")
}

// A target that is a path has ended once the path is gone or leads elsewhere.
func TestWatchPath(t *testing.T) {
	for name, end := range map[string]func(path string) error{
		"removed":     os.Remove,
		"renamed":     func(path string) error { return os.Rename(path, path+".old") },
		"replaced":    func(path string) error { return os.Rename(path+".new", path) },
		"gone before": func(path string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ns")
			for _, p := range []string{path, path + ".new"} {
				if err := os.WriteFile(p, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			fi, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			tgt := &Target{NetnsPath: path, ino: fi.Sys().(*syscall.Stat_t).Ino}
			if name == "gone before" {
				tgt.ino++
			}
			w, err := tgt.Watch(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			if err := end(path); err != nil {
				t.Fatal(err)
			}
			within(t, w.Target, name)
		})
	}
}

func TestWatchExitFD(t *testing.T) {
	cmd := sleeper(t, newNetwork)
	tgt, err := FromPID(t.Context(), cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	watch, err := tgt.Watch(r)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if _, err := w.WriteString("data is no hang-up"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-watch.HungUp:
		t.Fatal("data was taken for a hang-up")
	case <-time.After(10 * time.Millisecond):
	}
	w.Close()
	within(t, watch.HungUp, "the hang-up")
	// The target is watched still.
	end(cmd)
	within(t, watch.Target, "the target's end, after the hang-up")
}

func within(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("%s was not noticed", what)
	}
}

func TestNothingLeaks(t *testing.T) {
	cmd := sleeper(t, newNetwork)
	once := func() {
		tgt, err := FromPID(t.Context(), cmd.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		w, err := tgt.Watch(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Stop()
		tgt.Close()
		_, _ = FromPID(t.Context(), os.Getpid(), 0)
		_, _ = FromNetns("/proc/self/ns/net", "")
		_, _ = FromNetns("/proc/self/ns/user", "")
	}
	once()
	before := openFDs(t)
	for range 10 {
		once()
	}
	// What ends by itself gets the time for it.
	after := openFDs(t)
	for deadline := time.Now().Add(time.Minute); after > before && time.Now().Before(deadline); after = openFDs(t) {
		time.Sleep(time.Millisecond)
	}
	if after > before {
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

func TestProcPID(t *testing.T) {
	for path, want := range map[string]int{
		"/proc/17/ns/net": 17, "/proc/self/ns/net": os.Getpid(), "/proc/x/ns/net": 0, "/run/netns/17": 0, "/proc/": 0,
		"/dev/fd/0": os.Getpid(), "/dev/stdin": os.Getpid(), "/proc/thread-self/fd/0": os.Getpid(),
	} {
		if got, ok := procPID(path); ok != (want != 0) || ok && got != want {
			t.Errorf("%s: %d, %t", path, got, ok)
		}
	}
}
