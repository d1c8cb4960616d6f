package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// testenv returns the command line of .ci/testenv for a shell script. It does not change the
// machine's users, whom other tests may be using.
func testenv(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	return exec.Command(filepath.Join(repoRoot(t), ".ci/testenv"), "--no-user", "sh", "-c", script)
}

// tunMode returns the mode of /dev/net/tun, 0 if it is missing. It is unknown while a testenv around
// or beside this test has changed it temporarily.
func tunMode() (mode os.FileMode, known bool) {
	free := func() bool {
		_, err := os.Stat("/run/slirpctl-testenv")
		return os.IsNotExist(err)
	}
	known = free()
	if info, err := os.Stat("/dev/net/tun"); err == nil {
		mode = info.Mode()
	}
	return mode, known && free()
}

// checkTun fails unless /dev/net/tun is unchanged, as far as that is known.
func checkTun(t *testing.T, before os.FileMode, known bool) {
	t.Helper()
	if after, stillKnown := tunMode(); known && stillKnown && after != before {
		t.Errorf("/dev/net/tun had mode %v before and has %v after", before, after)
	}
}

func TestTestenv(t *testing.T) {
	before, known := tunMode()
	cmd := testenv(t, `echo "$TMPDIR"; touch "$TMPDIR/left"; [ -w /dev/net/tun ] || echo no tun; exit 7`)
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != 7 {
		t.Errorf("exit status %d, want the command's own 7", got)
	}
	tmp, rest, _ := strings.Cut(string(out), "\n")
	if _, err := os.Stat(tmp); !os.IsNotExist(err) {
		t.Errorf("TMPDIR %q is still there: %v", tmp, err)
	}
	if os.Geteuid() == 0 && rest != "" {
		t.Errorf("inside, as root: %q", rest)
	}
	checkTun(t, before, known)
}

// TestTestenvInterrupt interrupts it as a terminal does: SIGINT to the whole process group.
func TestTestenvInterrupt(t *testing.T) {
	before, known := tunMode()
	cmd := testenv(t, `echo "$TMPDIR"; exec sleep 60`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tmp, readErr := bufio.NewReader(stdout).ReadString('\n')
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Error(err)
	}
	cmd.Wait()
	if readErr != nil {
		t.Fatal(readErr)
	}
	if got := cmd.ProcessState.ExitCode(); got != 130 {
		t.Errorf("exit status %d, want 130", got)
	}
	if _, err := os.Stat(strings.TrimSpace(tmp)); !os.IsNotExist(err) {
		t.Errorf("TMPDIR %q is still there: %v", tmp, err)
	}
	checkTun(t, before, known)
}
