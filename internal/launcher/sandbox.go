package launcher

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/options"
)

// Refused returns the error for a security option with its value, as "sandbox=true", that is not possible.
func Refused(option, reason string) error {
	return fault.New(fault.Unsupported, fmt.Sprintf("--%s is not possible: %s", option, reason), askProbe)
}

// Security is the decision about sandbox and seccomp. Why has the reasons for those that `auto`
// switched off.
type Security struct {
	Sandbox, Seccomp bool
	Why              []string // "the sandbox is off: …"
}

// Decide decides whether sandbox and seccomp are used: `auto` is on if it can work. If one is
// required and not possible, the error is [fault.Unsupported].
func Decide(o *options.Options, b Binary) (Security, error) {
	var s Security
	var err error
	if s.Sandbox, err = s.toggle("sandbox", o.Sandbox, b, EnableSandbox, sandboxObstacle); err != nil {
		return s, err
	}
	s.Seccomp, err = s.toggle("seccomp", o.Seccomp, b, EnableSeccomp, seccompObstacle)
	return s, err
}

func (s *Security) toggle(name string, t options.Toggle, b Binary, need Feature, obstacle func(Binary) string) (bool, error) {
	if t == options.Off {
		return false, nil
	}
	if !b.Features.Has(need) {
		if t == options.On {
			return false, &MissingFeatureError{Feature: need, Since: need.Since(), Wanted: "--" + name + "=true"}
		}
		s.Why = append(s.Why, fmt.Sprintf("the %s is off: this slirp4netns has no --%s (upstream since %s)", name, need, need.Since()))
		return false, nil
	}
	if why := obstacle(b); why != "" {
		if t == options.On {
			return false, Refused(name+"=true", why)
		}
		s.Why = append(s.Why, fmt.Sprintf("the %s is off: %s", name, why))
		return false, nil
	}
	return true, nil
}

// sandboxObstacle returns why slirp4netns's sandbox can't work on this host, or "".
func sandboxObstacle(b Binary) string {
	if root, _ := os.ReadFile("/proc/self/mountinfo"); rootIsRootfs(string(root)) {
		return "the root file system is an initial ramfs, which pivot_root(2) can't leave"
	}
	chain := Follow(os.DirFS("/"), "/etc/resolv.conf")
	if breaks, _ := chain.BreaksSandboxDNS(b); breaks {
		return fmt.Sprintf("/etc/resolv.conf leads to %s, outside /etc and /run, and the sandbox would cut DNS off", chain.Escape().Path)
	}
	return ""
}

func rootIsRootfs(table string) bool {
	mounts, _ := mountinfo.GetMountsFromReader(strings.NewReader(table), func(m *mountinfo.Info) (skip, stop bool) {
		return m.Mountpoint != "/" || m.FSType != "rootfs" && m.FSType != "ramfs", false
	})
	return len(mounts) > 0
}

// seccompObstacle returns why the system call filter can't work on this host, or "".
func seccompObstacle(Binary) string {
	status, err := os.ReadFile("/proc/self/status")
	if err == nil && !bytes.Contains(status, []byte("\nSeccomp:")) {
		return "this kernel has no seccomp"
	}
	return ""
}
