// Package plaintext makes what others said fit for a terminal or a log. It exists because slirp4netns, containers and
// other users' processes choose words that end up in messages: none of them may steer a terminal, turn its text
// round, or forge a line.
package plaintext

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// steers reports whether a character could: controls, line ends, and what turns text round.
func steers(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// Clean leaves such characters out, and puts ? for what is no UTF-8.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if steers(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Line is [Clean] for what may have several lines, which become one.
func Line(s string) string { return Clean(strings.ReplaceAll(s, "\n", "; ")) }

// Escape writes such characters, but for tab and line feed, and what is no UTF-8, as \xNN: nothing is lost.
func Escape(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r != '\n' && r != '\t' && (r == utf8.RuneError && n == 1 || steers(r)) {
			for _, b := range text[:n] {
				out = fmt.Appendf(out, `\x%02x`, b)
			}
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}
