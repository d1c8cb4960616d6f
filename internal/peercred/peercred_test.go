package peercred

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// Both ends get the ids of this process, and a closed connection has none.
func TestGet(t *testing.T) {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.DialUnix("unix", nil, ln.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*net.UnixConn{client, server} {
		cred, err := Get(c)
		if err != nil || int(cred.Pid) != os.Getpid() || int(cred.Uid) != os.Geteuid() || int(cred.Gid) != os.Getegid() {
			t.Errorf("%+v, %v", cred, err)
		}
		c.Close()
		if cred, err := Get(c); err == nil {
			t.Errorf("closed: %+v", cred)
		}
	}
}
