package launcher

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/slirpctl/slirpctl/internal/options"
)

// SecurityError: a security option that was demanded can't be had.
type SecurityError struct{ Option, Reason string }

func (e *SecurityError) Error() string {
	return fmt.Sprintf("--%s=true can't be had: %s", e.Option, e.Reason)
}

// Security is the decision about sandbox and seccomp, with the reasons for what is off though
// nobody asked for that.
type Security struct {
	Sandbox, Seccomp bool
	Why              []string // "the sandbox is off: …"
}

// Decide settles sandbox and seccomp: wanted as asked, `auto` where it can work. A demanded one
// that can't be had is a [*SecurityError] or a [*MissingFeatureError].
func Decide(o *options.Options, f FeatureSet) (Security, error) {
	var s Security
	var err error
	if s.Sandbox, err = s.toggle("sandbox", o.Sandbox, f, EnableSandbox, sandboxObstacle); err != nil {
		return s, err
	}
	s.Seccomp, err = s.toggle("seccomp", o.Seccomp, f, EnableSeccomp, seccompObstacle)
	return s, err
}

func (s *Security) toggle(name string, t options.Toggle, f FeatureSet, need Feature, obstacle func(FeatureSet) string) (bool, error) {
	if t == options.Off {
		return false, nil
	}
	if !f.Has(need) {
		if t == options.On {
			return false, &MissingFeatureError{Feature: need, Since: need.Since(), Wanted: "--" + name + "=true"}
		}
		s.Why = append(s.Why, fmt.Sprintf("the %s is off: this slirp4netns has no --%s (upstream since %s)", name, need, need.Since()))
		return false, nil
	}
	if why := obstacle(f); why != "" {
		if t == options.On {
			return false, &SecurityError{name, why}
		}
		s.Why = append(s.Why, fmt.Sprintf("the %s is off: %s", name, why))
		return false, nil
	}
	return true, nil
}

// sandboxObstacle says why slirp4netns's sandbox can't work on this host, or "".
func sandboxObstacle(f FeatureSet) string {
	if root, _ := os.ReadFile("/proc/self/mountinfo"); rootIsRootfs(root) {
		return "the root file system is an initial ramfs, which pivot_root(2) can't leave"
	}
	// 1.2.1 learned to bind a resolv.conf that leads elsewhere; the help text first shows it
	// with 1.3.0, so 1.2.1 to 1.2.3 are treated as if they had not.
	if f.Has(NetnsTypeTapfd) {
		return ""
	}
	if link := LeavesSandbox("/etc/resolv.conf"); link != "" {
		return fmt.Sprintf("/etc/resolv.conf leads to %s, outside /etc and /run, and the sandbox would cut DNS off", link)
	}
	return ""
}

func rootIsRootfs(mountinfo []byte) bool {
	for line := range bytes.Lines(mountinfo) {
		f := strings.Fields(string(line))
		if len(f) < 7 || f[4] != "/" {
			continue
		}
		for i := 6; i+1 < len(f); i++ {
			if f[i] == "-" && (f[i+1] == "rootfs" || f[i+1] == "ramfs") {
				return true
			}
		}
	}
	return false
}

// LeavesSandbox follows every link of path and returns the first target that is neither below
// /etc nor /run, the directories that slirp4netns's sandbox shows; "" if there is none.
func LeavesSandbox(path string) string {
	for range 40 { // the kernel's own limit, path_resolution(7)
		dest, err := os.Readlink(path)
		if err != nil {
			return ""
		}
		if !filepath.IsAbs(dest) {
			dest = filepath.Join(filepath.Dir(path), dest)
		}
		path = filepath.Clean(dest)
		if !strings.HasPrefix(path, "/etc/") && !strings.HasPrefix(path, "/run/") {
			return path
		}
	}
	return path
}

// seccompObstacle says why the system call filter can't work on this host, or "".
func seccompObstacle(FeatureSet) string {
	status, err := os.ReadFile("/proc/self/status")
	if err == nil && !bytes.Contains(status, []byte("\nSeccomp:")) {
		return "this kernel has no seccomp"
	}
	return ""
}
