package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// guestCommand is the hidden argument that runs the benchmark as the program inside a namespace.
const guestCommand = "__guest"

// runGuest serves port until standard input ends, and executes orders, one a line:
//
//	send ADDR MS      as a client, send to ADDR, a server outside
//	receive ADDR MS   as a client, receive from ADDR
//	connect ADDR N    how long a connection and a byte there and back take; refused, lookup: see tries
//	udp ADDR          the rate of datagrams to ADDR
//	write FILE TEXT   write a file, such as a sysctl
//	link WORD…        ip link set dev tap0 WORD…
//	offload NAME ON   switch an offload of tap0
//
// The reply to each is one line of JSON.
func runGuest(args []string) error {
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	// End with the benchmark even if standard input stays open.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
	if _, err := listen(port); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(answer{PID: os.Getpid()}); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var a answer
		if v, err := obey(strings.Fields(in.Text())); err != nil {
			a.Error = err.Error()
		} else {
			a.Value = v
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return in.Err()
}

type answer struct {
	PID   int     `json:"pid,omitempty"`
	Value float64 `json:"value,omitempty"`
	Error string  `json:"error,omitempty"`
}

func obey(words []string) (float64, error) {
	if len(words) < 2 {
		return 0, errors.New("unknown order")
	}
	switch words[0] {
	case "send", "receive":
		to, err := netip.ParseAddrPort(words[1])
		if err != nil {
			return 0, err
		}
		ms, err := strconv.Atoi(words[2])
		if err != nil {
			return 0, err
		}
		if words[0] == "send" {
			return sendStream(to, time.Duration(ms)*time.Millisecond)
		}
		return receiveStream(to, time.Duration(ms)*time.Millisecond)
	case "connect", "refused", "lookup":
		return tries(words)
	case "udp":
		to, err := netip.ParseAddrPort(words[1])
		if err != nil {
			return 0, err
		}
		return udpRate(to, to)
	case "write":
		return 0, os.WriteFile(words[1], []byte(strings.Join(words[2:], " ")), 0)
	case "link":
		out, err := exec.Command("ip", append([]string{"link", "set", "dev", "tap0"}, words[1:]...)...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("ip link: %w: %s", err, out)
		}
		return 0, nil
	case "offload":
		return 0, setOffload("tap0", words[1], words[2] == "on")
	}
	return 0, errors.New("unknown order")
}

// guest is a running program inside.
type guest struct {
	cmd *exec.Cmd
	pid int // of the program itself; cmd may be a wrapper
	in  io.WriteCloser
	out *json.Decoder
}

// startGuest starts the program inside with wrap, a command that runs its arguments in a
// namespace, and waits until it serves port.
func (w *world) startGuest(port int, wrap ...string) (*guest, error) {
	argv := append(wrap, w.self, guestCommand, strconv.Itoa(port))
	cmd := w.command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said := &tail{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	g := &guest{cmd: cmd, in: in, out: json.NewDecoder(out)}
	var a answer
	ready := make(chan error, 1)
	go func() { ready <- g.out.Decode(&a) }()
	select {
	case err = <-ready:
	case <-time.After(15 * time.Second):
		err = errors.New("not there within 15 s")
	}
	if err != nil {
		g.stop()
		return nil, fmt.Errorf("%s: %w: %s", argv[0], err, said)
	}
	g.pid = a.PID
	return g, nil
}

// order sends an order to the program inside.
func (g *guest) order(format string, args ...any) (float64, error) {
	if _, err := fmt.Fprintf(g.in, format+"\n", args...); err != nil {
		return 0, err
	}
	var a answer
	if err := g.out.Decode(&a); err != nil {
		return 0, err
	}
	if a.Error != "" {
		return 0, errors.New(a.Error)
	}
	return a.Value, nil
}

// stop ends the program inside, and with it the wrapper.
func (g *guest) stop() {
	g.in.Close()
	endProcess(g.cmd)
}
