package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
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
	m, err := options.Load(nil, options.Sources{})
	if err != nil {
		t.Fatal(err)
	}
	o := m.Options
	o.Publish, o.PIDFile, o.Slirp4netnsPath, o.IPv6 = []hostfwd.Spec{spec}, "pid\xff", "\xfe/slirp4netns", true
	o.OutboundAddr.Addr = netip.MustParseAddr("192.0.2.1")
	if o.CIDR, err = subnet.Parse("10.7.0.0/16"); err != nil {
		t.Fatal(err)
	}
	want := startRequest{Request: supervisor.Request{Options: o, Base: "/s\xff", Command: []string{"\xff", "", "a\nb"}, Umask: 0o22}, HasExitFD: true}
	var stream bytes.Buffer
	if err := json.NewEncoder(&stream).Encode(want); err != nil {
		t.Fatal(err)
	}
	var got startRequest
	if err := json.NewDecoder(&stream).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b subnet.Network) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}
