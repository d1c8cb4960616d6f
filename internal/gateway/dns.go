package gateway

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/resolvconf"
)

// Bounds of the name server.
const (
	dnsTTL      = 60              // seconds, of answers of its own
	dnsTimeout  = 5 * time.Second // for a question that is asked of the host's servers
	dnsUDPSize  = 1232            // bytes of an answer over UDP, where the client allows more
	dnsAtOnce   = 256             // questions that are being asked
	dnsIdle     = 10 * time.Second
	edeBlocked  = 15 // RFC 8914: the name is on a list of the server's operator
	optionEDE   = 15
	typeHTTPS   = dnsmessage.Type(65)
	typeSVCB    = dnsmessage.Type(64)
	maxDNSBytes = 65535
)

// nameServer answers the guest's queries.
type nameServer struct {
	policy *Policy
	udp    net.PacketConn
	tcp    net.Listener
	slots  chan struct{}
	conns  chan struct{} // slots of their own: one is held for as long as the client likes
	done   chan struct{}
	ask    func(query []byte, tcp bool) ([]byte, error) // the host's servers
}

func newNameServer(udp net.PacketConn, tcp net.Listener, p *Policy) *nameServer {
	return &nameServer{
		policy: p, udp: udp, tcp: tcp, ask: askHost,
		slots: make(chan struct{}, dnsAtOnce), conns: make(chan struct{}, dnsAtOnce), done: make(chan struct{}),
	}
}

func (s *nameServer) close() {
	close(s.done)
	if s.udp != nil {
		s.udp.Close()
	}
	if s.tcp != nil {
		s.tcp.Close()
	}
}

func (s *nameServer) serveUDP() {
	buf := make([]byte, maxDNSBytes)
	for {
		n, from, err := s.udp.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		query := append([]byte(nil), buf[:n]...)
		select {
		case s.slots <- struct{}{}:
		case <-s.done:
			return
		}
		go func() {
			defer func() { <-s.slots }()
			if answer := s.answer(query, false); answer != nil {
				_, _ = s.udp.WriteTo(answer, from)
			}
		}()
	}
}

func (s *nameServer) serveTCP() {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		select {
		case s.conns <- struct{}{}:
		case <-s.done:
			c.Close()
			return
		}
		go func() {
			defer func() { <-s.conns }()
			defer c.Close()
			for s.serveOne(c) == nil {
			}
		}()
	}
}

// serveOne answers one query on a connection.
func (s *nameServer) serveOne(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(dnsIdle))
	query, err := readMessage(c)
	if err != nil {
		return err
	}
	answer := s.answer(query, true)
	if answer == nil {
		return io.EOF
	}
	return writeMessage(c, answer)
}

// readMessage reads a message with its length before it (RFC 1035, 4.2.2).
func readMessage(c net.Conn) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, msg)
	return msg, err
}

func writeMessage(c net.Conn, msg []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

// askHost asks the host's servers, in their order.
func askHost(query []byte, tcp bool) (answer []byte, err error) {
	network := "udp"
	if tcp {
		network = "tcp"
	}
	err = errors.New("the host has no name server")
	for _, server := range resolvconf.Read().Nameservers {
		if answer, err = askServer(network, netip.AddrPortFrom(server, 53), query); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

func askServer(network string, server netip.AddrPort, query []byte) ([]byte, error) {
	c, err := net.DialTimeout(network, server.String(), dnsTimeout)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(dnsTimeout))
	if network == "tcp" {
		if err := writeMessage(c, query); err != nil {
			return nil, err
		}
		return readMessage(c)
	}
	if _, err := c.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, maxDNSBytes)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, err
		}
		if n >= 12 && buf[0] == query[0] && buf[1] == query[1] {
			return buf[:n], nil
		}
	}
}

