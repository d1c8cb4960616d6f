package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/subnet"
	"github.com/slirpctl/slirpctl/internal/supervisor"
)

// What `up -d` sends its supervisor arrives as it was, bytes that are no text too.
func TestOrder(t *testing.T) {
	spec, err := hostfwd.ParseSpec("127.0.0.1:8080-8089:80-89/tcp,udp")
	if err != nil {
		t.Fatal(err)
	}
	m, err := options.Load(nil, options.Sources{Environ: []string{
		"SLIRPCTL_ALLOW=example.org:80,443 *.example.org:8000-8080 192.0.2.0/24:22/udp [2001:db8::1]:1 192.0.2.1/icmp *",
		"SLIRPCTL_DENY=bad.example.org 198.51.100.1", "SLIRPCTL_UPSTREAM_PROXY=http://[2001:db8::1]:3128", "SLIRPCTL_EGRESS=deny",
		"SLIRPCTL_PUBLISH=auto", "SLIRPCTL_AUTO_EXCLUDE=1-3,5", "SLIRPCTL_MACADDRESS=02:00:5e:10:00:01", "SLIRPCTL_OUTBOUND_ADDR=lo",
	}})
	if err != nil {
		t.Fatal(err)
	}
	o := m.Options
	o.Publish, o.PIDFile, o.Slirp4netnsPath, o.IPv6 = []hostfwd.Spec{spec}, "pid\xff", "\xfe/slirp4netns", true
	o.OutboundAddr.Addr = netip.MustParseAddr("192.0.2.1")
	o.Egress.Narrow, o.Egress.Narrowed = o.Egress.Rules, true
	if o.CIDR, err = subnet.Parse("10.7.0.0/16"); err != nil {
		t.Fatal(err)
	}
	want := startRequest{Request: supervisor.Request{Options: o, Base: "/s\xff", Command: []string{"\xff", "", "a\nb"}, Umask: 0o22}, HasExitFD: true, FileLevel: new(logrus.DebugLevel)}
	want.Request.Container = &instance.Container{ID: "c", Bundle: "/\xfe"}
	var stream bytes.Buffer
	if err := want.send(json.NewEncoder(&stream)); err != nil {
		t.Fatal(err)
	}
	var got startRequest
	if err := got.receive(json.NewDecoder(&stream)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b subnet.Network) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
