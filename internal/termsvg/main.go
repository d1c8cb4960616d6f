// Command termsvg records a terminal session as an SVG picture: it runs each line of a
// file in one shell, on a terminal, and draws the output. It exists so that the picture in
// the README shows what the program really does; `make docs` redraws it.
//
// Usage: termsvg SESSION >FILE. A line of SESSION that starts with # is run, but not shown.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/creack/pty"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "termsvg: error:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: termsvg SESSION")
	}
	session, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	cmds, err := record(strings.Split(strings.TrimSpace(string(session)), "\n"))
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, render(cmds))
	return err
}

// command is a line that was typed, and its output, with colours.
type command struct{ line, output string }

const mark = "\x1e"

// record runs the lines in a network namespace that has only a loopback.
func record(lines []string) ([]command, error) {
	var script strings.Builder
	script.WriteString("ip link set lo up\n")
	for _, line := range lines {
		fmt.Fprintf(&script, "%s\nprintf '%s'\n", strings.TrimPrefix(line, "#"), mark)
	}
	dir, err := os.MkdirTemp("", "termsvg")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	terminal, line, err := pty.Open()
	if err != nil {
		return nil, err
	}
	defer terminal.Close()
	defer line.Close()
	if err := pty.Setsize(terminal, &pty.Winsize{Rows: 50, Cols: columns}); err != nil {
		return nil, err
	}
	cmd := exec.Command("bash", "--norc", "--noprofile", "-c", script.String())
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "SLIRPCTL_STATE_DIR="+dir+"/slirpctl", "TERM=xterm-256color", "NO_COLOR=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = line, line, line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line.Close()
	var all bytes.Buffer
	_, _ = io.Copy(&all, terminal) // until the other side is closed (EIO)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, all.String())
	}
	parts := strings.Split(strings.ReplaceAll(all.String(), "\r\n", "\n"), mark)
	if len(parts) != len(lines)+1 {
		return nil, fmt.Errorf("%d lines, %d outputs: %s", len(lines), len(parts)-1, all.String())
	}
	var cmds []command
	for i, l := range lines {
		if !strings.HasPrefix(l, "#") {
			cmds = append(cmds, command{l, parts[i]})
		}
	}
	return cmds, nil
}
