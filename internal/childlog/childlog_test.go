package childlog

import (
	"bytes"
	"io"
	"os/exec"
	"strings"
	"testing"
)

type blocked struct{ until chan struct{} }

func (b blocked) Write(p []byte) (int, error) { <-b.until; return len(p), nil }

func start(t *testing.T, out io.Writer, script string) (*Log, *exec.Cmd) {
	t.Helper()
	l, err := New(out)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout, cmd.Stderr = l.Child, l.Child
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l.Started()
	return l, cmd
}

// All that a child has said is there when it has ended, also if another process still could say
// something.
func TestAllIsTaken(t *testing.T) {
	for range 20 {
		var out bytes.Buffer
		l, cmd := start(t, &out, `echo one; echo two >&2; sleep 1000 & echo $!; printf three`)
		_ = cmd.Wait()
		l.Ended()
		said := strings.Split(out.String(), "\n")
		if len(said) != 4 || said[0] != "one" || said[1] != "two" || said[3] != "three" || l.Tail() != out.String() {
			t.Fatalf("taken: %q, tail %q", out.String(), l.Tail())
		}
		if err := exec.Command("kill", "-9", said[2]).Run(); err != nil {
			t.Error(err)
		}
	}
}

func TestTail(t *testing.T) {
	var out bytes.Buffer
	l, cmd := start(t, &out, `i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo end`)
	_ = cmd.Wait()
	l.Ended()
	if tail := l.Tail(); len(tail) != tailSize || !strings.HasSuffix(tail, "line 1999\nend\n") {
		t.Errorf("%d bytes: %.100q", len(tail), tail)
	}
}

// A child is held up neither by an out that hangs nor by a reader that was stopped: what it says
// is lost instead.
func TestChildGoesOn(t *testing.T) {
	b := blocked{make(chan struct{})}
	l, cmd := start(t, b, `sleep 0.2; for i in 1 2 3 4 5 6 7 8 9; do head -c 100000 /dev/zero; done; exit 7`)
	_ = cmd.Wait() // a pipe that blocks never lets it end
	if code := cmd.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit status %d", code)
	}
	close(b.until)
	l.Ended()
}
