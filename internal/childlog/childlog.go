// Package childlog takes down what a child process says. It exists because a child that writes into
// a log by itself can fill the disk and put anything into it, and one that writes into a pipe can be
// held up: slirp4netns must carry packets on also while its supervisor is stopped or its disk hangs.
//
// So the child's end of the pipe does not block. What is said faster than it is read is lost.
package childlog

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostKept is how much of what was said last [Log.Tail] has, in bytes.
	mostKept = 8 << 10
	// A child that fills the buffer between two reads is made to lose words: 640 KiB a second.
	bufferSize = 32 << 10
	flooding   = 50 * time.Millisecond
)

// Log is the pipe of one child.
type Log struct {
	Child *os.File // for the child's stdout and stderr

	r    *os.File
	out  io.Writer
	read chan struct{} // closed when the goroutine has ended

	mu   sync.Mutex
	tail []byte
}

// New makes a pipe. What the child says is written to out as it comes, not in whole lines; out's
// errors don't matter, and its Flush, if it has one, is called in the end. The caller calls either [Log.Started] or [Log.Close].
func New(out io.Writer) (*Log, error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	_ = unix.SetNonblock(fd[0], true) // before os.NewFile, so that it can be woken
	return &Log{
		Child: os.NewFile(uintptr(fd[1]), "child's words"), r: os.NewFile(uintptr(fd[0]), "child's words"),
		out: out, read: make(chan struct{}),
	}, nil
}

// Close closes both ends, where there is no child.
func (l *Log) Close() {
	l.Child.Close()
	l.r.Close()
}

// Started closes the child's end, now that the child has it, and begins to read. The caller
// calls [Log.Ended] in the end.
func (l *Log) Started() {
	_ = unix.SetNonblock(int(l.Child.Fd()), true) // for every holder of this end
	l.Child.Close()
	go func() {
		defer close(l.read)
		for buf := make([]byte, bufferSize); ; {
			n, err := l.r.Read(buf)
			l.take(buf[:n])
			if err != nil {
				return
			}
			if n == len(buf) {
				time.Sleep(flooding)
			}
		}
	}()
}

// Ended takes the rest once the child has ended; it does not wait for others who may have
// the child's end too.
func (l *Log) Ended() {
	_ = l.r.SetReadDeadline(time.Unix(1, 0))
	<-l.read
	buf := make([]byte, 128<<10) // more than the pipe holds
	if rc, err := l.r.SyscallConn(); err == nil {
		_ = rc.Control(func(fd uintptr) {
			for {
				n, err := unix.Read(int(fd), buf)
				if !errors.Is(err, unix.EINTR) {
					l.take(buf[:max(n, 0)])
					return
				}
			}
		})
	}
	l.r.Close()
	if f, ok := l.out.(interface{ Flush() error }); ok {
		_ = f.Flush()
	}
}

func (l *Log) take(words []byte) {
	if len(words) == 0 {
		return
	}
	l.mu.Lock()
	l.tail = append(l.tail, words...)
	if over := len(l.tail) - mostKept; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
	l.mu.Unlock()
	_, _ = l.out.Write(words)
}

// Tail returns what was said last, 8 KiB at most.
func (l *Log) Tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}
