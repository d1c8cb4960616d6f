package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

//go:embed bare.sh
var bareScript []byte

// startRows measures complete starts.
func (b *bench) startRows() error {
	w := b.w
	script, fifos := filepath.Join(w.tmp, "bin", "bare.sh"), filepath.Join(w.tmp, "fifos")
	if err := os.WriteFile(script, bareScript, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(fifos, 0o700); err != nil {
		return err
	}
	for _, name := range []string{"up", "go"} {
		if err := syscall.Mkfifo(filepath.Join(fifos, name), 0o600); err != nil {
			return err
		}
	}
	if err := w.own(); err != nil {
		return err
	}
	argv := func(id string) []string {
		c := b.res.contestant(id)
		switch id {
		case "bare":
			return []string{script, fifos, "true"}
		case "slirpctl":
			return []string{w.slirpctl, "up", "--", "true"}
		case "pasta", "pasta-debian":
			return append(append([]string{c.path}, pastaFlags...), "--", "true")
		}
		return append(append([]string{c.path}, rootlesskitFlags(filepath.Join(w.runDir(), w.name()))...), "true")
	}
	b.interleave("up -- true", w.runs, b.available("bare", "slirpctl", "rootlesskit", "rootlesskit-debian", "pasta", "pasta-debian"),
		[]string{"up-true"}, func(id string) (map[string]float64, error) {
			v, err := each(5, func() (float64, error) {
				a := argv(id)
				return w.timed(a[0], a[1:]...)
			})
			return map[string]float64{"up-true": v}, err
		})
	b.interleave("up -d", w.runs, b.available("bare", "slirpctl"), []string{"up-detached"}, func(id string) (map[string]float64, error) {
		v, err := each(5, func() (float64, error) { return b.detached(id) })
		return map[string]float64{"up-detached": v}, err
	})
	b.interleave("version", w.runs, b.available("slirpctl", "empty"), []string{"version"}, func(id string) (map[string]float64, error) {
		v, err := each(20, func() (float64, error) { return w.timed(b.res.contestant(id).path, "version") })
		return map[string]float64{"version": v}, err
	})
	if fi, err := os.Stat(w.slirpctl); err == nil {
		b.res.add("size", "slirpctl", float64(fi.Size())/1e6)
	}
	return nil
}

// addEmpty adds a Go program that does nothing, which shows what part of a start is the machine's and Go's.
func (b *bench) addEmpty() {
	c := &contestant{ID: "empty", Name: "a Go program that does nothing", path: filepath.Join(b.w.tmp, "bin", "empty")}
	source := filepath.Join(b.w.tmp, "empty.go")
	err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600)
	if err == nil {
		var out []byte
		if out, err = exec.Command("go", "build", "-o", c.path, source).CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err == nil {
		err = b.w.own()
	}
	if err != nil {
		c.Missing = err.Error()
	}
	b.res.Contestants = append(b.res.Contestants, c)
}

// detached measures a start on an existing namespace.
func (b *bench) detached(id string) (float64, error) {
	h, err := b.w.holder()
	if err != nil {
		return 0, err
	}
	defer h.stop()
	start := time.Now()
	if id == "bare" {
		cmd, err := b.w.startSlirp(h.pid, slirpFlags...)
		if err != nil {
			return 0, err
		}
		defer endNow(cmd)
		return milliseconds(time.Since(start)), nil
	}
	name := b.w.name()
	if _, err := b.w.run(b.w.slirpctl, "up", "-d", "--name", name, strconv.Itoa(h.pid)); err != nil {
		return 0, err
	}
	took := milliseconds(time.Since(start))
	b.w.down(name)
	return took, nil
}

// holder is a namespace held by a process that does nothing.
type holder struct {
	pid  int
	stop func()
}

func (w *world) holder() (*holder, error) {
	cmd := w.command(unshare[0], append(unshare[1:], "sh", "-c", "echo; exec sleep 1000")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if n, _ := out.Read(make([]byte, 1)); n != 1 {
		endNow(cmd)
		return nil, errors.New("unshare made no namespace")
	}
	return &holder{cmd.Process.Pid, func() { endNow(cmd) }}, nil
}
