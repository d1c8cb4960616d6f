package enter

import (
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// terminal connects the caller's terminal to a pseudoterminal for the command. With the caller's terminal itself
// the command could type into it (TIOCSTI), read what is typed later, and open it as /dev/tty.
//
// The command has the keyboard from the start if its input and output are both the terminal.
// Otherwise, in a pipeline or in the background, it gets the keyboard when it first uses the terminal, which
// stops it by a signal; until then other programs can use the keyboard.
type terminal struct {
	outer  *os.File // the caller's: keyboard, size and modes; nil: it has none
	input  *os.File // without a keyboard: what is typed; nil: nothing
	screen *os.File // where the command's output goes
	master *os.File
	slave  *os.File // nil once the command has it
	opened *os.File // outer, if it was opened here

	raw   *term.State // outer's original modes; nil if outer is not in raw mode
	taken bool        // the command has had the keyboard, and got the modes of outer

	typing atomic.Bool // the command has the keyboard
	wake   chan struct{}
	end    *os.File // closed when the command has ended
	shown  sync.WaitGroup

	showing sync.Mutex
	buf     [32 << 10]byte
}

// openTerminal returns a terminal for the command if one of its files is a terminal, or with always, else nil, and the
// command's files; with always, all of them are the terminal. eager means that the command has the keyboard from the
// start.
func openTerminal(stdio [3]*os.File, always bool) (t *terminal, files [3]*os.File, eager bool, err error) {
	t = &terminal{wake: make(chan struct{}, 1)}
	var is [3]bool
	for i, f := range stdio {
		is[i] = f != nil && term.IsTerminal(int(f.Fd()))
	}
	switch {
	case always && !is[0]:
		return t.openBare(stdio)
	case is == [3]bool{}:
		return nil, stdio, false, nil
	}
	t.choose(stdio, is, always)
	if t.master, t.slave, err = pty.Open(); err != nil {
		t.close()
		return nil, stdio, false, fault.Errorf(0, "run it without a terminal: slirpctl exec NAME -- COMMAND </dev/null 2>&1 | cat",
			"no terminal for the command: %w", err)
	}
	t.resize()
	if term.IsTerminal(int(t.screen.Fd())) {
		t.leaveOutput()
	}
	files = stdio
	for i := range files {
		if is[i] || always {
			files[i] = t.slave
		}
	}
	return t, files, is[0] && (is[1] || always) && t.foreground(), nil
}

// choose chooses the screen and the keyboard. is says which of the caller's files are terminals.
func (t *terminal) choose(stdio [3]*os.File, is [3]bool, always bool) {
	switch {
	case is[1] || always:
		t.screen = stdio[1]
	case is[2]:
		t.screen = stdio[2]
	case t.openTTY():
		t.screen = t.opened
	default:
		t.screen = stdio[0] // it may be open for reading only
	}
	switch {
	case is[0]:
		t.outer = stdio[0]
	case t.openTTY():
		t.outer = t.opened
	default:
		t.outer = t.screen
	}
}

// openTTY opens the controlling terminal.
func (t *terminal) openTTY() bool {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err == nil {
		t.opened = f
	}
	return err == nil
}

// openBare returns a terminal for a caller without a keyboard: what it reads is the caller's input.
func (t *terminal) openBare(stdio [3]*os.File) (_ *terminal, files [3]*os.File, eager bool, err error) {
	t.input, t.screen = stdio[0], stdio[1]
	if t.master, t.slave, err = pty.Open(); err != nil {
		return nil, stdio, false, fault.Errorf(0, "run it without --tty", "no terminal for the command: %w", err)
	}
	_ = pty.Setsize(t.master, &pty.Winsize{Rows: 24, Cols: 80})
	if term.IsTerminal(int(t.screen.Fd())) {
		_ = pty.InheritSize(t.screen, t.master)
		t.leaveOutput()
	}
	return t, [3]*os.File{t.slave, t.slave, t.slave}, true, nil
}

// leaveOutput switches output processing of the command's terminal off: the caller's terminal does it.
func (t *terminal) leaveOutput() {
	if modes, err := unix.IoctlGetTermios(int(t.slave.Fd()), unix.TCGETS); err == nil {
		modes.Oflag &^= unix.OPOST
		_ = unix.IoctlSetTermios(int(t.slave.Fd()), unix.TCSETS, modes)
	}
}

// foreground reports whether the caller may use its terminal: it is in the foreground, or the terminal is not
// its controlling terminal.
func (t *terminal) foreground() bool {
	if t.outer == nil {
		return true
	}
	pgrp, err := unix.IoctlGetInt(int(t.outer.Fd()), unix.TIOCGPGRP)
	return err != nil || pgrp == unix.Getpgrp()
}

// take gives the command the keyboard, if the caller has it.
func (t *terminal) take() bool {
	if !t.foreground() {
		return false
	}
	if t.outer == nil {
		return true
	}
	t.resize()
	if !t.taken { // only once; later the command sets its modes
		t.taken = true
		if modes, err := unix.IoctlGetTermios(int(t.outer.Fd()), unix.TCGETS); err == nil {
			_ = unix.IoctlSetTermios(int(t.master.Fd()), unix.TCSETS, modes)
		}
	}
	if t.raw == nil {
		raw, err := term.MakeRaw(int(t.outer.Fd()))
		if err != nil {
			return false
		}
		t.raw = raw
	}
	t.typing.Store(true)
	select {
	case t.wake <- struct{}{}:
	default:
	}
	return true
}

// release restores the modes of the caller's terminal.
func (t *terminal) release() {
	t.typing.Store(false)
	if t.raw != nil {
		_ = term.Restore(int(t.outer.Fd()), t.raw)
		t.raw = nil
	}
}

// retake sets the raw mode again, which another program may have changed, if the command has the keyboard.
func (t *terminal) retake() {
	if t.raw != nil && t.foreground() {
		_, _ = term.MakeRaw(int(t.outer.Fd()))
		t.resize()
	}
}

func (t *terminal) resize() {
	if t.outer != nil {
		_ = pty.InheritSize(t.outer, t.master)
	}
}

// start starts copying in both directions. The command must have its end.
func (t *terminal) start() error {
	t.slave.Close()
	t.slave = nil
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	t.end = w
	t.shown.Go(func() {
		defer r.Close()
		t.show(r)
	})
	if t.outer != nil {
		go t.read()
	} else if t.input != nil {
		go t.copyInput()
	}
	return nil
}

// show copies the command's output until end hangs up, and then the rest of it.
func (t *terminal) show(end *os.File) {
	fds := []unix.PollFd{{Fd: int32(t.master.Fd()), Events: unix.POLLIN}, {Fd: int32(end.Fd())}}
	for fds[1].Revents == 0 {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		if fds[0].Revents != 0 && !t.flush() {
			return
		}
	}
	t.flush()
}

// flush copies the output that is available. It returns false if there will be no more.
func (t *terminal) flush() bool {
	t.showing.Lock()
	defer t.showing.Unlock()
	fds := []unix.PollFd{{Fd: int32(t.master.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return false
		case n == 0:
			return true
		}
		n, err = unix.Read(int(fds[0].Fd), t.buf[:])
		if err == unix.EINTR || err == unix.EAGAIN {
			continue
		}
		if err != nil || n <= 0 {
			return false
		}
		if _, err := t.screen.Write(t.buf[:n]); err != nil {
			return false
		}
	}
}

// read copies what is typed while the command has the keyboard.
func (t *terminal) read() {
	buf := make([]byte, 4096)
	for {
		for !t.typing.Load() {
			<-t.wake
		}
		fds := []unix.PollFd{{Fd: int32(t.outer.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return
		}
		// If the command was suspended meanwhile, the input is for another program.
		if fds[0].Revents == 0 || !t.typing.Load() || !t.foreground() {
			continue
		}
		n, err := unix.Read(int(fds[0].Fd), buf)
		if n <= 0 && err != unix.EINTR && err != unix.EAGAIN {
			return
		}
		if n > 0 {
			if _, err := t.master.Write(buf[:n]); err != nil {
				return
			}
		}
	}
}

// copyInput copies the caller's input, and types Ctrl-D at its end.
func (t *terminal) copyInput() {
	const endOfFile = 4 // VEOF of a new terminal (termios(3))
	if _, err := io.Copy(t.master, t.input); err == nil {
		_, _ = t.master.Write([]byte{endOfFile})
	}
}

// drain copies the command's last output. It must be called before the session ends, which discards it.
func (t *terminal) drain() {
	if t.end != nil {
		t.end.Close()
		t.shown.Wait()
		t.end = nil
	}
}

// close restores the caller's terminal and closes the files.
func (t *terminal) close() {
	t.drain()
	t.release()
	for _, f := range []*os.File{t.slave, t.opened} {
		if f != nil {
			f.Close()
		}
	}
}
