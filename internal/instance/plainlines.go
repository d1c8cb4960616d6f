package instance

import (
	"bytes"
	"io"

	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// plainLines passes on whole lines with control characters escaped: a log has output of slirp4netns, which may
// quote data from the network.
type plainLines struct {
	w    io.Writer
	rest []byte // an unfinished line
}

// maxLine is how much of an unfinished line is buffered, in bytes.
const maxLine = 64 << 10

func (p *plainLines) Write(data []byte) (int, error) {
	p.rest = append(p.rest, data...)
	end := bytes.LastIndexByte(p.rest, '\n') + 1
	if end == 0 && len(p.rest) < maxLine {
		return len(data), nil
	}
	if end == 0 {
		end = len(p.rest)
	}
	_, err := p.w.Write(plaintext.Escape(p.rest[:end]))
	p.rest = append(p.rest[:0], p.rest[end:]...)
	return len(data), err
}

// flush writes an unfinished last line.
func (p *plainLines) flush() error {
	if len(p.rest) == 0 {
		return nil
	}
	_, err := p.w.Write(plaintext.Escape(p.rest))
	p.rest = nil
	return err
}
