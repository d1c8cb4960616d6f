package nsexec

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const envLimited = "NSEXEC_TEST_LIMITED"

// TestLimitSocketsInOtherProcess tries every family in this test binary, started again with the filter and without.
func TestLimitSocketsInOtherProcess(t *testing.T) {
	if how, other := os.LookupEnv(envLimited); other {
		if how != "no" {
			if err := LimitSockets(); err != nil {
				fmt.Println("answer:", err)
				return
			}
		}
		if how == "program" { // what is started has it too
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestLimitSocketsInOtherProcess$")
			cmd.Env = append(os.Environ(), envLimited+"=no")
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			if err := cmd.Run(); err != nil {
				fmt.Println("answer:", err)
			}
			return
		}
		tryFamilies()
		return
	}
	run := func(how string) map[string]string {
		t.Helper()
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestLimitSocketsInOtherProcess$")
		cmd.Env = append(os.Environ(), envLimited+"="+how)
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		answers := map[string]string{}
		for line := range strings.SplitSeq(string(out), "\n") {
			if text, ok := strings.CutPrefix(line, "answer: "); ok {
				what, said, _ := strings.Cut(text, " = ")
				answers[what] = said
			}
		}
		return answers
	}
	free := run("no")
	for _, how := range []string{"yes", "program"} {
		limited := run(how)
		if len(limited) != len(free) || len(free) < 80 {
			t.Fatalf("%s: %d answers, %d without: %v", how, len(limited), len(free), limited)
		}
		for what, said := range limited {
			want := "address family not supported by protocol"
			switch family, _, _ := strings.Cut(what, " "); {
			case family == "1", family == "2", family == "10", family == "16", family == "17":
				want = free[what]
			case strings.HasPrefix(what, "io_uring"):
				want = "function not implemented"
			}
			if said != want {
				t.Errorf("%s: %s: %s, want %s; without the filter %s", how, what, said, want, free[what])
			}
		}
	}
	// Else the test would prove nothing.
	for _, family := range []int{unix.AF_UNIX, unix.AF_INET, unix.AF_NETLINK, unix.AF_PACKET} {
		if said := free[fmt.Sprintf("%d socket", family)]; said != "made" {
			t.Errorf("family %d, without the filter: %s", family, said)
		}
	}
	t.Logf("without the filter, AF_VSOCK: %s; io_uring_setup: %s", free[fmt.Sprintf("%d type 1", unix.AF_VSOCK)], free["io_uring_setup"])
}

func tryFamilies() {
	say := func(what string, errno syscall.Errno) {
		said := "made"
		if errno != 0 {
			said = errno.Error()
		}
		fmt.Printf("answer: %s = %s\n", what, said)
	}
	for family := range 64 {
		typ := uintptr(unix.SOCK_DGRAM)
		if family == unix.AF_PACKET || family == unix.AF_NETLINK {
			typ = unix.SOCK_RAW
		}
		fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), typ, 0)
		say(fmt.Sprint(family, " socket"), e)
		if e == 0 {
			unix.Close(int(fd))
		}
		if family != unix.AF_UNIX && family != unix.AF_TIPC {
			continue
		}
		var pair [2]int32
		_, _, e = unix.RawSyscall6(unix.SYS_SOCKETPAIR, uintptr(family), typ, 0, uintptr(unsafe.Pointer(&pair)), 0, 0)
		say(fmt.Sprint(family, " socketpair"), e)
	}
	// The kernel reads 32 bits of it.
	for _, family := range []uintptr{unix.AF_VSOCK, unix.AF_BLUETOOTH, unix.AF_ALG, unix.AF_QIPCRTR, unix.AF_TIPC} {
		for _, typ := range []uintptr{unix.SOCK_STREAM, unix.SOCK_SEQPACKET, unix.SOCK_DGRAM | unix.SOCK_CLOEXEC} {
			_, _, e := unix.RawSyscall(unix.SYS_SOCKET, family, typ, 0)
			say(fmt.Sprint(family, " type ", typ), e)
		}
		_, _, e := unix.RawSyscall(unix.SYS_SOCKET, family|1<<40, unix.SOCK_STREAM, 0)
		say(fmt.Sprint(family, " and more bits"), e)
	}
	_, _, e := unix.RawSyscall(unix.SYS_IO_URING_SETUP, 8, uintptr(unsafe.Pointer(&[32]uint64{})), 0)
	say("io_uring_setup", e)
}

func TestCheckStdio(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	netlink, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	nl := os.NewFile(uintptr(netlink), "netlink")
	defer nl.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unixEnd, other := os.NewFile(uintptr(pair[0]), "unix"), os.NewFile(uintptr(pair[1]), "unix")
	defer unixEnd.Close()
	defer other.Close()
	for _, good := range [][3]*os.File{{}, {os.Stdin, os.Stdout, os.Stderr}, {unixEnd, nil, other}} {
		if err := CheckStdio(good); err != nil {
			t.Error(err)
		}
	}
	for fd := range 3 {
		for _, bad := range []*os.File{tcp, nl} {
			var stdio [3]*os.File
			stdio[fd] = bad
			if err := CheckStdio(stdio); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("descriptor %d is a socket", fd)) {
				t.Errorf("%s as %d: %v", bad.Name(), fd, err)
			}
		}
	}
}
