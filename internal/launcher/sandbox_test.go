package launcher

import (
	"errors"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/options"
)

func TestDecide(t *testing.T) {
	all := Features(EnableSandbox, EnableSeccomp, NetnsTypeTapfd)
	none := Features()
	for _, c := range []struct {
		sandbox options.Toggle
		have    FeatureSet
		on      bool
		why     bool // a reason for the log
		fails   bool
	}{
		{options.Auto, all, true, false, false},
		{options.On, all, true, false, false},
		{options.Off, all, false, false, false},
		{options.Auto, none, false, true, false},
		{options.On, none, false, false, true},
		{options.Off, none, false, false, false},
	} {
		s, err := Decide(&options.Options{Sandbox: c.sandbox, Seccomp: options.Off}, Binary{Features: c.have})
		if s.Sandbox != c.on || (len(s.Why) > 0) != c.why || (err != nil) != c.fails {
			t.Errorf("sandbox %v: %+v, %v", c, s, err)
		}
		s, err = Decide(&options.Options{Sandbox: options.Off, Seccomp: c.sandbox}, Binary{Features: c.have})
		if s.Seccomp != c.on || (len(s.Why) > 0) != c.why || (err != nil) != c.fails {
			t.Errorf("seccomp %v: %+v, %v", c, s, err)
		}
		var missing *MissingFeatureError
		if c.fails && !errors.As(err, &missing) {
			t.Errorf("got %v", err)
		}
	}
}

func TestRootIsRootfs(t *testing.T) {
	const disk = "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
	const ram = "1 1 0:2 / / rw - rootfs rootfs rw\n"
	for text, want := range map[string]bool{
		disk: false, ram: true, "": false, "garbage\n": false,
		strings.Replace(ram, "/ / rw", "/ /mnt rw", 1): false,
	} {
		if got := rootIsRootfs(text); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}
