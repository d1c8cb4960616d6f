package main

import (
	"fmt"

	"github.com/slirpctl/slirpctl/internal/probe"
)

// probeLine is one line of a report.
type probeLine struct {
	cells  []cell
	remedy string
}

// probeSection is a section of a report.
type probeSection struct {
	title string
	lines []probeLine
}

func probeSections(r probe.Report) []probeSection {
	sections := []probeSection{binarySection(r.Slirp4netns)}
	if r.Slirp4netns.Error == "" {
		sections = append(sections, featureSection(r.Slirp4netns))
	}
	host := probeSection{title: "host"}
	for _, c := range r.Host {
		host.lines = append(host.lines, probeLine{[]cell{plain(c.Name), statusCell(c.Status), plain(c.Reason)}, c.Remedy})
	}
	sections = append(sections, host)
	if len(r.SelfTest) > 0 {
		test := probeSection{title: "self-test"}
		for _, s := range r.SelfTest {
			took := "-" // not tried
			if s.Milliseconds != 0 {
				took = fmt.Sprintf("%.1f ms", s.Milliseconds)
			}
			test.lines = append(test.lines, probeLine{[]cell{plain(s.Name), statusCell(s.Status), plain(took), plain(s.Reason)}, s.Remedy})
		}
		sections = append(sections, test)
	}
	return sections
}

// binarySection describes the slirp4netns binary.
func binarySection(b probe.Binary) probeSection {
	s := probeSection{title: "slirp4netns"}
	for _, r := range []struct{ name, value, colour string }{
		{"path", b.Path, ""},
		{"version", b.Version, ""},
		{"commit", b.Commit, ""},
		{"libslirp", b.Libslirp, ""},
		{"SLIRP_CONFIG_VERSION_MAX", b.ConfigVersionMax, ""},
		{"libseccomp", b.Libseccomp, ""},
		{"error", b.Error, red},
	} {
		if r.value != "" {
			s.lines = append(s.lines, probeLine{cells: []cell{plain(r.name), {r.value, r.colour}}})
		}
	}
	return s
}

func featureSection(b probe.Binary) probeSection {
	s := probeSection{title: "features"}
	for _, f := range b.Features {
		have := cell{"no", yellow}
		if f.Have {
			have = cell{"yes", green}
		}
		s.lines = append(s.lines, probeLine{cells: []cell{plain(string(f.Name)), have, plain("since " + f.Since)}})
	}
	return s
}

func statusCell(s probe.Status) cell {
	return cell{string(s), map[probe.Status]string{probe.OK: green, probe.Warning: yellow, probe.Failed: red, probe.Unknown: yellow}[s]}
}

// probeTable returns the report as a table: with sections and a summary for a terminal, otherwise with one line for
// each check and tabs between the fields.
func probeTable(r probe.Report, terminal bool) *table {
	t := &table{whole: true, tabs: !terminal}
	for _, s := range probeSections(r) {
		if terminal {
			t.add(cell{s.title, bold})
		}
		for _, l := range s.lines {
			if !terminal {
				if l.remedy != "" {
					l.cells = append(l.cells, plain(l.remedy))
				}
				t.add(l.cells...)
				continue
			}
			l.cells[0].text = "  " + l.cells[0].text
			t.add(l.cells...)
			if l.remedy != "" {
				t.add(plain(""), plain(""), plain("try: "+l.remedy))
			}
		}
	}
	if terminal {
		code := green
		if !r.Ready {
			code = red
		}
		t.add(cell{r.Summary, code})
	}
	return t
}
