package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/nettune"
	"github.com/slirpctl/slirpctl/internal/nsexec"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// HostNetwork is slirp4netns's network in a gateway. It is of a block that is nobody's (RFC 7335), so that
// it hides no other from the guest.
func HostNetwork() subnet.Network {
	n, err := subnet.Parse("192.0.0.0/24")
	if err != nil {
		panic(err) // a constant
	}
	return n
}

// Config says what a gateway is to be.
type Config struct {
	// Network is the guest's.
	Network subnet.Network
	MTU     int
	// Guest is the descriptor of the guest's tap, non-blocking. The gateway owns it from now on.
	Guest  *os.File
	Policy *Policy
	Log    func(format string, args ...any)
}

// Gateway is a running gateway.
type Gateway struct {
	// Userns and Netns are its namespaces.
	Userns, Netns *os.File

	holder      *os.Process   // is in the namespaces, and starts nothing
	held        chan struct{} // closed when holder has ended
	conn        *os.File
	guest, gate *os.File
	relay       *relay
	dns         *nameServer
	x           *inspector
	policy      *Policy
	log         func(format string, args ...any)
	running     sync.WaitGroup
}

// Start makes the gateway and begins to carry frames. The caller must Close it.
func Start(cfg Config) (_ *Gateway, err error) {
	g := &Gateway{guest: cfg.Guest, policy: cfg.Policy, log: cfg.Log}
	defer func() {
		if err != nil {
			g.Close()
			err = &fault.Error{Kind: fault.Unsupported, Msg: "egress rules: " + err.Error(), Checks: []string{"egress-rules", "tun-device"}, Err: err}
		}
	}()
	if err := g.makeNamespaces(); err != nil {
		return nil, err
	}
	bits := cfg.Network.CIDR().Bits()
	if g.gate, err = nsexec.OpenTap(g.Userns, g.Netns, nsexec.Tap{
		Name: guestSide, MTU: cfg.MTU, Address: netip.PrefixFrom(cfg.Network.Gateway(), bits),
	}); err != nil {
		return nil, err
	}
	if _, err := nsexec.Sysctl(g.Userns, g.Netns, "net/ipv4/ip_forward", "", "1"); err != nil {
		return nil, err
	}
	if err := nettune.Enter(g.Netns, g.Userns); err != nil {
		g.log("gateway: %v", err) // slower, not wrong
	}
	if err := g.setUp(setup{netip.PrefixFrom(cfg.Network.DNS(), bits)}); err != nil {
		return nil, err
	}
	g.x = newInspector(cfg.Network, cfg.Policy, g.guest, g.gate)
	g.relay.announced = g.x.take
	g.running.Go(g.relay.run)
	g.running.Go(g.dns.serveUDP)
	g.running.Go(g.dns.serveTCP)
	g.running.Go(func() { g.pump(g.guest, g.gate, g.x.fromGuest) })
	g.running.Go(func() { g.pump(g.gate, g.guest, g.x.toGuest) })
	return g, nil
}

// makeNamespaces starts the process that has them.
func (g *Gateway) makeNamespaces() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	g.conn = os.NewFile(uintptr(pair[0]), "gateway")
	child := os.NewFile(uintptr(pair[1]), "gateway")
	defer child.Close()
	cmd := nsexec.Cmd{
		NewUser: true, NewNet: true, Map: nsexec.MapToRoot,
		Confine: &nsexec.Confine{Caps: 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE},
	}
	if err := g.hold(cmd, child); err != nil {
		return err
	}
	dir := "/proc/" + strconv.Itoa(g.holder.Pid) + "/ns/"
	if g.Userns, err = os.Open(dir + "user"); err != nil {
		return err
	}
	g.Netns, err = os.Open(dir + "net")
	return err
}

// hold starts the process that holds the namespaces.
func (g *Gateway) hold(cmd nsexec.Cmd, conn *os.File) (err error) {
	cmd.Args, cmd.Env = []string{"slirpctl", Stage}, []string{"GOMAXPROCS=1"}
	// Not the caller's stderr: who waits for its end, as runc does for a hook's, would wait for the instance's.
	cmd.Files = []*os.File{nil, nil, nil, conn}
	cmd.Setpgid, cmd.Pdeathsig = true, syscall.SIGKILL
	if g.holder, err = cmd.Start(); err != nil {
		return err
	}
	held := make(chan struct{})
	g.held = held
	holder := g.holder
	go func() {
		_, _ = holder.Wait()
		close(held)
	}()
	return nil
}

// setUp has the process in the namespaces set up what is left, and takes its sockets over.
func (g *Gateway) setUp(s setup) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if _, err := unix.Write(int(g.conn.Fd()), data); err != nil {
		return err
	}
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*fdCount))
	var n, oobn int
	for {
		n, oobn, _, _, err = unix.Recvmsg(int(g.conn.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err != nil:
		return err
	case n == 0:
		return errors.New("its process has ended")
	}
	var files []*os.File
	if msgs, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(msgs) == 1 {
		fds, _ := unix.ParseUnixRights(&msgs[0])
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "gateway"))
		}
	}
	defer closeAll(files...)
	if len(files) != fdCount {
		return errors.New(string(buf[:n]))
	}
	tcp, err1 := net.FileListener(files[fdRelay])
	udp, err2 := net.FilePacketConn(files[fdDNS])
	dns, err3 := net.FileListener(files[fdDNSTCP])
	if err1 == nil {
		g.relay = newRelay(tcp.(*net.TCPListener))
	}
	g.dns = newNameServer(udp, dns, g.policy)
	return errors.Join(err1, err2, err3)
}

func (g *Gateway) pump(from, to *os.File, inspect func([]byte) bool) {
	if err := pump(from, to, inspect); err != nil {
		g.log("gateway: %s: %v", from.Name(), err)
	}
}

// PID returns a process within the gateway's namespaces. If somebody has killed it, there is a new one.
func (g *Gateway) PID() (int, error) {
	select {
	case <-g.held:
	default:
		return g.holder.Pid, nil
	}
	g.log("gateway: the process that holds its namespaces has ended: starting it again")
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	g.conn.Close()
	g.conn = w // it ends with this process
	err = g.hold(nsexec.Cmd{JoinUser: g.Userns, JoinNet: g.Netns, Confine: &nsexec.Confine{}}, r)
	if err != nil {
		return 0, fmt.Errorf("gateway: %w", err)
	}
	return g.holder.Pid, nil
}

// RulesChanged has what is under way decided anew: connections that are no longer allowed are reset.
func (g *Gateway) RulesChanged() {
	g.x.forget()
	g.relay.recheck()
}

// Close ends everything that the gateway carries, and the gateway, and waits for both. Nothing passes from
// then on.
func (g *Gateway) Close() {
	if g.relay != nil {
		g.relay.close()
	}
	if g.dns != nil {
		g.dns.close()
	}
	closeAll(g.guest, g.gate)
	if g.x != nil {
		g.x.close()
	}
	if g.holder != nil {
		_ = g.holder.Kill()
	}
	g.running.Wait()
	closeAll(g.conn, g.Userns, g.Netns)
	if g.held != nil {
		<-g.held
	}
}
