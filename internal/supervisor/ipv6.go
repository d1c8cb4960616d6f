package supervisor

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/nsexec"
)

// waitIPv6 waits until the tap has a usable IPv6 address. It first restarts IPv6 on the tap, without duplicate
// address detection, which takes seconds: the kernel's router solicitation is lost if it is sent while
// slirp4netns is stopped.
func (s *supervisor) waitIPv6(ctx context.Context) error {
	tap := s.req.Options.TapName
	for _, set := range [][2]string{{"accept_dad", "0"}, {"disable_ipv6", "1"}, {"disable_ipv6", "0"}} {
		_, err := nsexec.Sysctl(s.entry, s.tgt.Netns, "net/ipv6/conf/"+tap+"/"+set[0], "", set[1])
		switch missing := errors.Is(err, fs.ErrNotExist); {
		case missing && set[0] == "disable_ipv6":
			s.log.Warn("--ipv6: this kernel has no IPv6; the namespace has IPv4 alone")
			return nil
		case err != nil && !missing:
			s.log.Warnf("%s: %v; the IPv6 address takes seconds longer", set[0], err)
		}
	}
	a, err := s.guestAgent() // the target may have moved to another namespace
	if err != nil {
		return err
	}
	for {
		if s.guest6, err = usableIPv6(a.PID(), tap); err != nil || s.guest6.IsValid() {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no usable IPv6 address on %s: %w", tap, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// usableIPv6 returns the global address of an interface in the network namespace of a process; the zero address if
// none has passed duplicate address detection. Source: if6_seq_show in the kernel's net/ipv6/addrconf.c.
func usableIPv6(pid int, ifname string) (addr netip.Addr, err error) {
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/if_inet6", pid))
	if err != nil {
		return addr, err
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // address, index, prefix length, scope, flags, name
		if len(f) != 6 || f[3] != "00" || f[5] != ifname {
			continue
		}
		raw, err1 := hex.DecodeString(f[0])
		flags, err2 := strconv.ParseUint(f[4], 16, 32)
		if err1 == nil && err2 == nil && flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) == 0 {
			addr, _ = netip.AddrFromSlice(raw)
		}
	}
	return addr, nil
}
