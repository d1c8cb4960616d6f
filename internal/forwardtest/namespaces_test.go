package forwardtest

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// namespaces starts a process as root in a user and a network namespace of its own, and
// returns its PID. It ends with the test.
func namespaces(t testing.TB) int {
	t.Helper()
	return idle(t, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	})
}

// idle starts a process that does nothing, and returns once it runs.
func idle(t testing.TB, attr *syscall.SysProcAttr) int {
	t.Helper()
	cmd := exec.Command(bin(t, "idle"))
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = attr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("idle: %q, %v", line, err)
	}
	return cmd.Process.Pid
}

// inNetns runs a command in the network namespace of a process, and returns its output.
func inNetns(t testing.TB, pid int, args ...string) string {
	t.Helper()
	return runs(t, append([]string{"nsenter", "--net=/proc/" + strconv.Itoa(pid) + "/ns/net"}, args...)...)
}

func runs(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
