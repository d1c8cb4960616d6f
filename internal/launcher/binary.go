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
	"sync"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
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
	Path     string // as it will be executed; absolute when found on PATH
	Version  Version
	Features FeatureSet // as listed in its help text
}

// binaryError says what is wrong with the binary at path, as "crashes", and details, which may be "".
func binaryError(path, what, detail string, cause error) error {
	if detail != "" {
		what += ": " + detail
	}
	return &fault.Error{Kind: fault.Unsupported, Msg: path + " " + what, Err: cause, Help: "give the path of another one with --slirp4netns-path"}
}

// What can be wrong with a binary.
const (
	notExecutable = "can't be executed" // a directory, no x bit, a foreign format, no loader
	notSlirp      = "is not slirp4netns"
)

func missingBinary(path string, cause error) error {
	what := "does not exist"
	switch {
	case strings.Contains(path, "/"):
	case os.Getenv("PATH") == "":
		what = "is in none of the usual directories (PATH is not set)"
	default:
		what = "is not on PATH"
	}
	return &fault.Error{
		Kind: fault.Unsupported, Msg: path + " " + what, Err: cause,
		Help: "install slirp4netns (the name of its package in every distribution), or give its path with --slirp4netns-path",
	}
}

// Find returns the absolute path that will be executed for path: path itself if it has a slash, else
// the result of [LookPath]; "" stands for [DefaultBinary]. It does not run the binary.
// The error is [fault.Unsupported], or a [*trust.Error] if root would run a file that other users can write.
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
		return "", missingBinary(path, err)
	}
	return "", binaryError(path, notExecutable, lookDetail(path, err), err)
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
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return fs.ErrPermission.Error()
}

// Detect finds slirp4netns (see [Find]) and runs it with --version and --help concurrently. It takes
// at most about 2 seconds, usually 2 ms. The error is [fault.Unsupported], that of [Find] or ctx's.
func Detect(ctx context.Context, path string) (Binary, error) {
	found, err := Find(path)
	if err != nil {
		return Binary{Path: path}, err
	}
	b := Binary{Path: found}
	var version string
	var versionErr error
	var asking sync.WaitGroup
	asking.Go(func() { version, versionErr = ask(ctx, found, "--version") })
	help, err := ask(ctx, found, "--help")
	asking.Wait()
	if err != nil {
		return b, err
	}
	b.Features = ParseFeatures(help)
	// Every release since 0.2.0 has these three. The usage line is no evidence: it repeats argv[0].
	if !b.Features.Has(Configure) || !b.Features.Has(ReadyFD) || !b.Features.Has(ExitFD) {
		return b, binaryError(found, notSlirp, "--help printed "+firstLine(help), nil)
	}
	if versionErr != nil {
		return b, versionErr
	}
	if b.Version = ParseVersion(version); b.Version.Version == "" {
		return b, binaryError(found, notSlirp, "--version printed "+firstLine(version), nil)
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
		return "", binaryError(path, fmt.Sprintf("does not end within %s", detectTimeout), "when asked for "+arg, timed.Err())
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	out := stdout.String()
	switch {
	case stdout.overflowed || stderr.overflowed:
		return "", binaryError(path, notSlirp, arg+" printed more than 64 KB", nil)
	case status.Signaled():
		return "", binaryError(path, "crashes", fmt.Sprintf("%s ended with signal: %s", arg, status.Signal()), nil)
	case strings.TrimSpace(out) == "" && strings.TrimSpace(stderr.String()) == "":
		return "", binaryError(path, "prints nothing", fmt.Sprintf("%s ended with exit status %d", arg, status.ExitStatus()), nil)
	case status.ExitStatus() != 0:
		// It may be a slirp4netns whose loader lacks a library: quote the output.
		text := stderr.String()
		if strings.TrimSpace(text) == "" {
			text = out
		}
		what := notSlirp
		if status.ExitStatus() == 127 {
			what = notExecutable // the status of the loader and the shell for a failed start
		}
		return "", binaryError(path, what, fmt.Sprintf("%s ended with exit status %d: %s", arg, status.ExitStatus(), firstLine(text)), nil)
	}
	return out, nil
}

func startError(path string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return binaryError(path, notExecutable, "", err)
	}
	if errno != syscall.ENOENT {
		return binaryError(path, notExecutable, errno.Error(), err)
	}
	if _, statErr := os.Stat(path); statErr != nil {
		return missingBinary(path, err)
	}
	return binaryError(path, notExecutable, "its interpreter or loader does not exist", err)
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
