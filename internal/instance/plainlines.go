package instance

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
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
	_, err := p.w.Write(plain(p.rest[:end]))
	p.rest = append(p.rest[:0], p.rest[end:]...)
	return len(data), err
}

// flush writes a last line that has no end.
func (p *plainLines) flush() error {
	if len(p.rest) == 0 {
		return nil
	}
	_, err := p.w.Write(plain(p.rest))
	p.rest = nil
	return err
}

// plain escapes control characters but tab and line feed, and what is no UTF-8, as \xNN.
func plain(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n', r == '\t':
			out = append(out, text[0])
		case r == utf8.RuneError && n == 1, r < ' ', r >= 0x7f && r < 0xa0, r == '\u2028', r == '\u2029', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			for _, b := range text[:n] {
				out = fmt.Appendf(out, `\x%02x`, b)
			}
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}
