package launcher

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/trust"
)

// DefaultBinary is the name looked up on PATH if no path is given.
const DefaultBinary = "slirp4netns"

const (
	// For --help and --version each. They take 1 to 2 ms.
	detectTimeout   = 2 * time.Second
	detectGrace     = time.Second / 2 // for reading the pipes after the program has exited
	detectMaxOutput = 64 << 10        // bytes; the longest help text is below 2 KB
)

// Binary is an installed slirp4netns and its features.
type Binary struct {
	Path     string     `json:"path"` // as it will be executed; absolute when found on PATH
	Version  Version    `json:"version"`
	Features FeatureSet `json:"features"` // as listed in its help text
}

// BinaryProblem says what is wrong with a binary.
type BinaryProblem string

// The values of [BinaryError.Problem].
const (
	BinaryMissing       BinaryProblem = "missing"
	BinaryNotExecutable BinaryProblem = "not-executable" // a directory, no x bit, a foreign format, no loader
	BinaryHangs         BinaryProblem = "hangs"          // no exit within 2 seconds
	BinarySilent        BinaryProblem = "prints-nothing"
	BinaryCrashed       BinaryProblem = "crashes" // ended by a signal
	BinaryForeign       BinaryProblem = "not-slirp4netns"
)

// BinaryError is the error of [Detect] if there is no usable slirp4netns.
type BinaryError struct {
	Path    string // as given or as found
	Problem BinaryProblem
	Detail  string // the exit status, signal, or first line of the output; may be empty
	Err     error  // the system's error if it could not be started; may be nil
}

// Error returns one line.
func (e *BinaryError) Error() string {
	var what string
	switch e.Problem {
	case BinaryMissing:
		if !strings.Contains(e.Path, "/") {
			if os.Getenv("PATH") == "" {
				return fmt.Sprintf("%s is in none of the usual directories (PATH is not set)", e.Path)
			}
			return fmt.Sprintf("%s is not on PATH", e.Path)
		}
		what = "does not exist"
	case BinaryNotExecutable:
		what = "can't be executed"
	case BinaryHangs:
		what = fmt.Sprintf("does not end within %s", detectTimeout)
	case BinarySilent:
		what = "prints nothing"
	case BinaryCrashed:
		what = "crashes"
	case BinaryForeign:
		what = "is not slirp4netns"
	default:
		what = string(e.Problem)
	}
	if e.Detail != "" {
		return fmt.Sprintf("%s %s: %s", e.Path, what, e.Detail)
	}
	return fmt.Sprintf("%s %s", e.Path, what)
}

// Unwrap returns the system's error, for example fs.ErrNotExist.
func (e *BinaryError) Unwrap() error { return e.Err }

// Hint returns the hint for the user.
func (e *BinaryError) Hint() string {
	if e.Problem == BinaryMissing {
		return "install slirp4netns (the name of its package in every distribution), or give its path with --slirp4netns-path"
	}
	return "give the path of another one with --slirp4netns-path"
}

// Find returns the absolute path that will be executed for path: path itself if it has a slash, else
// the result of [LookPath]; "" stands for [DefaultBinary]. It does not run the binary.
// The error is a [*BinaryError], or a [*trust.Error] if root would run a file that other users can write.
func Find(path string) (string, error) {
	found, err := find(path)
	if err == nil {
		err = trust.Check(found)
	}
	if err != nil {
		return "", err
	}
	return found, nil
}

func find(path string) (string, error) {
	if path == "" {
		path = DefaultBinary
	}
	found, err := LookPath(path)
	switch {
	case err == nil:
		// Absolute, because it is started in another directory.
		if abs, absErr := filepath.Abs(found); absErr == nil {
			return abs, nil
		}
		return found, nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) || errors.Is(err, syscall.ENOTDIR):
		return "", &BinaryError{Path: path, Problem: BinaryMissing, Err: err}
	}
	return "", &BinaryError{Path: path, Problem: BinaryNotExecutable, Detail: lookDetail(path, err), Err: err}
}

