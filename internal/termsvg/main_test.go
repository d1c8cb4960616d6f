package main

import (
	"encoding/xml"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	svg := render([]command{
		{"slirpctl list | grep <x>", "\x1b[1mNAME\x1b[0m  STATE\nweb   \x1b[32mrunning\x1b[0m\x1b[K\n\rstarting \xff\r\x1b[Kdone\n"},
		{"true", ""},
	})
	for _, want := range []string{
		`>slirpctl list | grep &lt;x&gt;</tspan>`, `<tspan x="16.0" fill="#d5dae3" font-weight="bold">NAME</tspan><tspan x="66.4" fill="#d5dae3">STATE</tspan></text>`,
		`>web</tspan><tspan x="66.4" fill="#7ee787">running</tspan></text>`, `>done</tspan></text>`, `>true</tspan></text>`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
	if strings.Contains(svg, "\x1b") {
		t.Error("a control sequence is left")
	}
	checkEverywhere(t, svg)
}

// checkEverywhere: a viewer needs no style sheet, script or animation to show the picture, nor anything from elsewhere.
func checkEverywhere(t *testing.T, svg string) {
	t.Helper()
	wellFormed(t, svg)
	for _, no := range []string{"<style", "style=", "class=", "<animate", "<script", "href", "@", "opacity"} {
		if strings.Contains(svg, no) {
			t.Errorf("%s in\n%s", no, svg)
		}
	}
	for _, text := range regexp.MustCompile("<tspan[^>]*>").FindAllString(svg, -1) {
		if !strings.Contains(text, "fill=") {
			t.Errorf("%s is black on black", text)
		}
	}
	if !strings.HasSuffix(svg, "<tspan x=\"16.0\" "+prompt+">$</tspan></text>\n</svg>\n") {
		t.Error("it does not end with a prompt")
	}
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
	checkEverywhere(t, string(svg))
	if got := strings.Count(string(svg), styles["32"]); got < 2 {
		t.Error("it has no colours: make docs")
	}
	for line := range strings.Lines(string(session)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") && !strings.Contains(string(svg), span(2, typed, line)) {
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
