package main

import (
	"fmt"
	"regexp"
	"strings"
)

// Dimensions of the picture, in pixels, and times of the animation, in seconds.
const (
	columns    = 88
	charWidth  = 84 // tenths
	lineHeight = 19
	margin     = 16
	perCommand = 1.6
	perLine    = 0.08
)

var (
	colour  = regexp.MustCompile("\x1b\\[([0-9;]*)m")
	control = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	classes = map[string]string{"1": "b", "2": "d", "31": "r", "32": "g", "33": "y"}
)

// render draws the commands, each line appearing at its time. If the viewer prefers reduced motion or
// does not support animation, everything is visible at once.
func render(cmds []command) string {
	var body strings.Builder
	y, at := margin+lineHeight, 0.3
	draw := func(text string) {
		fmt.Fprintf(&body, "<text x=\"%d\" y=\"%d\" style=\"animation-delay:%.2fs\">%s</text>\n", margin, y, at, text)
		y += lineHeight
	}
	for _, c := range cmds {
		draw(`<tspan class="p">$</tspan> <tspan class="c">` + escape(c.line) + `</tspan>`)
		at += perCommand / 2
		for line := range strings.Lines(strings.TrimRight(c.output, "\n")) {
			draw(spans(strings.TrimSuffix(line, "\n")))
			at += perLine
		}
		at += perCommand / 2
	}
	width, height := columns*charWidth/10+2*margin, y+margin/2
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="a terminal session with slirpctl">
<style>
rect{fill:#1b1f27}
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d5dae3;white-space:pre}
.p{fill:#7d8796}.c{fill:#fff;font-weight:bold}.b{font-weight:bold}.d{fill:#8b94a3}.r{fill:#ff7b72}.g{fill:#7ee787}.y{fill:#e3b341}
@keyframes show{from{opacity:0}to{opacity:1}}
@media (prefers-reduced-motion:no-preference){text{animation:show 1ms backwards}}
</style>
<rect width="100%%" height="100%%" rx="8"/>
%s</svg>
`, width, height, width, height, body.String())
}

// spans converts a line's colours into tspans, and drops all other control sequences.
func spans(line string) string {
	var b strings.Builder
	class := ""
	put := func(text string) {
		text = escape(control.ReplaceAllString(text, ""))
		if class != "" && text != "" {
			text = `<tspan class="` + class + `">` + text + `</tspan>`
		}
		b.WriteString(text)
	}
	rest := cutRunes(line)
	for {
		m := colour.FindStringSubmatchIndex(rest)
		if m == nil {
			put(rest)
			return b.String()
		}
		put(rest[:m[0]])
		class = classes[rest[m[2]:m[3]]]
		rest = rest[m[1]:]
	}
}

// cutRunes makes the line valid text: the part after the last carriage return, which has replaced the rest.
func cutRunes(line string) string {
	return strings.ToValidUTF8(line[strings.LastIndexByte(line, '\r')+1:], "?")
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
