package launcher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The words are those of real failed starts.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		words string
		want  StartProblem
		quote string
	}{
		{"open(\"/dev/net/tun\"): Permission denied\nchild failed(1)\nparent failed\n", TunDenied, `open("/dev/net/tun"): Permission denied; child failed(1); parent failed`},
		{"open(\"/dev/net/tun\"): Operation not permitted\nchild failed(1)\n", TunDenied, `open("/dev/net/tun"): Operation not permitted; child failed(1)`},
		{"open(\"/dev/net/tun\"): No such file or directory\nchild failed(1)\n", TunMissing, `open("/dev/net/tun"): No such file or directory; child failed(1)`},
		{"open(\"/dev/net/tun\"): No such device\nchild failed(1)\n", TunNoDriver, `open("/dev/net/tun"): No such device; child failed(1)`},
		{"ioctl(TUNSETIFF): Device or resource busy\nchild failed(1)\n", InterfaceExists, "ioctl(TUNSETIFF): Device or resource busy; child failed(1)"},
		{"setns(CLONE_NEWNET): Operation not permitted\nchild failed(1)\n", NetnsDenied, "setns(CLONE_NEWNET): Operation not permitted; child failed(1)"},
		{"/proc/4711/ns/net: No such file or directory\n", TargetGone, "/proc/4711/ns/net: No such file or directory"},
		{"setegid(0): Operation not permitted\n", SandboxFailed, "setegid(0): Operation not permitted"},
		{"cannot pivot_root to /tmp: Invalid argument\ncreate_sandbox failed\n", SandboxFailed, "cannot pivot_root to /tmp: Invalid argument; create_sandbox failed"},
		{"ioctl(TUNSETIFF): Invalid argument\nchild failed(1)\n", InterfaceExists, "ioctl(TUNSETIFF): Invalid argument; child failed(1)"},
		{"socketpair: Too many open files\n", FileLimit, "socketpair: Too many open files"},
		{"cannot mount tmpfs on /tmp: Cannot allocate memory\ncreate_sandbox failed\n", MemoryLimit, "cannot mount tmpfs on /tmp: Cannot allocate memory; create_sandbox failed"},
		{"sent tapfd=7 for tap0\nreceived tapfd=7\napi_bindlisten: bind: Permission denied\ndo_slirp is exiting\ndo_slirp failed\nparent failed\n", SocketFailed, "api_bindlisten: bind: Permission denied; parent failed"},
		{"something new\n", StartOther, "something new"},
		{"", StartOther, ""},
		// What it says on a good start is no reason, and none to give up the sandbox or the filter.
		{"sandbox: /etc/resolv.conf (-> /a) seems a symlink to a file outside {/etc, /run}. DNS will not work.\nbang\n", StartOther, "bang"},
		{"seccomp: seccomp_load(): Invalid argument\nenable_seccomp failed\n", SeccompFailed, "seccomp: seccomp_load(): Invalid argument; enable_seccomp failed"},
		{"seccomp: The following syscalls are blocked: execve mount pivot_root setns\nbang\n", StartOther, "bang"},
		{"sent tapfd=5 for tap0\nreceived tapfd=5\nWARNING: Support for seccomp is experimental\nStarting slirp\n* MTU: 1500\nbang\n", StartOther, "bang"},
		{"one\ntwo\nthree\nfour\n", StartOther, "two; three; four"},
		{"\x1b[31mred\x07\r\nforged: yes\n", StartOther, "[31mred; forged: yes"},
	} {
		e := Explain("exit status 1", c.words)
		if e.Problem != c.want || e.Output != c.quote {
			t.Errorf("%q: got %s, %q; want %s, %q", c.words, e.Problem, e.Output, c.want, c.quote)
		}
		if msg := e.Error(); !strings.Contains(msg, c.quote) || strings.Contains(msg, "\n") {
			t.Errorf("%q: message %q", c.words, msg)
		}
		// What the host must change is package probe's to say.
		switch e.Problem {
		case StartOther, SocketFailed, TargetGone, TunDenied, TunMissing, TunNoDriver:
		default:
			if e.Hint() == "" {
				t.Errorf("%s has no hint", e.Problem)
			}
		}
	}
}

func TestPrintable(t *testing.T) {
	long := strings.Repeat("ü", 400)
	got := Printable(long)
	if !strings.HasSuffix(got, "…") || len(got) > 310 || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("a long text becomes %q", got)
	}
	for in, want := range map[string]string{
		"plain": "plain", "a\tb\nc": "abc", "\u009b31m": "31m", "\xff\xfe": "?", "\x7f": "", "a\u202eb\u2066c\u2028d": "abcd",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestTail(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.WriteString("before\nafter\n"); err != nil {
		t.Fatal(err)
	}
	if got := Tail(log, int64(len("before\n"))); got != "after\n" {
		t.Errorf("got %q", got)
	}
	if _, err := log.WriteString(strings.Repeat("x", 100<<10) + "end\n"); err != nil {
		t.Fatal(err)
	}
	if got := Tail(log, 0); len(got) != 8<<10 || !strings.HasSuffix(got, "end\n") {
		t.Errorf("got %d bytes that end in %q", len(got), got[len(got)-5:])
	}
}
