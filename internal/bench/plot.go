package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// bar is one line of a plot.
type bar struct {
	Label string
	spread
	Kind barKind
}

type barKind int

const (
	peerBar barKind = iota
	ourBar
	limitBar // not a competitor: the machine's limit
)

var barColours = [...]string{peerBar: "#9aa7b4", ourBar: "#1f6feb", limitBar: "#d8dee4"}

// panel is a plot of one quantity: a bar for each contestant, with its range.
type panel struct {
	Title, Unit, Note string
	Bars              []bar
	// Mark is a value at which a line is drawn; 0: none.
	Mark     float64
	MarkText string
	Cut      float64 // the axis ends here, longer bars are cut; 0: no limit
}

// worthDrawing reports whether a plot shows more than the table: two bars to compare, and one that can be seen.
func (p panel) worthDrawing() bool {
	seen := slices.ContainsFunc(p.Bars, func(b bar) bool { return b.Median > 0 || b.Max > 0 })
	return seen && len(p.Bars) > 1
}

// Dimensions of a plot, in pixels.
const (
	axisWidth = 390
	barHeight = 22
	barGap    = 8
	plotEdge  = 10
	// letterWidth is that of a letter of the labels (13 px), on average, in the widest font that a viewer may have:
	// DejaVu Sans, if there is no Arial.
	letterWidth = 7.8
)

// textWidth returns the room that a label or a value needs.
func textWidth(s string) float64 { return float64(utf8.RuneCountInString(s)) * letterWidth }

// above returns the height of the title and the note, and of the text of a mark.
func (p panel) above() int {
	height := 52
	if p.Mark > 0 {
		height += 18
	}
	return height
}

// height returns the height of a panel.
func (p panel) height() int { return p.above() + len(p.Bars)*(barHeight+barGap) + 46 }

// value returns the number beside a bar.
func (b bar) value() string {
	switch {
	case math.IsNaN(b.Median):
		return "could not be measured"
	case b.Max > b.Min:
		return fmt.Sprintf("%s  (%s – %s)", figure(b.Median), figure(b.Min), figure(b.Max))
	}
	return figure(b.Median)
}

// svg draws panels below each other, on white so that they are readable on a dark page. The labels are left of the axis and
// the numbers right of it, so that no line goes through them.
func svg(title string, panels []panel) string {
	height, labels, values := 16, 0.0, 0.0
	for _, p := range panels {
		height += p.height()
		for _, bar := range p.Bars {
			labels, values = max(labels, textWidth(bar.Label)), max(values, textWidth(bar.value()))
		}
	}
	left := plotEdge + labels + 10
	width := int(left + axisWidth + 12 + values + plotEdge)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	y := 8
	for _, p := range panels {
		p.draw(&b, left, y)
		y += p.height()
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) draw(b *strings.Builder, left float64, top int) {
	text := func(x, y float64, anchor, style, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, style, html.EscapeString(s))
	}
	text(plotEdge, float64(top)+20, "start", `font-size="16" font-weight="bold" fill="#1f2328"`, p.Title)
	text(plotEdge, float64(top)+38, "start", `font-size="12" fill="#59636e"`, p.Note)
	most := p.Mark
	for _, bar := range p.Bars {
		if !math.IsNaN(bar.Max) && !math.IsInf(bar.Max, 0) {
			most = max(most, bar.Max)
		}
	}
	if p.Cut > 0 {
		most = min(most, p.Cut)
	}
	step, end := ticks(most)
	x := func(v float64) float64 {
		return left + axisWidth*math.Min(1, math.Max(0, v/end))
	}
	first := float64(top + p.above())
	bottom := first + float64(len(p.Bars)*(barHeight+barGap))
	for v := 0.0; v <= end*1.0001; v += step {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e4e8ec"/>`+"\n", x(v), first-4, x(v), bottom)
		text(x(v), bottom+16, "middle", `font-size="12" fill="#59636e"`, figure(v))
	}
	text(left+axisWidth/2, bottom+34, "middle", `font-size="12" fill="#1f2328"`, p.Unit)
	for i, bar := range p.Bars {
		y := first + float64(i*(barHeight+barGap))
		mid := y + barHeight/2
		text(left-10, mid+4.5, "end", `font-size="13" fill="#1f2328"`, bar.Label)
		colour := "#b42318"
		if !math.IsNaN(bar.Median) {
			colour = "#1f2328"
			fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", left, y, x(bar.Median)-left, barHeight, barColours[bar.Kind])
		}
		if bar.Max > bar.Min {
			fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8" stroke="#1f2328" fill="none"/>`+"\n",
				x(bar.Min), mid, x(bar.Max), x(bar.Min), mid-4, x(bar.Max), mid-4)
		}
		text(left+axisWidth+12, mid+4.5, "start", `font-size="13" fill="`+colour+`"`, bar.value())
	}
	if p.Mark > 0 {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#b42318" stroke-dasharray="5 3"/>`+"\n", x(p.Mark), first-4, x(p.Mark), bottom)
		text(x(p.Mark), first-9, "middle", `font-size="12" fill="#b42318"`, p.MarkText)
	}
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#1f2328"/>`+"\n", left, first-4, left, bottom)
}

// ticks chooses the axis's step, 1, 2 or 5 times a power of ten, and its end.
func ticks(most float64) (step, end float64) {
	if !(most > 0) {
		return 1, 1
	}
	step = math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{0.1, 0.2, 0.5, 1} {
		if most/(step*part) <= 6 {
			step *= part
			break
		}
	}
	return step, math.Ceil(most/step*0.9999) * step
}

// figure formats a value with three significant digits.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case math.IsInf(v, 0):
		return "∞"
	case a == 0:
		return "0"
	case a >= 10000:
		return group(fmt.Sprintf("%.0f", v))
	case a >= 99.95:
		return group(fmt.Sprintf("%.0f", v))
	case a >= 9.995:
		return trimZero(fmt.Sprintf("%.1f", v))
	default:
		return trimZero(fmt.Sprintf("%.2f", v))
	}
}

func trimZero(s string) string {
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// group inserts commas between thousands.
func group(s string) string {
	sign := ""
	if rest, minus := strings.CutPrefix(s, "-"); minus {
		sign, s = "-", rest
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
