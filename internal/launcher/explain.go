package launcher

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// StartProblem is the reason why slirp4netns did not become ready, according to its output.
type StartProblem string

// The known reasons. The messages are those of main.c, slirp4netns.c and sandbox.c, 0.2 to 1.3.
const (
	TunDenied       StartProblem = "tun-denied"       // open("/dev/net/tun"): Permission denied
	TunMissing      StartProblem = "tun-missing"      // open("/dev/net/tun"): No such file or directory
	TunNoDriver     StartProblem = "tun-no-driver"    // open("/dev/net/tun"): No such device
	InterfaceExists StartProblem = "interface-exists" // ioctl(TUNSETIFF): Device or resource busy, or Invalid argument
	NetnsDenied     StartProblem = "netns-denied"     // setns(…): Operation not permitted
	TargetGone      StartProblem = "target-gone"      // /proc/PID/ns/…: No such file or directory
	SandboxFailed   StartProblem = "sandbox-failed"   // its mounts, pivot_root, setegid(0)
	SeccompFailed   StartProblem = "seccomp-failed"
	SocketFailed    StartProblem = "socket-failed" // api_bindlisten: bind: Permission denied
	ProcessLimit    StartProblem = "process-limit" // fork: Resource temporarily unavailable
	FileLimit       StartProblem = "file-limit"    // Too many open files
	MemoryLimit     StartProblem = "memory-limit"  // Cannot allocate memory
	StartTimeout    StartProblem = "timeout"       // it runs and never became ready
	StartOther      StartProblem = "other"
)

// StartError says why slirp4netns did not become ready.
type StartError struct {
	Problem StartProblem
	Exit    string // how it ended: "exit status 1", "still running"
	Output  string // the last lines of its output, as one printable line
	// Interface describes the existing interface for InterfaceExists, as "tap0 (bridge)"; "" if unknown.
	Interface string
}

func (e *StartError) Error() string {
	switch e.Problem {
	case StartTimeout:
		return withOutput("slirp4netns did not become ready in time", e.Output)
	case InterfaceExists:
		if e.Interface != "" {
			name, kind, _ := strings.Cut(e.Interface, " ")
			return strings.TrimSpace(name + " exists already in the namespace " + kind)
		}
		return withOutput("the interface exists already in the namespace", e.Output)
	}
	return withOutput(fmt.Sprintf("slirp4netns failed (%s)", e.Exit), e.Output)
}

func withOutput(msg, output string) string {
	if output == "" {
		return msg
	}
	return msg + ": " + output
}

// Hint says which option helps. Package probe knows what to change on the host.
func (e *StartError) Hint() string {
	switch e.Problem {
	case InterfaceExists:
		return "choose another name with --tap-name, or stop the program that made it"
	case NetnsDenied:
		return "you may not enter the namespace's user namespace; name it with --userns, or run as its owner"
	case SandboxFailed:
		return "start without it: --sandbox=false"
	case SeccompFailed:
		return "start without it: --seccomp=false"
	case FileLimit:
		return "raise the limit: ulimit -n (RLIMIT_NOFILE; LimitNOFILE= in systemd)"
	case MemoryLimit:
		return "raise the limit: ulimit -v (RLIMIT_AS), or that of the cgroup (memory.max; MemoryMax= in systemd)"
	case StartTimeout:
		return "allow more time with --timeout, or see the log with --log-level debug"
	}
	return askProbe
}

// Explain returns a [*StartError] for slirp4netns's output. It quotes the last three lines: the cause comes
// first, then what failed because of it ("child failed(1)").
func Explain(exit, output string) *StartError {
	lines := meaningful(output)
	e := &StartError{Problem: StartOther, Exit: exit, Output: strings.Join(lines[max(0, len(lines)-3):], "; ")}
	all := strings.Join(lines, "\n")
	has := func(parts ...string) bool {
		for _, p := range parts {
			if !strings.Contains(all, p) {
				return false
			}
		}
		return true
	}
	switch {
	case has("fork", "Resource temporarily unavailable"), has("clone", "Resource temporarily unavailable"):
		e.Problem = ProcessLimit
	case has("Too many open files"):
		e.Problem = FileLimit
	case has("Cannot allocate memory"):
		e.Problem = MemoryLimit
	case has("/dev/net/tun", "Permission denied"), has("/dev/net/tun", "Operation not permitted"):
		e.Problem = TunDenied
	case has("/dev/net/tun", "No such file"):
		e.Problem = TunMissing
	case has("/dev/net/tun", "No such device"):
		e.Problem = TunNoDriver
	case has("TUNSETIFF", "busy"), has("TUNSETIFF", "File exists"), has("TUNSETIFF", "Invalid argument"):
		e.Problem = InterfaceExists
	case has("create_sandbox failed"), has("setegid"), has("pivot_root"), has("unshare(CLONE_NEWNS)"):
		e.Problem = SandboxFailed
	case has("api_bindlisten"):
		e.Problem = SocketFailed
	case has("enable_seccomp failed"), has("seccomp_load"):
		e.Problem = SeccompFailed
	case has("setns", "not permitted"), has("/ns/", "Permission denied"):
		e.Problem = NetnsDenied
	case has("/proc/", "/ns/", "No such file"):
		e.Problem = TargetGone
	}
	return e
}

// meaningful returns the lines that are about a failure, made printable. The others are also printed on
// success, and would be misunderstood: "seccomp: The following syscalls are blocked: … mount …" is not
// about a failed mount.
func meaningful(text string) []string {
	var keep []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !startsWithAny(line, "sent tapfd=", "received tapfd=", "Starting slirp", "* ",
			"WARNING: ", "do_slirp ", "seccomp: WARNING", "seccomp: The following syscalls", "sandbox: /etc/resolv.conf") {
			keep = append(keep, Printable(line))
		}
	}
	return keep
}

func startsWithAny(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// Printable is [plaintext.Clean] for the output of other programs: it is cut to 300 bytes.
func Printable(s string) string {
	clean := plaintext.Clean(s)
	if len(clean) > 300 {
		clean = strings.ToValidUTF8(clean[:300], "") + "…"
	}
	return clean
}

// Tail returns what was appended to the log since offset, at most the last 8 KiB.
func Tail(log *os.File, offset int64) string {
	fi, err := log.Stat()
	if err != nil {
		return ""
	}
	const most = 8 << 10
	if fi.Size()-offset > most {
		offset = fi.Size() - most
	}
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.NewSectionReader(log, offset, most))
	return b.String()
}
