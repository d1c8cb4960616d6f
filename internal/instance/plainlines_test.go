package instance

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzPlainLines(f *testing.F) {
	f.Add([]byte("plain\ttext, ümlaut\n"), 3)
	f.Add([]byte("\x1b[31m\xc2\x9b31m\r\x7f\xff\n\u202eevil"), 1)
	f.Add([]byte("no end"), 2)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		var out bytes.Buffer
		w := &plainLines{w: &out}
		at = max(0, min(at, len(text)))
		for _, part := range [][]byte{text[:at], text[at:]} {
			if n, err := w.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := w.flush(); err != nil {
			t.Fatal(err)
		}
		if !utf8.Valid(out.Bytes()) {
			t.Fatalf("%q becomes %q", text, out.Bytes())
		}
		for _, r := range out.String() {
			if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
				t.Fatalf("%q keeps %q", text, r)
			}
		}
		if strings.Count(out.String(), "\n") != bytes.Count(text, []byte("\n")) {
			t.Fatalf("%q becomes %q", text, out.String())
		}
	})
}
