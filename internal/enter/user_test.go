package enter

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// TestAttackExecUser: the target's files of names lead out of its root directory, block, or name ids that no user has.
func TestAttackExecUser(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(outside, []byte("victim:x:4711:4711::/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, attack := range map[string]func(passwd string) error{
		"absolute link": func(passwd string) error { return os.Symlink(outside, passwd) },
		"relative link": func(passwd string) error { return os.Symlink("../../../../../../../.."+outside, passwd) },
		"magic link":    func(passwd string) error { return os.Symlink("/proc/self/root"+outside, passwd) },
		"FIFO":          func(passwd string) error { return unix.Mkfifo(passwd, 0o644) },
		"directory":     func(passwd string) error { return os.Mkdir(passwd, 0o755) },
		"the last id":   func(passwd string) error { return os.WriteFile(passwd, []byte("victim:x:4294967295:7::/:\n"), 0o644) },
		"negative id":   func(passwd string) error { return os.WriteFile(passwd, []byte("victim:x:-1:-1::/:\n"), 0o644) },
	} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			if err := errors.Join(os.Mkdir(filepath.Join(root, "etc"), 0o755), attack(filepath.Join(root, "etc/passwd"))); err != nil {
				t.Fatal(err)
			}
			dir, err := os.Open(root)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			s := &nsexec.Session{UID: 1, GID: 1}
			if err := setUser(s, dir, "victim", 0, 0); err == nil {
				t.Errorf("user %d:%d", s.UID, s.GID)
			}
			if err := setUser(s, dir, "4711:12", 0, 1); err != nil || s.UID != 4711 || s.GID != 12 || s.Permitted != 0 {
				t.Errorf("numbers: %+v, %v", s, err)
			}
		})
	}
}
