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

// resolvFile is COMMAND's resolv.conf: a file of the instance, which COMMAND's init mounts over
// /etc/resolv.conf. Only the supervisor writes it, in place.
type resolvFile struct {
	f    *os.File
	text string
	mute bool // no name server is reachable; logged already
}

// makeResolvConf makes COMMAND's resolv.conf and returns its path, or "" with --disable-dns.
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
	if err := f.Chmod(0o644); err != nil { // regardless of the umask
		return "", err
	}
	s.resolv.f = f
	return name, s.updateResolvConf()
}

// updateResolvConf rewrites COMMAND's resolv.conf if the host's has changed.
func (s *supervisor) updateResolvConf() error {
	var dns6 netip.Addr
	if s.req.Options.IPv6 {
		dns6 = subnet.DNS6()
	}
	text, mute := resolvconf.Read().Guest(s.net.DNS(), dns6)
	r := &s.resolv
	if mute && !r.mute {
		s.log.Warn("this host has name servers with IPv6 addresses only, which the command can't reach without --ipv6: names don't resolve for it")
	}
	r.mute = mute
	if text == r.text {
		return nil
	}
	// A reader between the write and the truncation sees empty lines at the end.
	padded := append([]byte(text), bytes.Repeat([]byte("\n"), max(0, len(r.text)-len(text)))...)
	if _, err := r.f.WriteAt(padded, 0); err != nil {
		return fmt.Errorf("write the command's resolv.conf: %w", err)
	}
	r.text = text
	return r.f.Truncate(int64(len(text)))
}

// resolvDelay is the time from a change of the host's resolv.conf to reading it: changes come in groups.
// resolvInterval is how often it is read without a notification, for a file whose directory can't be
// watched, such as one mounted over /etc/resolv.conf in a container.
const (
	resolvDelay    = 10 * time.Millisecond
	resolvInterval = time.Minute
)

// followResolvConf keeps COMMAND's resolv.conf up to date, and mounted, until ctx ends.
func (s *supervisor) followResolvConf(ctx context.Context) {
	changes := dirwatch.New()
	defer changes.Close()
	ticker := time.NewTicker(resolvInterval)
	defer ticker.Stop()
	for {
		_ = changes.Set(resolvConfDirs()...) // before the read, so that no change is missed
		if err := s.updateResolvConf(); err != nil {
			s.log.Warn(err)
		}
		s.cmd.Remount()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-changes.C:
			select {
			case <-ctx.Done():
				return
			case <-time.After(resolvDelay):
			}
		}
	}
}

// resolvConfDirs returns the directories of the host's resolv.conf and of the links that lead to it.
func resolvConfDirs() []string {
	chain := launcher.Follow(os.DirFS("/"), resolvconf.Path)
	dirs := []string{path.Dir(chain.Final)}
	for _, l := range chain.Links {
		dirs = append(dirs, path.Dir(l.From))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
