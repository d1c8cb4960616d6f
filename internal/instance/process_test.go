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
		time.Sleep(4 * letGo)
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
