package instance

import (
	"bytes"
	"io"

	"github.com/slirpctl/slirpctl/internal/plaintext"
)

// plainLines writes whole lines on, with everything in them that could steer a terminal escaped:
// much of a log is slirp4netns's own words, which may quote what others sent.
type plainLines struct {
	w    io.Writer
	rest []byte // of a line that has not ended
}

// longestLine bounds what is kept of a line that does not end, in bytes.
const longestLine = 64 << 10

func (p *plainLines) Write(data []byte) (int, error) {
	p.rest = append(p.rest, data...)
	end := bytes.LastIndexByte(p.rest, '\n') + 1
	if end == 0 && len(p.rest) < longestLine {
		return len(data), nil
	}
	if end == 0 {
		end = len(p.rest)
	}
	_, err := p.w.Write(plaintext.Escape(p.rest[:end]))
	p.rest = append(p.rest[:0], p.rest[end:]...)
	return len(data), err
}

// flush writes a last line that has no end.
func (p *plainLines) flush() error {
	if len(p.rest) == 0 {
		return nil
	}
	_, err := p.w.Write(plaintext.Escape(p.rest))
	p.rest = nil
	return err
}
