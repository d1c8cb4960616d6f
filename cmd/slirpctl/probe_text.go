package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/slirpctl/slirpctl/internal/probe"
)

// finding is a check of the host or a step of the self-test.
type finding struct {
	status               probe.Status
	name, reason, remedy string
}

// probeWriter formats a report.
type probeWriter struct {
	strings.Builder
	colour bool
	width  int // of the terminal; 0: no limit
}

// probeText returns the report as text: the verdict, what needs doing, and with verbose everything. Lines are not
// longer than width columns, if width is above 0. Without a terminal, everything is one line for each thing, with tabs
// between the fields.
func probeText(r probe.Report, verbose, terminal, colour bool, width int) string {
	w := &probeWriter{colour: colour, width: width}
	if verbose && !terminal {
		w.fields("summary", r.Summary)
		w.sections(r, func(label string, status cell, text, remedy string) {
			w.fields(label, status.text, text, remedy)
		}, func(string) {})
		return w.String()
	}
	code := green
	if !r.Ready {
		code = red
	}
	w.wrap("", r.Summary, code, 2)
	found := findings(r)
	for i, f := range found {
		if i == 0 {
			w.WriteByte('\n')
		}
		text := f.name
		if f.reason != "" {
			text += ": " + f.reason
		}
		w.wrap(paint(colour, statusCell(f.status).colour, fmt.Sprintf("%-9s", f.status)), text, "", 9)
		w.command(f.remedy, 9)
	}
	w.WriteByte('\n')
	if verbose {
		const name, value = 24, 9 // widths of columns
		w.sections(r, func(label string, status cell, text, remedy string) {
			head, indent := fmt.Sprintf("  %-*s  ", name, label), 2+name+2
			if status.text != "" {
				head += paint(colour, status.colour, fmt.Sprintf("%-*s", value, status.text))
				indent += value
			}
			took, reason, timed := strings.Cut(text, "\t")
			if timed {
				text = fmt.Sprintf("%10s  %s", took, reason)
			}
			w.wrap(head, text, "", indent)
			w.command(remedy, 4)
		}, func(title string) { w.WriteString(paint(colour, bold, title) + "\n") })
		return w.String()
	}
	if b := r.Slirp4netns; b.Error == "" {
		w.wrap("", fmt.Sprintf("slirp4netns %s, %s", b.Version, b.Path), dim, 0)
	}
	checks := fmt.Sprintf("%d checks", len(r.Host))
	if len(r.SelfTest) > 0 {
		checks += fmt.Sprintf(" and the %d steps of the self-test", len(r.SelfTest))
	}
	w.wrap("", "slirpctl probe -v shows all "+checks, dim, 0)
	return w.String()
}

// findings returns what is not in order, the worst first.
func findings(r probe.Report) []finding {
	var all []finding
	if r.Slirp4netns.Error != "" {
		all = append(all, finding{probe.Failed, "slirp4netns", r.Slirp4netns.Error, ""})
	}
	for _, c := range r.Host {
		all = append(all, finding{c.Status, c.Name, c.Reason, c.Remedy})
	}
	for _, s := range r.SelfTest {
		all = append(all, finding{s.Status, "self-test " + s.Name, s.Reason, s.Remedy})
	}
	all = slices.DeleteFunc(all, func(f finding) bool { return f.status == probe.OK })
	order := []probe.Status{probe.Failed, probe.Warning, probe.Unknown}
	slices.SortStableFunc(all, func(x, y finding) int { return slices.Index(order, x.status) - slices.Index(order, y.status) })
	return all
}

// fields writes one line with tabs between the fields that are not empty.
func (w *probeWriter) fields(list ...string) {
	list = slices.DeleteFunc(list, func(f string) bool { return f == "" })
	w.WriteString(strings.Join(list, "\t") + "\n")
}

