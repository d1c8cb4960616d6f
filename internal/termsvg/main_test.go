package main

import (
	"encoding/xml"
	"io"
	"os"
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	svg := render([]command{
		{"slirpctl list | grep <x>", "\x1b[1mNAME\x1b[0m  STATE\nweb   \x1b[32mrunning\x1b[0m\x1b[K\n\rstarting \xff\r\x1b[Kdone\n"},
		{"true", ""},
	})
	for _, want := range []string{
		`<tspan class="c">slirpctl list | grep &lt;x&gt;</tspan>`, `<tspan class="b">NAME</tspan>  STATE</text>`,
		`web   <tspan class="g">running</tspan></text>`, `">done</text>`, `<tspan class="c">true</tspan>`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
	if strings.Contains(svg, "\x1b") {
		t.Error("a control sequence is left")
	}
	// A viewer without animation shows everything, with its columns.
	if still, _, _ := strings.Cut(svg, "@keyframes"); strings.Contains(still, "opacity") || !strings.Contains(still, `xml:space="preserve"`) {
		t.Errorf("a still picture is empty, or its columns are gone:\n%s", still)
	}
	wellFormed(t, svg)
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	dec := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := dec.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// TestPicture: the checked-in picture shows the checked-in session.
func TestPicture(t *testing.T) {
	svg, err := os.ReadFile("../../docs/demo.svg")
	if err != nil {
		t.Fatal(err)
	}
	session, err := os.ReadFile("../../docs/demo.session")
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, string(svg))
	for line := range strings.Lines(string(session)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !strings.Contains(string(svg), escape(line)) {
			t.Errorf("docs/demo.svg does not show %q: make docs", line)
		}
	}
}

func TestUsage(t *testing.T) {
	if err := run(nil, io.Discard); err == nil {
		t.Error("no arguments are no error")
	}
	if err := run([]string{"no-such-file"}, io.Discard); err == nil {
		t.Error("a missing session is no error")
	}
}
