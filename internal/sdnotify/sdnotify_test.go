package sdnotify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestReady(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "n"), fmt.Sprintf("@slirpctl-test-%d", os.Getpid())} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		t.Setenv(Socket, name)
		for _, c := range []struct {
			pid  int
			want string
		}{
			{0, "READY=1\nSTATUS=it works"},
			{4711, "READY=1\nSTATUS=it works\nMAINPID=4711"},
		} {
			if err := Ready(c.pid, "it\nworks"); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			n, err := conn.Read(buf)
			if err != nil || string(buf[:n]) != c.want {
				t.Errorf("%s: got %q, %v, want %q", name, buf[:n], err, c.want)
			}
		}
	}
}

func TestReadyRefusals(t *testing.T) {
	t.Setenv(Socket, "")
	if err := Ready(0, "x"); err != nil {
		t.Errorf("nobody asked: %v", err)
	}
	for _, name := range []string{"relative", filepath.Join(t.TempDir(), "none")} {
		t.Setenv(Socket, name)
		if err := Ready(0, "x"); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
