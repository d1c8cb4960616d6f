package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// cell is one cell of a table. colour is a control sequence, or "".
type cell struct{ text, colour string }

// table is rows of cells in aligned columns. Unlike text/tabwriter, it does not count colours as width.
type table struct {
	rows  [][]cell
	whole bool // don't cut lines to the width of the terminal
}

// Colours of ECMA-48.
const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	reset  = "\x1b[0m"
)

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

func plain(text string) cell { return cell{text: text} }

// newTable returns a table with a header row.
func newTable(titles ...string) *table {
	t := &table{}
	row := make([]cell, len(titles))
	for i, title := range titles {
		row[i] = cell{title, bold}
	}
	t.add(row...)
	return t
}

// text returns the table for w: with colours and cut to the width if w is a terminal.
func (t *table) text(w io.Writer) string {
	limit := terminalWidth(w)
	if t.whole {
		limit = 0
	}
	return t.render(wantColour(w), limit)
}

// render returns the table, with or without colours. If limit is above 0, lines are cut to limit characters, so that
// a terminal does not wrap them.
func (t *table) render(colour bool, limit int) string {
	widths := t.widths()
	var b strings.Builder
	for _, row := range t.rows {
		left := limit
		for i, c := range row {
			text, pad := c.text, ""
			if i < len(row)-1 {
				pad = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
			}
			if limit > 0 {
				text = cut(text, left)
				left -= utf8.RuneCountInString(text)
				pad = pad[:min(len(pad), left)]
				left -= len(pad)
			}
			b.WriteString(paint(colour, c.colour, text) + pad)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// widths returns the widths of the columns. The last cell of a row is not padded, so it does not count.
func (t *table) widths() (widths []int) {
	for _, row := range t.rows {
		for i, c := range row[:max(0, len(row)-1)] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	return widths
}

func cut(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	runes := []rune(text)
	if limit < 1 {
		return ""
	}
	return string(runes[:limit-1]) + "…"
}

func paint(colour bool, code, text string) string {
	if !colour || code == "" || text == "" {
		return text
	}
	return code + text + reset
}

// terminalSize returns the columns and rows of the terminal w, or 0 if w is not a terminal or its size is unknown.
func terminalSize(w io.Writer) (columns, rows int) {
	f := fileOf(w)
	if f == nil {
		return 0, 0
	}
	columns, rows, _ = term.GetSize(int(f.Fd()))
	return columns, rows
}

func terminalWidth(w io.Writer) int {
	columns, _ := terminalSize(w)
	return columns
}

// byteCount formats bytes with a decimal unit.
func byteCount(n float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	i := 0
	for n >= 999.5 && i < len(units)-1 {
		n /= 1000
		i++
	}
	if i == 0 || n >= 99.95 {
		return fmt.Sprintf("%.0f %s", n, units[i])
	}
	return fmt.Sprintf("%.1f %s", n, units[i])
}
