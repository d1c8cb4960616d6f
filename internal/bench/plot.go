package main

import (
	"fmt"
	"html"
	"math"
	"strings"
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

// Dimensions of a plot, in pixels.
const (
	plotWidth  = 860
	labelWidth = 300
	valueWidth = 170
	barHeight  = 22
	barGap     = 8
	axisWidth  = plotWidth - labelWidth - valueWidth
)

// height returns the height of a panel.
func (p panel) height() int { return 52 + len(p.Bars)*(barHeight+barGap) + 46 }

// svg draws panels below each other, on white so that they are readable on a dark page.
func svg(title string, panels []panel) string {
	height := 16
	for _, p := range panels {
		height += p.height()
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" role="img">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, height)
	y := 8
	for _, p := range panels {
		p.draw(&b, y)
		y += p.height()
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func (p panel) draw(b *strings.Builder, top int) {
	text := func(x, y float64, anchor, style, s string) {
		fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>`+"\n", x, y, anchor, style, html.EscapeString(s))
	}
	text(10, float64(top)+20, "start", `font-size="16" font-weight="bold" fill="#1f2328"`, p.Title)
	text(10, float64(top)+38, "start", `font-size="12" fill="#59636e"`, p.Note)
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
		return labelWidth + axisWidth*math.Min(1, math.Max(0, v/end))
	}
	first := float64(top) + 52
	bottom := first + float64(len(p.Bars)*(barHeight+barGap))
	for v := 0.0; v <= end*1.0001; v += step {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e4e8ec"/>`+"\n", x(v), first-4, x(v), bottom)
		text(x(v), bottom+16, "middle", `font-size="12" fill="#59636e"`, figure(v))
	}
	text(labelWidth+axisWidth/2, bottom+34, "middle", `font-size="12" fill="#1f2328"`, p.Unit)
	for i, bar := range p.Bars {
		y := first + float64(i*(barHeight+barGap))
		mid := y + barHeight/2
		text(labelWidth-10, mid+4.5, "end", `font-size="13" fill="#1f2328"`, bar.Label)
		if math.IsNaN(bar.Median) {
			text(labelWidth+6, mid+4.5, "start", `font-size="13" fill="#b42318"`, "could not be measured")
			continue
		}
		fmt.Fprintf(b, `<rect x="%d" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", labelWidth, y, x(bar.Median)-labelWidth, barHeight, barColours[bar.Kind])
		value := figure(bar.Median)
		if bar.Max > bar.Min {
			fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8" stroke="#1f2328" fill="none"/>`+"\n",
				x(bar.Min), mid, x(bar.Max), x(bar.Min), mid-4, x(bar.Max), mid-4)
			value += fmt.Sprintf("  (%s – %s)", figure(bar.Min), figure(bar.Max))
		}
		text(math.Max(x(bar.Median), x(bar.Max))+8, mid+4.5, "start", `font-size="13" fill="#1f2328"`, value)
	}
	if p.Mark > 0 {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#b42318" stroke-dasharray="5 3"/>`+"\n", x(p.Mark), first-4, x(p.Mark), bottom)
		text(x(p.Mark)+4, first-7, "start", `font-size="12" fill="#b42318"`, p.MarkText)
	}
	fmt.Fprintf(b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#1f2328"/>`+"\n", labelWidth, first-4, labelWidth, bottom)
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