// LookPath is [exec.LookPath] for helper programs: it skips relative and empty entries of PATH, which
// would run files of the current directory. If PATH is not set, as in the hooks of some OCI runtimes,
// it searches the usual directories.
func LookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	path := os.Getenv("PATH")
	if path == "" {
		path = strings.TrimPrefix(childPath, "PATH=")
	}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			if found, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return found, nil
			}
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// lookDetail returns why a file that exists can't be executed.
func lookDetail(path string, err error) string {
	if st, statErr := os.Stat(path); statErr == nil && st.IsDir() {
		return "it is a directory"
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return fs.ErrPermission.Error()
}

// Detect finds slirp4netns (see [Find]) and runs it with --version and --help concurrently. It takes
// at most about 2 seconds, usually 2 ms. The error is a [*BinaryError], that of [Find] or ctx's.
func Detect(ctx context.Context, path string) (Binary, error) {
	found, err := Find(path)
	if err != nil {
		return Binary{Path: path}, err
	}
	type answer struct {
		text string
		err  error
	}
	version := make(chan answer, 1)
	go func() {
		text, err := ask(ctx, found, "--version")
		version <- answer{text, err}
	}()
	b, err := detectHelp(ctx, found)
	v := <-version
	if err != nil {
		return b, err
	}
	if v.err != nil {
		return b, v.err
	}
	b.Version = ParseVersion(v.text)
	if b.Version.Version == "" {
		return b, &BinaryError{Path: found, Problem: BinaryForeign, Detail: "--version printed " + firstLine(v.text)}
	}
	return b, nil
}

func detectHelp(ctx context.Context, found string) (Binary, error) {
	b := Binary{Path: found}
	text, err := ask(ctx, found, "--help")
	if err != nil {
		return b, err
	}
	b.Features = ParseFeatures(text)
	// Every release since 0.2.0 has these three. The usage line is no evidence: it repeats argv[0].
	if !b.Features.Has(Configure) || !b.Features.Has(ReadyFD) || !b.Features.Has(ExitFD) {
		return b, &BinaryError{Path: found, Problem: BinaryForeign, Detail: "--help printed " + firstLine(text)}
	}
	return b, nil
}

// ask runs path with one argument and returns its standard output. The program has no standard
// input and a minimal environment, may print 64 KB and run for 2 seconds, and is killed together with
// its process group.
func ask(ctx context.Context, path, arg string) (string, error) {
	timed, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	stdout, stderr := &boundedBuffer{left: detectMaxOutput}, &boundedBuffer{left: detectMaxOutput}
	cmd := exec.CommandContext(timed, path, arg)
	cmd.Env = childEnv()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = detectGrace // a descendant may hold the pipes open

	if err := cmd.Start(); err != nil {
		return "", startError(path, err)
	}
	err := cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) {
		// The program has exited; kill what it left in its process group.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if timed.Err() != nil {
		return "", &BinaryError{Path: path, Problem: BinaryHangs, Detail: "when asked for " + arg, Err: timed.Err()}
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	out := stdout.String()
	switch {
	case stdout.overflowed || stderr.overflowed:
		return "", &BinaryError{Path: path, Problem: BinaryForeign, Detail: arg + " printed more than 64 KB"}
	case status.Signaled():
		return "", &BinaryError{Path: path, Problem: BinaryCrashed, Detail: fmt.Sprintf("%s ended with signal: %s", arg, status.Signal())}
	case strings.TrimSpace(out) == "" && strings.TrimSpace(stderr.String()) == "":
		return "", &BinaryError{Path: path, Problem: BinarySilent, Detail: fmt.Sprintf("%s ended with exit status %d", arg, status.ExitStatus())}
	case status.ExitStatus() != 0:
		// It may be a slirp4netns whose loader lacks a library: quote the output.
		text := stderr.String()
		if strings.TrimSpace(text) == "" {
			text = out
		}
		problem := BinaryForeign
		if status.ExitStatus() == 127 {
			problem = BinaryNotExecutable // the status of the loader and the shell for a failed start
		}
		return "", &BinaryError{Path: path, Problem: problem, Detail: fmt.Sprintf("%s ended with exit status %d: %s", arg, status.ExitStatus(), firstLine(text))}
	}
	return out, nil
}

func startError(path string, err error) error {
	e := &BinaryError{Path: path, Problem: BinaryNotExecutable, Err: err}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		e.Detail = errno.Error()
	}
	if errno == syscall.ENOENT {
		if _, statErr := os.Stat(path); statErr != nil {
			return &BinaryError{Path: path, Problem: BinaryMissing, Err: err}
		}
		e.Detail = "its interpreter or loader does not exist"
	}
	return e
}

// firstLine returns the first non-empty line of text, quoted and cut to 120 bytes.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if len(line) > 120 {
		line = strings.ToValidUTF8(line[:120], "") + "…"
	}
	return fmt.Sprintf("%q", line)
}

// errTooMuch stops the copying of too much output.
var errTooMuch = errors.New("too much output")

// boundedBuffer keeps a bounded number of bytes and fails on more.
// It must not have a ReadFrom, with which io.Copy would bypass the bound.
type boundedBuffer struct {
	kept       []byte
	left       int
	overflowed bool
}

func (b *boundedBuffer) String() string { return string(b.kept) }

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if len(p) > b.left {
		b.overflowed = true
		return 0, errTooMuch
	}
	b.left -= len(p)
	b.kept = append(b.kept, p...)
	return len(p), nil
}
