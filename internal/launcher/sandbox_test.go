package launcher

import (
	"errors"
	"os"
	"path/filepath"
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
		s, err := Decide(&options.Options{Sandbox: c.sandbox, Seccomp: options.Off}, c.have)
		if s.Sandbox != c.on || (len(s.Why) > 0) != c.why || (err != nil) != c.fails {
			t.Errorf("sandbox %v: %+v, %v", c, s, err)
		}
		s, err = Decide(&options.Options{Sandbox: options.Off, Seccomp: c.sandbox}, c.have)
		if s.Seccomp != c.on || (len(s.Why) > 0) != c.why || (err != nil) != c.fails {
			t.Errorf("seccomp %v: %+v, %v", c, s, err)
		}
		var missing *MissingFeatureError
		if c.fails && !errors.As(err, &missing) {
			t.Errorf("got %v", err)
		}
	}
}

func TestLeavesSandbox(t *testing.T) {
	dir := t.TempDir() // neither /etc nor /run
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := filepath.Join(dir, "plain")
	writeFile(t, plain, "", 0o644)
	for path, want := range map[string]string{
		plain:                              "",
		filepath.Join(dir, "none"):         "",
		link("run", "/run/none/conf"):      "",
		link("etc", "/etc/../etc/none"):    "",
		link("out", plain):                 plain,
		link("relative", "plain"):          plain,
		link("etc-and-out", "/etc/../usr"): "/usr",
	} {
		if got := LeavesSandbox(path); got != want {
			t.Errorf("%s leads to %q, want %q", path, got, want)
		}
	}
	loop := link("loop", "loop")
	if got := LeavesSandbox(loop); got != loop {
		t.Errorf("a link to itself leads to %q", got)
	}
}

func TestRootIsRootfs(t *testing.T) {
	const disk = "28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
	const ram = "1 1 0:2 / / rw - rootfs rootfs rw\n"
	for text, want := range map[string]bool{
		disk: false, ram: true, "": false, "garbage\n": false,
		strings.Replace(ram, "/ / rw", "/ /mnt rw", 1): false,
	} {
		if got := rootIsRootfs([]byte(text)); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}
