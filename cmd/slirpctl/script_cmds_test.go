package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdStatus is `status N PROGRAM [ARG...]`: run it, and fail unless it exits with N.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// cmdNeed is `need PROGRAM...`: without one of them the script is skipped; in CI it fails.
func cmdNeed(ts *testscript.TestScript, neg bool, args []string) {
	for _, program := range args {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		lacking(stateOf(ts).t, "%s is not installed; make deps installs it", program)
	}
}

// cmdTarget is `target [-netns] NAME`: start a process that does nothing in a network namespace
// of its own, and store its PID in $NAME. It also has its own user namespace, mapped to root,
// unless -netns is given. It ends with the script, or by endtarget.
func cmdTarget(ts *testscript.TestScript, neg bool, args []string) {
	flags := uintptr(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET)
	if len(args) == 2 && args[0] == "-netns" {
		flags, args = syscall.CLONE_NEWNET, args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: target [-netns] NAME")
	}
	st := stateOf(ts)
	cmd := exec.Command(filepath.Join(ts.Getenv("BIN"), "idle"))
	cmd.Env = []string{st.token}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	// Wait until it has executed its program in its namespaces: clone(2) makes them.
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { st.endTarget(args[0]) })
	if st.targets[args[0]] != nil {
		ts.Fatalf("target %s is there already", args[0])
	}
	st.targets[args[0]] = cmd
	_, err = stdout.Read(make([]byte, 1))
	ts.Check(err)
	own, err := os.Readlink("/proc/self/ns/net")
	ts.Check(err)
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	ts.Check(err)
	if own == its {
		ts.Fatalf("the target is in this network namespace")
	}
	ts.Setenv(args[0], strconv.Itoa(cmd.Process.Pid))
}

// cmdEndTarget is `endtarget NAME`: kill what `target NAME` started, and wait for it.
func cmdEndTarget(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || stateOf(ts).targets[args[0]] == nil {
		ts.Fatalf("usage: endtarget NAME, of a target that runs")
	}
	stateOf(ts).endTarget(args[0])
}

func (st *scriptState) endTarget(name string) {
	if cmd := st.targets[name]; cmd != nil {
		delete(st.targets, name)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// cmdJSONEnv is `jsonenv FILE VAR=PATH...`: store values of a JSON document, as jsonget prints
// them, in the script's environment. FILE may be stdout.
func cmdJSONEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: jsonenv FILE VAR=PATH...")
	}
	text := ts.ReadFile(args[0])
	for _, arg := range args[1:] {
		name, path, ok := strings.Cut(arg, "=")
		if !ok {
			ts.Fatalf("%q is not VAR=PATH", arg)
		}
		value, err := jsonValue([]byte(text), path)
		ts.Check(err)
		ts.Setenv(name, value)
	}
}

// jsonValue finds PATH, such as "target.pid" or "0.ports.1.id", in a JSON document. "len" is the
// length of a list; "" the document. A string is returned without quotes, anything else as JSON.
func jsonValue(text []byte, path string) (string, error) {
	var v any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return "", fmt.Errorf("not JSON: %w: %q", err, text)
	}
	for key := range strings.SplitSeq(path, ".") {
		if key == "" {
			continue
		}
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[key]
			if !ok {
				return "", fmt.Errorf("no %q (of %s) in %s", key, path, text)
			}
			v = next
		case []any:
			if key == "len" {
				v = len(in)
				continue
			}
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(in) {
				return "", fmt.Errorf("no element %q (of %s) in %s", key, path, text)
			}
			v = in[i]
		default:
			return "", fmt.Errorf("nothing below %q (of %s) in %s", key, path, text)
		}
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	out, err := json.Marshal(v)
	return string(out), err
}

// cmdLeftovers is `leftovers`: fail if anything of the script's instances is left. Asynchronous
// cleanup gets a moment to finish.
func cmdLeftovers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: leftovers")
	}
	if left := stateOf(ts).leftovers(); len(left) > 0 {
		ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// leftovers waits until everything is removed and returns what is not: processes, mounts, and files
// in the state and runtime directories.
func (st *scriptState) leftovers() []string {
	deadline := time.Now().Add(patience)
	for {
		left := append(append(st.files(), st.mounts()...), st.processes()...)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (st *scriptState) files() (left []string) {
	for _, dir := range []string{"state", "run"} {
		_ = filepath.WalkDir(filepath.Join(st.dir, dir), func(path string, d fs.DirEntry, err error) error {
			rel, _ := filepath.Rel(st.dir, path)
			switch {
			case err != nil || rel == dir:
			case strings.HasPrefix(rel, "run/slirpctl") && strings.Count(rel, "/") == 1, filepath.Base(path) == ".lock":
				// The base directory and its lock remain.
			case filepath.Base(path) == ".cache":
				return filepath.SkipDir // the cache about slirp4netns remains too
			case filepath.Base(path) == ".ended":
				return filepath.SkipDir // the records of commands that have ended remain until down, or for a day
			default:
				left = append(left, "file "+rel)
			}
			return nil
		})
	}
	return left
}

func (st *scriptState) mounts() (left []string) {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 4 && st.within(f[4]) {
			left = append(left, "mount "+f[4])
		}
	}
	return left
}

func (st *scriptState) within(path string) bool { return strings.HasPrefix(path, st.dir+"/") }

// processes returns the processes of the script's instances: those with the script's token in
// their environment, and those with a file of the script open, such as slirp4netns and the helpers,
// whose environment is not the caller's. The script's own targets don't count.
func (st *scriptState) processes() (left []string) {
	own := map[int]bool{os.Getpid(): true}
	for _, cmd := range st.targets {
		own[cmd.Process.Pid] = true
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || own[pid] || !st.owns(dir) {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue // ended, or a zombie that is not reaped yet
		}
		left = append(left, fmt.Sprintf("process %d: %s", pid, bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
	}
	return left
}

func (st *scriptState) owns(dir string) bool {
	environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
	for v := range bytes.SplitSeq(environ, []byte{0}) {
		if string(v) == st.token {
			return true
		}
	}
	fds, _ := os.ReadDir(filepath.Join(dir, "fd"))
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, "fd", fd.Name())); err == nil && st.within(link) {
			return true
		}
	}
	return false
}

// giveUp ends the processes of a failed script, so that they don't disturb others.
func (st *scriptState) giveUp(t testing.TB, bin string) {
	logs, _ := filepath.Glob(filepath.Join(st.dir, "state", "*", "log"))
	for _, log := range logs {
		if text, err := os.ReadFile(log); err == nil {
			t.Logf("%s:\n%s", log, text)
		}
	}
	down := exec.Command(filepath.Join(bin, "slirpctl"), "down", "--all", "--state-dir", filepath.Join(st.dir, "state"))
	_ = down.Run()
	for _, left := range st.processes() {
		var pid int
		if _, err := fmt.Sscanf(left, "process %d", &pid); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