// answer returns the reply to a query; nil where there is none to give.
func (s *nameServer) answer(query []byte, tcp bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil
	}
	q, err := p.Question()
	if err != nil || h.OpCode != 0 {
		return reply(h, nil, dnsmessage.RCodeFormatError, nil, 0)
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return reply(h, nil, dnsmessage.RCodeFormatError, nil, 0)
	}
	name, err := egress.CanonicalName(q.Name.String())
	v := egress.Verdict{Reason: egress.UnusableName}
	if err == nil && q.Class == dnsmessage.ClassINET {
		v = s.policy.lookUp(name)
	}
	if s.policy.Mode == egress.Enforce {
		if !v.Allowed {
			if err != nil {
				name = strings.Trim(strconv.QuoteToASCII(q.Name.String()), `"`)
			}
			s.policy.Record(egress.NameRecord(name, v, time.Now()))
			var ede uint16
			if hasOPT(&p) {
				ede = edeBlocked
			}
			return reply(h, &q, dnsmessage.RCodeNameError, nil, ede)
		}
		switch q.Type {
		case dnsmessage.TypeA:
			return reply(h, &q, dnsmessage.RCodeSuccess, []netip.Addr{s.policy.names.addr(name)}, 0)
		case dnsmessage.TypeAAAA, typeHTTPS, typeSVCB, dnsmessage.TypeALL:
			return reply(h, &q, dnsmessage.RCodeSuccess, nil, 0)
		}
	}
	return s.forward(h, q, name, query, tcp)
}

// hasOPT reports whether a query, read to the end of its questions, has an OPT record. Only then may the answer have one
// (RFC 6891, section 7).
func hasOPT(p *dnsmessage.Parser) bool {
	if p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return false
	}
	for {
		h, err := p.AdditionalHeader()
		if err != nil || h.Type == dnsmessage.TypeOPT {
			return err == nil
		}
		if p.SkipAdditional() != nil {
			return false
		}
	}
}

// forward asks the host's servers. What goes out is a message made anew: nothing of the guest's
// but the name and the type leaves.
func (s *nameServer) forward(h dnsmessage.Header, q dnsmessage.Question, name string, query []byte, tcp bool) []byte {
	id := h.ID
	if s.policy.Mode == egress.Enforce {
		id = uint16(rand.Uint32())
		plain, err := dnsmessage.NewName(name + ".")
		if err != nil {
			return reply(h, &q, dnsmessage.RCodeFormatError, nil, 0)
		}
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: id, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: plain, Type: q.Type, Class: q.Class}},
		}
		if query, err = m.Pack(); err != nil {
			return reply(h, &q, dnsmessage.RCodeServerFailure, nil, 0)
		}
	}
	answer, err := s.ask(query, tcp)
	if err != nil || len(answer) < 12 || binary.BigEndian.Uint16(answer) != id {
		return reply(h, &q, dnsmessage.RCodeServerFailure, nil, 0)
	}
	binary.BigEndian.PutUint16(answer, h.ID)
	if s.policy.Mode == egress.Log {
		s.learn(answer)
	}
	return answer
}

// learn notes the addresses in an answer under the name that was asked for.
func (s *nameServer) learn(answer []byte) {
	var m dnsmessage.Message
	if m.Unpack(answer) != nil || len(m.Questions) != 1 {
		return
	}
	name, err := egress.CanonicalName(m.Questions[0].Name.String())
	if err != nil {
		return
	}
	for _, r := range m.Answers {
		if b, ok := r.Body.(*dnsmessage.AResource); ok {
			s.policy.names.learn(name, netip.AddrFrom4(b.A))
		}
	}
}

// reply builds an answer. ede is an Extended DNS Error's code, 0 for none.
func reply(h dnsmessage.Header, q *dnsmessage.Question, code dnsmessage.RCode, addrs []netip.Addr, ede uint16) []byte {
	m := dnsmessage.Message{Header: dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, RCode: code,
	}}
	if q != nil {
		m.Questions = []dnsmessage.Question{*q}
	}
	for _, a := range addrs {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: dnsTTL}, Body: &dnsmessage.AResource{A: a.As4()},
		})
	}
	if ede != 0 {
		opt := dnsmessage.Resource{Body: &dnsmessage.OPTResource{Options: []dnsmessage.Option{{
			Code: optionEDE, Data: append(binary.BigEndian.AppendUint16(nil, ede), "slirpctl: no egress rule allows this name"...),
		}}}}
		_ = opt.Header.SetEDNS0(dnsUDPSize, code, false)
		m.Additionals = []dnsmessage.Resource{opt}
	}
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}
