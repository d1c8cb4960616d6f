package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// expect FILE PROGRAM [ARG...] runs a program on a terminal of its own and drives it by the lines
// of FILE; it prints the terminal's output and exits with the program's status.
//
//	see TEXT         wait until TEXT was shown, after what was seen before
//	type TEXT        type TEXT and Return
//	press LETTER     press Ctrl and LETTER
//	size ROWS COLS   resize the window
func expect(args []string) int {
	steps, err := os.ReadFile(args[0])
	if err != nil {
		return failed("expect: %v", err)
	}
	terminal, line, err := pty.Open()
	if err != nil {
		return failed("expect: %v", err)
	}
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return failed("expect: %v", err)
	}
	line.Close()
	s := &screen{shown: make(chan []byte, 100)}
	go s.read(terminal)
	for step := range strings.Lines(string(steps)) {
		if err := s.do(terminal, strings.TrimSuffix(step, "\n")); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			return failed("expect: %v; the terminal showed:\n%s", err, s.all)
		}
	}
	err = cmd.Wait()
	for more := range s.shown { // until the other side of the terminal is closed
		s.all = append(s.all, more...)
	}
	os.Stdout.Write(s.all)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode()
	}
	return failed("expect: %v", err)
}

type screen struct {
	shown chan []byte
	all   []byte
	seen  int // output before this offset has been matched already
}

func (s *screen) read(terminal *os.File) {
	defer close(s.shown)
	r := bufio.NewReader(terminal)
	for {
		buf := make([]byte, 4096)
		n, err := r.Read(buf)
		if n > 0 {
			s.shown <- buf[:n]
		}
		if err != nil { // EIO: the other side is closed
			return
		}
	}
}

func (s *screen) do(terminal *os.File, step string) error {
	verb, text, _ := strings.Cut(step, " ")
	switch verb {
	case "":
		return nil
	case "see":
		return s.see(text)
	case "type":
		_, err := terminal.WriteString(text + "\r")
		return err
	case "press":
		_, err := terminal.Write([]byte{text[0] & 0x1f})
		return err
	case "size":
		var w unix.Winsize
		if _, err := fmt.Sscanf(text, "%d %d", &w.Row, &w.Col); err != nil {
			return err
		}
		return unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &w)
	}
	return fmt.Errorf("unknown step %q", step)
}

func (s *screen) see(text string) error {
	limit := time.After(time.Minute)
	for {
		if i := strings.Index(string(s.all[s.seen:]), text); i >= 0 {
			s.seen += i + len(text)
			return nil
		}
		select {
		case more, open := <-s.shown:
			if !open {
				return fmt.Errorf("the program ended before it showed %q", text)
			}
			s.all = append(s.all, more...)
		case <-limit:
			return fmt.Errorf("never saw %q", text)
		}
	}
}
