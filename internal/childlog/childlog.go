// Package childlog records the output of a child process. It exists because a child that writes to a log
// file directly can fill the disk and write control characters, and a child that writes to a pipe can
// block: slirp4netns must go on even while its supervisor is stopped or waits for a disk.
//
// So the child's end of the pipe is non-blocking. Output that comes faster than it is read is lost, except that of a
// program that can't know this ([NewBlocking]).
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
	// tailSize is the maximum length of [Log.Tail], in bytes.
	tailSize = 8 << 10
	// If a child fills the buffer between two reads, the reader pauses, which limits it to 640 KiB a second.
	bufferSize = 32 << 10
	floodPause = 50 * time.Millisecond
)

// Log is the pipe of one child.
type Log struct {
	Child *os.File // for the child's stdout and stderr

	block bool
	r     *os.File
	out   io.Writer
	read  chan struct{} // closed when the goroutine has ended

	mu   sync.Mutex
	tail []byte
}

// New makes a pipe. The child's output is written to out unbuffered, not in whole lines. Errors of out are
// ignored; its Flush method, if it has one, is called at the end. The caller must call [Log.Started] or [Log.Close].
func New(out io.Writer) (*Log, error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	_ = unix.SetNonblock(fd[0], true) // before os.NewFile, for SetReadDeadline
	return &Log{
		Child: os.NewFile(uintptr(fd[1]), "child's output"), r: os.NewFile(uintptr(fd[0]), "child's output"),
		out: out, read: make(chan struct{}),
	}, nil
}

// Close closes both ends, if no child was started.
func (l *Log) Close() {
	l.Child.Close()
	l.r.Close()
}

// NewBlocking is [New] for a child that waits if its output comes faster than it is written to out: nothing is lost.
func NewBlocking(out io.Writer) (*Log, error) {
	l, err := New(out)
	if err == nil {
		l.block = true
	}
	return l, err
}

// Started closes this process's copy of the child's end and starts reading. Call it when the child has been
// started; the caller must call [Log.Ended] later.
func (l *Log) Started() {
	if !l.block {
		_ = unix.SetNonblock(int(l.Child.Fd()), true) // affects all copies of this end
	}
	l.Child.Close()
	go func() {
		defer close(l.read)
		for buf := make([]byte, bufferSize); ; {
			n, err := l.r.Read(buf)
			l.take(buf[:n])
			if err != nil {
				return
			}
			if n == len(buf) && !l.block {
				time.Sleep(floodPause)
			}
		}
	}()
}

// Ended reads the rest when the child has ended. It does not wait for other processes that have the
// child's end open.
func (l *Log) Ended() {
	_ = l.r.SetReadDeadline(time.Unix(1, 0))
	<-l.read
	buf := make([]byte, 128<<10) // larger than the pipe's buffer
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

func (l *Log) take(output []byte) {
	if len(output) == 0 {
		return
	}
	l.mu.Lock()
	l.tail = append(l.tail, output...)
	if over := len(l.tail) - tailSize; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
	l.mu.Unlock()
	_, _ = l.out.Write(output)
}

// Tail returns the last 8 KiB of the output so far.
func (l *Log) Tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail)
}
