package instance

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemoveWithoutDescriptors: with one free descriptor, for the base's lock, nothing is left of an instance.
func TestRemoveWithoutDescriptors(t *testing.T) {
	b := base(t)
	i := create(t, b, "a")
	if err := i.WriteState(&State{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = 128
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var filler []int
	for {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			break
		}
		filler = append(filler, fd)
	}
	unix.Close(filler[0])
	err := i.Remove(t.Context())
	for _, fd := range filler[1:] {
		unix.Close(fd)
	}
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Error(err)
	}
	des, err := os.ReadDir(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, de := range des {
		if de.IsDir() {
			t.Errorf("left: %s", de.Name())
		}
	}
}
