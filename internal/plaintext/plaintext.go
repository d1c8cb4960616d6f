// Package plaintext makes text from other programs safe for a terminal or a log. It exists because messages quote
// text of slirp4netns, containers and other users' processes, which must not control the terminal, reverse the
// direction of text, or forge a line.
package plaintext

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// isUnsafe reports whether r is a control character, a line or paragraph separator, or a bidirectional control.
func isUnsafe(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= '\u2028' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// Clean removes unsafe characters from s and replaces invalid UTF-8 by "?".
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if isUnsafe(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Line is [Clean] for text of several lines, which it joins by "; ".
func Line(s string) string { return Clean(strings.ReplaceAll(s, "\n", "; ")) }

// Escape writes unsafe characters, except tab and line feed, and invalid UTF-8 as \xNN.
func Escape(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r != '\n' && r != '\t' && (r == utf8.RuneError && n == 1 || isUnsafe(r)) {
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
