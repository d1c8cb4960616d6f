package instance

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const envDying = "INSTANCE_TEST_DYING" // the state directory in which this process dies

// init lets a copy of the test process take a name and die as a busy machine lets one die: its first
// thread is gone at once, another one holds the lock for a while.
func init() {
	dir := os.Getenv(envDying)
	if dir == "" {
		return
	}
	runtime.LockOSThread()
	b, err := OpenBase(dir)
	if err == nil {
		_, err = b.Create(context.Background(), "x")
	}
	fmt.Println(err)
	go func() {
		time.Sleep(4 * lockGrace)
		os.Exit(0)
	}()
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

// TestNameOfTheDying: who comes while a killed supervisor has not let go of its lock waits for it.
func TestNameOfTheDying(t *testing.T) {
	b := base(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envDying+"="+b.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	dir := b.dir + "/x"
	for held := true; held && !readHolder(dir).dying(); time.Sleep(time.Millisecond) {
		if held, err = alive(dir); err != nil {
			t.Fatal(err)
		}
	}
	create(t, b, "x")
}

func TestDying(t *testing.T) {
	for _, pid := range []int{os.Getpid(), 0, 1 << 30} {
		if (ProcessState{PID: pid}).dying() {
			t.Errorf("%d is dying", pid)
		}
	}
}

// TestStuck: what /proc/PID/task/TID/status says of processes that were killed or do nothing.
func TestStuck(t *testing.T) {
	const none, kill = "0000000000000000", "0000000000000100"
	status := func(state, own, shared string) thread {
		return parseThread([]byte("Name:\tslirpctl\nState:\t" + state + "\nTgid:\t7\nSigQ:\t0/1\nSigPnd:\t" + own + "\nShdPnd:\t" + shared + "\nSigBlk:\t" + kill + "\n"))
	}
	sleeping := status("S (sleeping)", none, none)
	for name, c := range map[string]struct {
		threads []thread
		dying   bool
		stuck   string
	}{
		"sleeping":                 {threads: []thread{sleeping}},
		"killed":                   {threads: []thread{sleeping, status("S (sleeping)", kill, kill)}, dying: true},
		"killed, shared":           {threads: []thread{status("R (running)", none, kill), sleeping}, dying: true},
		"another signal":           {threads: []thread{status("S (sleeping)", none, "0000000000004000")}},
		"leader ended":             {threads: []thread{status("Z (zombie)", none, none), sleeping}, dying: true},
		"ended":                    {threads: []thread{status("Z (zombie)", none, none)}},
		"gone":                     {},
		"stopped":                  {threads: []thread{status("T (stopped)", none, none)}, stuck: "is stopped"},
		"traced":                   {threads: []thread{sleeping, status("t (tracing stop)", none, none)}, stuck: "is stopped"},
		"frozen (version 1)":       {threads: []thread{status("D (disk sleep)", none, none)}, stuck: "is frozen or waits for a device"},
		"killed and frozen, first": {threads: []thread{status("D (disk sleep)", kill, none), sleeping}, stuck: "was killed but can't exit: it is frozen or waits for a device"},
		"killed and frozen, all":   {threads: []thread{status("D (disk sleep)", none, kill)}, stuck: "was killed but can't exit: it is frozen or waits for a device"},
	} {
		if got := dying(c.threads); got != c.dying {
			t.Errorf("%s: dying: %v", name, got)
		}
		if got := stuck(c.threads); got != c.stuck {
			t.Errorf("%s: stuck: %q, want %q", name, got, c.stuck)
		}
	}
}
