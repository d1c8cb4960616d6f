package supervisor

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/dirwatch"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/resolvconf"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// resolvFile is COMMAND's resolv.conf: a file of the instance, mounted over /etc/resolv.conf by
// COMMAND's init, and written here alone, in place.
type resolvFile struct {
	f    *os.File
	text string
	mute bool // nobody answers; the log has it
}

// makeResolvConf makes COMMAND's resolv.conf and returns its path, "" without DNS.
func (s *supervisor) makeResolvConf() (string, error) {
	if s.req.Options.DisableDNS {
		return "", nil
	}
	name := s.inst.Path(instance.ResolvConf)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return "", err
	}
	s.atEnd(func() { f.Close() })
	if err := f.Chmod(0o644); err != nil { // whatever the umask
		return "", err
	}
	s.resolv.f = f
	return name, s.updateResolvConf()
}

// updateResolvConf makes COMMAND's resolv.conf fit the host's.
func (s *supervisor) updateResolvConf() error {
	var dns6 netip.Addr
	if s.req.Options.IPv6 {
		dns6 = subnet.DNS6()
	}
	text, mute := resolvconf.Read().Guest(s.net.DNS(), dns6)
	r := &s.resolv
	if mute && !r.mute {
		s.log.Warn("this host has name servers with IPv6 addresses only, which the command can't ask without --ipv6: names don't resolve for it")
	}
	r.mute = mute
	if text == r.text {
		return nil
	}
	// Readers that come between the two steps find empty lines.
	padded := append([]byte(text), bytes.Repeat([]byte("\n"), max(0, len(r.text)-len(text)))...)
	if _, err := r.f.WriteAt(padded, 0); err != nil {
		return fmt.Errorf("write the command's resolv.conf: %w", err)
	}
	r.text = text
	return r.f.Truncate(int64(len(text)))
}

// resolvSettle is how long after a change the host's resolv.conf is read: changes come in groups.
// resolvLook is how often it is read without any, for a file of a directory that can't be
// watched, as one that is mounted over /etc/resolv.conf in a container.
const (
	resolvSettle = 10 * time.Millisecond
	resolvLook   = time.Minute
)

// followResolvConf keeps COMMAND's resolv.conf up to date, and in its place, until ctx ends.
func (s *supervisor) followResolvConf(ctx context.Context) {
	changes := dirwatch.New()
	defer changes.Close()
	look := time.NewTicker(resolvLook)
	defer look.Stop()
	for {
		_ = changes.Set(resolvConfDirs()...) // first: what changes from now on is noticed
		if err := s.updateResolvConf(); err != nil {
			s.log.Warn(err)
		}
		s.cmd.Remount()
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-changes.C:
			select {
			case <-ctx.Done():
				return
			case <-time.After(resolvSettle):
			}
		}
	}
}

// resolvConfDirs returns the directories on the way to the host's resolv.conf.
func resolvConfDirs() []string {
	chain := launcher.Follow(os.DirFS("/"), resolvconf.Path)
	dirs := []string{path.Dir(chain.Final)}
	for _, l := range chain.Links {
		dirs = append(dirs, path.Dir(l.From))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
