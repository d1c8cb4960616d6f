package hostfwd

import (
	"os"
	"path/filepath"
	"testing"
)

// The port of another instance is described by the name of that instance, not by its supervisor's PID.
func TestPortOfInstance(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	f := Forward{Proto: TCP, HostIP: ip("127.0.0.1"), HostPort: 80}
	err = portInUse(f, Process{PID: os.Getpid(), Name: "slirpctl"}, holdsOpen)
	if want := `127.0.0.1:80/tcp is in use by instance "web"`; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}
