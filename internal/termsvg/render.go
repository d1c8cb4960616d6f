package main

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Dimensions of the picture, in pixels.
const (
	columns    = 88
	charWidth  = 8.4
	lineHeight = 19
	margin     = 16
)

var (
	colour  = regexp.MustCompile("\x1b\\[([0-9;]*)m")
	control = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	words   = regexp.MustCompile(`\S+( \S+)*`)
)

// The attributes of text, by the parameters of the terminal's sequence.
const (
	plain  = `fill="#d5dae3"`
	typed  = `fill="#ffffff" font-weight="bold"`
	prompt = `fill="#7ee787" font-weight="bold"`
)

var styles = map[string]string{
	"1": plain + ` font-weight="bold"`, "2": `fill="#8b94a3"`, "31": `fill="#ff7b72"`, "32": `fill="#7ee787"`, "33": `fill="#e3b341"`,
	"1;31": `fill="#ff7b72" font-weight="bold"`, "1;32": `fill="#7ee787" font-weight="bold"`, "1;33": `fill="#e3b341" font-weight="bold"`, "36": `fill="#76d1e0"`,
}

// render draws the commands, and a prompt below. It uses nothing but shapes and their attributes, no style sheet, font or
// animation of its own, so that every viewer shows the same.
func render(cmds []command) string {
	var body strings.Builder
	y := margin + lineHeight
	draw := func(text string) {
		fmt.Fprintf(&body, "<text y=\"%d\">%s</text>\n", y, text)
		y += lineHeight
	}
	for _, c := range cmds {
		draw(span(0, prompt, "$") + span(2, typed, c.line))
		for line := range strings.Lines(strings.TrimRight(c.output, "\n")) {
			if text := spans(strings.TrimSuffix(line, "\n")); text != "" {
				draw(text)
			}
		}
	}
	fmt.Fprintf(&body, "<rect x=\"%.1f\" y=\"%d\" width=\"8\" height=\"16\" fill=\"#d5dae3\"/>\n", margin+2*charWidth, y-13)
	draw(span(0, prompt, "$"))
	const width = columns*charWidth + 2*margin
	height := y + margin/2 - 4
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%d" viewBox="0 0 %.0f %d" role="img" aria-label="a terminal session with slirpctl" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">
<rect width="%.0f" height="%d" rx="8" fill="#1b1f27"/>
%s</svg>
`, width, height, width, height, width, height, body.String())
}

// span draws text from a column on. Words after more than one space have a position of their own: viewers collapse
// spaces, and their fonts differ in width.
func span(column int, style, text string) string {
	var b strings.Builder
	for _, at := range words.FindAllStringIndex(text, -1) {
		x := margin + charWidth*float64(column+utf8.RuneCountInString(text[:at[0]]))
		fmt.Fprintf(&b, `<tspan x="%.1f" %s>%s</tspan>`, x, style, escape(text[at[0]:at[1]]))
	}
	return b.String()
}

// spans converts a line's colours into tspans, and drops all other control sequences.
func spans(line string) string {
	var b strings.Builder
	style, column := plain, 0
	put := func(text string) {
		text = control.ReplaceAllString(text, "")
		b.WriteString(span(column, style, text))
		column += utf8.RuneCountInString(text)
	}
	rest := cutRunes(line)
	for {
		m := colour.FindStringSubmatchIndex(rest)
		if m == nil {
			put(rest)
			return b.String()
		}
		put(rest[:m[0]])
		if style = styles[rest[m[2]:m[3]]]; style == "" {
			style = plain
		}
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