// sections calls title for each section of the report and line for each thing in it.
func (w *probeWriter) sections(r probe.Report, line func(label string, status cell, text, remedy string), title func(string)) {
	title("slirp4netns")
	b := r.Slirp4netns
	for _, f := range []struct{ name, value string }{
		{"path", b.Path},
		{"version", b.Version},
		{"commit", b.Commit},
		{"libslirp", b.Libslirp},
		{"SLIRP_CONFIG_VERSION_MAX", b.ConfigVersionMax},
		{"libseccomp", b.Libseccomp},
		{"error", b.Error},
	} {
		if f.value != "" {
			line(f.name, cell{}, f.value, "")
		}
	}
	if b.Error == "" {
		title("features")
		for _, f := range b.Features {
			have := cell{"no", yellow}
			if f.Have {
				have = cell{"yes", green}
			}
			line(string(f.Name), have, "since "+f.Since, "")
		}
	}
	title("host")
	for _, c := range r.Host {
		line(c.Name, statusCell(c.Status), c.Reason, c.Remedy)
	}
	if len(r.SelfTest) > 0 {
		title("self-test")
	}
	for _, s := range r.SelfTest {
		took := "-" // it was not tried
		if s.Milliseconds != 0 {
			took = fmt.Sprintf("%.1f ms", s.Milliseconds)
		}
		line(s.Name, statusCell(s.Status), took+"\t"+s.Reason, s.Remedy)
	}
}

func statusCell(s probe.Status) cell {
	return cell{string(s), map[probe.Status]string{probe.OK: green, probe.Warning: yellow, probe.Failed: red, probe.Unknown: yellow}[s]}
}

// wrap writes head and text. Lines that are too long are broken, and continued at the column indent; the terminal
// counts head as indent columns.
func (w *probeWriter) wrap(head, text, code string, indent int) {
	room := 0
	if w.width > 0 {
		room = max(w.width-indent, 1)
	}
	for i, line := range wrapText(text, room) {
		if i > 0 {
			head = strings.Repeat(" ", indent)
		}
		w.WriteString(strings.TrimRight(head+paint(w.colour, code, line), " ") + "\n")
	}
}

// command writes a command to paste into a shell. It is broken only where a shell joins the lines again.
func (w *probeWriter) command(text string, indent int) {
	if text == "" {
		return
	}
	room := 0
	if w.width > 0 {
		room = max(w.width-indent-len(` \`), 1)
	}
	lines := commandLines(text, room)
	for i, line := range lines {
		if i < len(lines)-1 {
			line += ` \`
		}
		w.WriteString(strings.Repeat(" ", indent) + paint(w.colour, bold, line) + "\n")
	}
}

// commandLines breaks a command at spaces outside of quotes and comments into lines of at most width characters, if its
// words are not longer; 0: no limit.
func commandLines(text string, width int) []string {
	lines := []string{""}
	start := 0
	add := func(word string) {
		line := &lines[len(lines)-1]
		if *line != "" && width > 0 && utf8.RuneCountInString(*line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, word)
			return
		}
		*line = strings.TrimPrefix(*line+" "+word, " ")
	}
	var quote rune
	for i, r := range text {
		switch {
		case quote == 0 && (r == '\'' || r == '"' || r == '#' && i == start):
			quote = r
		case r == quote && r != '#':
			quote = 0
		case quote == 0 && r == ' ':
			add(text[start:i])
			start = i + 1
		}
	}
	add(text[start:])
	return lines
}

// wrapText breaks text at spaces into lines of at most width characters, and within words that are longer; 0: no limit.
func wrapText(text string, width int) []string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	var lines []string
	rest := []rune(text)
	for len(rest) > width {
		end, next := width, width
		for i := width; i > 0; i-- {
			if rest[i] == ' ' {
				end, next = i, i+1
				break
			}
		}
		lines = append(lines, strings.TrimRight(string(rest[:end]), " "))
		rest = rest[next:]
	}
	return append(lines, string(rest))
}
