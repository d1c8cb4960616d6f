package launcher

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/slirpctl/slirpctl/internal/fault"
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

// startProblem says about a problem what its error has to: its kind or errno, the hint, and the checks of `slirpctl probe`
// that may find the cause; package probe knows what to change on the host. texts are the messages by which it is recognized:
// all words of one of them.
type startProblem struct {
	name   StartProblem
	is     []error
	hint   string
	checks []string
	texts  [][]string
}

// startProblems are the known problems, in the order in which they are looked for.
var startProblems = []startProblem{
	{ProcessLimit, []error{syscall.EAGAIN}, "", nil, [][]string{{"fork", "Resource temporarily unavailable"}, {"clone", "Resource temporarily unavailable"}}},
	{FileLimit, nil, "raise the limit: ulimit -n (RLIMIT_NOFILE; LimitNOFILE= in systemd)", nil, [][]string{{"Too many open files"}}},
	{MemoryLimit, nil, "raise the limit: ulimit -v (RLIMIT_AS), or that of the cgroup (memory.max; MemoryMax= in systemd)", nil, [][]string{{"Cannot allocate memory"}}},
	{TunDenied, unsupported, "", tunChecks, [][]string{{"/dev/net/tun", "Permission denied"}, {"/dev/net/tun", "Operation not permitted"}}},
	{TunMissing, unsupported, "", tunChecks, [][]string{{"/dev/net/tun", "No such file"}}},
	{TunNoDriver, unsupported, "", tunChecks, [][]string{{"/dev/net/tun", "No such device"}}},
	{
		InterfaceExists,
		[]error{fault.Conflict},
		"choose another name with --tap-name, or stop the program that made it", nil,
		[][]string{{"TUNSETIFF", "busy"}, {"TUNSETIFF", "File exists"}, {"TUNSETIFF", "Invalid argument"}},
	},
	{
		SandboxFailed, unsupported, "start without it: --sandbox=false",
		[]string{"sandbox"},
		[][]string{{"create_sandbox failed"}, {"setegid"}, {"pivot_root"}, {"unshare(CLONE_NEWNS)"}},
	},
	{SocketFailed, nil, "", nil, [][]string{{"api_bindlisten"}}},
	{SeccompFailed, unsupported, "start without it: --seccomp=false", []string{"seccomp"}, [][]string{{"enable_seccomp failed"}, {"seccomp_load"}}},
	{
		NetnsDenied,
		[]error{fault.Unsupported, syscall.EPERM},
		"you may not enter the namespace's user namespace; name it with --userns, or run as its owner", nil,
		[][]string{{"setns", "not permitted"}, {"/ns/", "Permission denied"}},
	},
	{TargetGone, []error{fault.NotFound}, "", nil, [][]string{{"/proc/", "/ns/", "No such file"}}},
	{StartTimeout, []error{fault.Timeout}, "allow more time with --timeout, or see the log with --log-level debug", nil, nil},
}

var (
	unsupported = []error{fault.Unsupported}
	tunChecks   = []string{"tun-device"}
)

// foundIn reports whether the output has all words of one of the problem's messages.
func (p startProblem) foundIn(output string) bool {
	return slices.ContainsFunc(p.texts, func(words []string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(output, w) })
	})
}

func (p StartProblem) about() startProblem {
	for _, known := range startProblems {
		if known.name == p {
			return known
		}
	}
	return startProblem{name: p}
}

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

// Hint returns what to do about it.
func (e *StartError) Hint() string { return cmp.Or(e.Problem.about().hint, askProbe) }

// Is reports whether target is the error's kind or errno.
func (e *StartError) Is(target error) bool { return slices.Contains(e.Problem.about().is, target) }

// HostChecks returns the checks of `slirpctl probe` that may find the cause.
func (e *StartError) HostChecks() []string { return e.Problem.about().checks }

// Explain returns a [*StartError] for slirp4netns's output. It quotes the last three lines: the cause comes
// first, then what failed because of it ("child failed(1)").
func Explain(exit, output string) *StartError {
	lines := meaningful(output)
	e := &StartError{Problem: StartOther, Exit: exit, Output: strings.Join(lines[max(0, len(lines)-3):], "; ")}
	all := strings.Join(lines, "\n")
	if i := slices.IndexFunc(startProblems, func(p startProblem) bool { return p.foundIn(all) }); i >= 0 {
		e.Problem = startProblems[i].name
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
		if line != "" && !Routine([]byte(line)) && !startsWithAny(line, "WARNING: ", "do_slirp ", "seccomp: WARNING", "sandbox: /etc/resolv.conf") {
			keep = append(keep, Printable(line))
		}
	}
	return keep
}

// Routine reports whether a line of slirp4netns's output is one of those that it prints at every start.
func Routine(line []byte) bool {
	return startsWithAny(string(line), "sent tapfd=", "received tapfd=", "Starting slirp", "* ",
		"WARNING: Support for ", "seccomp: The following syscalls")
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
