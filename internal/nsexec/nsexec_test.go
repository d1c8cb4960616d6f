package nsexec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// output starts a shell with cmd's settings and returns what it prints, and its status.
func output(t *testing.T, cmd Cmd, script string) (string, int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", script}
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	for len(cmd.Files) < 3 {
		cmd.Files = append(cmd.Files, nil)
	}
	cmd.Files[1], cmd.Files[2] = w, w
	proc, err := cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	st, err := proc.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return string(out), st.ExitCode()
}

func TestPlain(t *testing.T) {
	got, status := output(t, Cmd{Env: []string{"A=b"}, Dir: "/proc"}, `echo "$A $PWD $0"; exit 7`)
	if got != "b /proc sh\n" || status != 7 {
		t.Errorf("got %q, %d", got, status)
	}
}

func TestStandardInputIsNull(t *testing.T) {
	if got, _ := output(t, Cmd{}, "readlink /proc/self/fd/0; cat"); got != "/dev/null\n" {
		t.Errorf("got %q", got)
	}
}

func TestNewNamespaces(t *testing.T) {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	cmd := Cmd{NewUser: true, NewMount: true, NewNet: true, Map: MapToRoot, BecomeRoot: true}
	got, status := output(t, cmd, "id -u; id -g; readlink /proc/self/ns/net; mount -t tmpfs tmpfs /tmp && echo mounted")
	lines := strings.Split(got, "\n")
	if status != 0 || len(lines) < 4 || lines[0] != "0" || lines[1] != "0" || lines[2] == own || lines[3] != "mounted" {
		t.Errorf("status %d: %q", status, got)
	}
}

func TestJoin(t *testing.T) {
	target := exec.Command("sleep", "1000")
	target.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := target.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = target.Process.Kill()
		_ = target.Wait()
	}()
	open := func(ns string) *os.File {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", target.Process.Pid, ns))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", target.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	cmd := Cmd{JoinUser: open("user"), JoinNet: open("net"), Confine: &Confine{Root: "/", Caps: 1 << unix.CAP_NET_ADMIN}}
	got, status := output(t, cmd, "readlink /proc/self/ns/net; ip link set lo up && echo up")
	if status != 0 || got != want+"\nup\n" {
		t.Errorf("status %d: %q", status, got)
	}
}

// The program gets the descriptors it was given, in their places, and no other of ours.
func TestFiles(t *testing.T) {
	open := func(text string) *os.File {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	three, five := open("three"), open("five")
	// One that a careless library left without close-on-exec.
	leak, err := syscall.Dup(int(three.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	const script = `cat <&3; echo; cat <&5; echo; for n in 4 6 7 8 9; do [ ! -e /proc/$$/fd/$n ] || echo open $n; done`
	got, _ := output(t, Cmd{Files: []*os.File{nil, nil, nil, three, nil, five}}, script)
	if got != "three\nfive\n" {
		t.Errorf("got %q", got)
	}
	got, _ = output(t, Cmd{KeepFDs: []int{leak}}, fmt.Sprintf("[ -e /proc/$$/fd/%d ] && echo kept", leak))
	if got != "kept\n" {
		t.Errorf("with KeepFDs: %q", got)
	}
	// Places that overlap with the numbers the files have here.
	got, _ = output(t, Cmd{Files: []*os.File{nil, nil, nil, open("five"), open("three")}}, "cat <&3; cat <&4")
	if got != "fivethree" {
		t.Errorf("swapped: %q", got)
	}
}

func TestErrors(t *testing.T) {
	before := openFDs(t)
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mapFailed := errors.New("map failed")
	for _, c := range []struct {
		step string
		cmd  Cmd
		want error
	}{
		{"execve", Cmd{Path: "/no/such"}, syscall.ENOENT},
		{"execve", Cmd{Path: "/"}, syscall.EACCES},
		{"chdir", Cmd{Path: "/bin/sh", Dir: "/no/such"}, syscall.ENOENT},
		{"setns(CLONE_NEWUSER)", Cmd{Path: "/bin/sh", JoinUser: file}, syscall.EINVAL},
		{"setns(CLONE_NEWNET)", Cmd{Path: "/bin/sh", JoinNet: file}, syscall.EINVAL},
		{"", Cmd{Path: "/bin/sh", NewUser: true, Map: func(int) error { return mapFailed }}, mapFailed},
		{"", Cmd{Path: "a\x00b"}, syscall.EINVAL},
	} {
		c.cmd.Args = []string{"x"}
		_, err := c.cmd.Start()
		if !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.cmd.Path, err, c.want)
		}
		var e *Error
		if c.step != "" && (!errors.As(err, &e) || e.Step != c.step) {
			t.Errorf("%v: want step %s", err, c.step)
		}
	}
	if after := openFDs(t) - 1; after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func TestSessionsAndGroups(t *testing.T) {
	const script = `read -r line </proc/$$/stat; set -- ${line##*) }; echo $$ $3 $4`
	got, _ := output(t, Cmd{Setsid: true}, script)
	var pid, pgid, sid int
	if _, err := fmt.Sscan(got, &pid, &pgid, &sid); err != nil || pid != pgid || pid != sid {
		t.Errorf("Setsid: %q", got)
	}
	got, _ = output(t, Cmd{Setpgid: true}, script)
	if _, err := fmt.Sscan(got, &pid, &pgid, &sid); err != nil || pid != pgid || pid == sid {
		t.Errorf("Setpgid: %q", got)
	}
}

// The program has the signals unblocked, and the limit on open files that this process had.
func TestSignalsAndLimits(t *testing.T) {
	got, _ := output(t, Cmd{}, "grep -E 'SigBlk|SigIgn' /proc/self/status; ulimit -Sn")
	plain, err := exec.Command("sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status; ulimit -Sn").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got != string(plain) {
		t.Errorf("got %q, by os/exec %q", got, plain)
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
