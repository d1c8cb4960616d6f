package plaintext

import "testing"

func TestPlain(t *testing.T) {
	for _, tc := range []struct{ in, clean, line, escaped string }{
		{"plain é €", "plain é €", "plain é €", "plain é €"},
		{"a\x1b[31mb\x9b", "a[31mb?", "a[31mb?", `a\x1b[31mb\x9b`},
		{"two\nlines\t.", "twolines.", "two; lines.", "two\nlines\t."},
		{"\u202eevil\u2069\u2028\u0085", "evil", "evil", `\xe2\x80\xaeevil\xe2\x81\xa9\xe2\x80\xa8\xc2\x85`},
		{"\xff\x7f", "?", "?", `\xff\x7f`},
	} {
		if got := Clean(tc.in); got != tc.clean {
			t.Errorf("Clean(%q) = %q", tc.in, got)
		}
		if got := Line(tc.in); got != tc.line {
			t.Errorf("Line(%q) = %q", tc.in, got)
		}
		if got := string(Escape([]byte(tc.in))); got != tc.escaped {
			t.Errorf("Escape(%q) = %q", tc.in, got)
		}
	}
}
