package main

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// unknown says what the figures don't show.
const unknown = "Not known: how slirpctl compares on four processors and more, where pasta, with its implicit ports, may lead. `direct` runs one loop for\n" +
	"every four processors, at most four. `make bench-cpus N=8` shows connections and throughput with one to four loops; `bin/bench-cpus/results.json`\n" +
	"from a larger machine is welcome.\n\n"

//go:embed notes.md
var notes string

// groupOf is a section of the report, with a plot of its own.
type groupOf struct {
	id, title string
	metrics   []string
}

var groups = []groupOf{
	{"throughput", "Throughput of a forward", []string{"tcp-in", "tcp-out"}},
	{"cpu", "Processor time of a forward", []string{"cpu-in", "cpu-out"}},
	{"connections", "New connections", []string{"conn-1", "conn-16"}},
	{"latency", "Latency", []string{"rtt-50", "rtt-99", "rtt-one"}},
	{"udp", "UDP", []string{"udp"}},
	{"start", "Starting", []string{"up-true", "up-detached", "version", "size"}},
	{"memory", "Memory and idling", []string{"memory", "memory-supervisor", "idle-cpu", "idle-wakeups", "idle-own"}},
	{"forwards", "Many forwards", []string{"add-1000", "list-1000", "remove-1000", "forwards-10000"}},
	{"scale", "Many instances, and healing", []string{"instances-200", "heal"}},
	{"slirp", "Through slirp4netns", []string{"slirp-out", "slirp-back", "hostfwd-in", "hostfwd-out"}},
	{"tuning", "Settings inside the namespace", []string{"tune-out", "tune-back", "tune-fwd-in", "tune-fwd-out"}},
}

// writeReport writes benchmarks.md and the plots below dir.
func writeReport(r *results, dir string) error {
	plots := filepath.Join(dir, "bench")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	old, _ := filepath.Glob(filepath.Join(plots, "*.svg"))
	for _, f := range old {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	var b strings.Builder
	r.writeHead(&b)
	verdicts := judge(r)
	writeTargets(&b, verdicts)
	if err := os.WriteFile(filepath.Join(plots, "targets.svg"), []byte(svg("Targets", []panel{targetPanel(verdicts)})), 0o644); err != nil {
		return err
	}
	writeNotes(&b, verdicts)
	for _, g := range groups {
		panels := r.writeGroup(&b, g)
		if len(panels) == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(plots, g.id+".svg"), []byte(svg(g.title, panels)), 0o644); err != nil {
			return err
		}
	}
	if len(r.Failures) > 0 {
		b.WriteString("## What went wrong\n\n")
		for _, f := range r.Failures {
			fmt.Fprintf(&b, "* %s\n", f)
		}
		b.WriteString("\n")
	}
	return os.WriteFile(filepath.Join(dir, "benchmarks.md"), []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644)
}

func (r *results) writeHead(b *strings.Builder) {
	m := r.Machine
	fmt.Fprintf(b, `# Benchmarks

Written by `+"`make bench`"+`, whole: figures, plots and text come from one run on one machine, and
from `+"`docs/bench/results.json`"+`, where it keeps every sample. The figures drift with the machine; the
ratios are the point. Contestants are measured in turn, A B C A B C …, %d times (`+"`BENCH_RUNS`"+`); tables and
plots give the median, and the least and the most in brackets. Ratios are those of neighbouring
measurements, so that a slow minute of the machine affects both.

| | |
|---|---|
| date | %s |
| machine | %s, %d cores, %d GiB |
| system | %s, Linux %s |
| TCP | congestion control %s |
| as | an ordinary user, XDG_RUNTIME_DIR on a tmpfs |

| contestant | version |
|---|---|
`, r.Runs, r.Date, m.Processor, m.Cores, m.MemoryGiB, m.System, m.Kernel, m.TCP)
	for _, c := range r.Contestants {
		what := c.Version
		if c.Missing != "" {
			what = strings.TrimPrefix(c.Version+"; missing: "+c.Missing, "; ")
		}
		if what != "" && !slices.Contains([]string{"slirp-open", "bare-open", "direct", "handler-rootlesskit", "handler-slirp4netns"}, c.ID) {
			fmt.Fprintf(b, "| %s | %s |\n", c.Name, what)
		}
	}
	b.WriteString("\nAll contestants run with sandbox and seccomp, if they have them, and an MTU of 65520.\n\n")
	b.WriteString(unknown)
}

func writeTargets(b *strings.Builder, verdicts []verdict) {
	b.WriteString("## Targets\n\n![Targets](bench/targets.svg)\n\n| what | against | target | measured | met |\n|---|---|---|---|---|\n")
	for _, v := range verdicts {
		against, sign := "–", ""
		if v.Against != nil {
			against = strings.TrimSpace(v.Against.Name + " " + v.Against.Version)
			if v.How != moreMost {
				sign = " ×"
			}
		}
		bound := "at most "
		if v.How == ratioLeast {
			bound = "at least "
		}
		measured, met := "not measured", "–"
		if v.N > 0 {
			measured = figure(v.Measured.Median) + sign
			if v.N > 1 {
				measured += fmt.Sprintf(" (%s – %s)", figure(v.Measured.Min), figure(v.Measured.Max))
			}
			met = "**no**"
			if v.met() {
				met = "yes"
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s%s%s | %s | %s |\n", v.What, against, bound, figure(v.Bound), sign, measured, met)
	}
	b.WriteString("\n")
}

// writeNotes adds the explanations for missed targets.
func writeNotes(b *strings.Builder, verdicts []verdict) {
	var said []string
	for _, v := range verdicts {
		if v.N == 0 || v.met() || slices.Contains(said, v.Metric) {
			continue
		}
		_, text, found := strings.Cut(notes, "\n## "+v.Metric+"\n")
		if !found {
			continue
		}
		text, _, _ = strings.Cut(text, "\n## ")
		if len(said) == 0 {
			b.WriteString("### Targets missed\n\n")
		}
		said = append(said, v.Metric)
		fmt.Fprintf(b, "**%s.** %s\n\n", strings.ToUpper(v.What[:1])+v.What[1:], strings.TrimSpace(text))
	}
}

func targetPanel(verdicts []verdict) panel {
	p := panel{
		Title: "How far each target is reached", Unit: "times the target (right of the line: reached)",
		Note: "1 is the target itself; for \"at most\" targets the inverse. Bars are cut at 4.", Mark: 1, MarkText: "target", Cut: 4,
	}
	for _, v := range verdicts {
		if v.N == 0 {
			continue
		}
		s := v.score()
		label := v.What
		if v.Against != nil {
			label += " / " + short(v.Against)
		}
		kind := peerBar
		if v.met() {
			kind = ourBar
		}
		p.Bars = append(p.Bars, bar{label, spread{s, s, s}, kind})
	}
	return p
}

// short returns a contestant's label in plots: its name with the version, which tells one from another.
func short(c *contestant) string {
	if c.Version == "" || strings.HasPrefix(c.Name, "slirpctl") {
		return c.Name
	}
	return strings.TrimSuffix(c.Name, " of the system") + " " + packageVersion.ReplaceAllString(c.Version, "${1}_${2}_$3.$4")
}

// packageVersion is Debian's spelling of a version of passt, which is named by a date: 2026_10_02.cba3570.
var packageVersion = regexp.MustCompile(`^0\.0~git(\d{4})(\d\d)(\d\d)\.(\w+)-.*$`)

// writeGroup writes a section's tables and returns its plot.
func (r *results) writeGroup(b *strings.Builder, g groupOf) []panel {
	var panels []panel
	var tables strings.Builder
	for _, id := range g.metrics {
		i := slices.IndexFunc(metrics, func(m metric) bool { return m.ID == id })
		m := metrics[i]
		if len(r.Samples[id]) == 0 {
			continue
		}
		better := "less is better"
		if m.Higher {
			better = "more is better"
		}
		p := panel{Title: m.Title, Unit: m.Unit + ", " + better}
		fmt.Fprintf(&tables, "**%s.** %s\n\n| | %s, %s |\n|---|---|\n", m.Title, m.How, m.Unit, better)
		for _, c := range r.order(id) {
			values := r.good(id, c.ID)
			s := spreadOf(values)
			cell := "could not be measured"
			if len(values) > 0 {
				cell = figure(s.Median)
				if len(values) > 1 {
					p.Note = "Median, and the range of all runs"
					cell += fmt.Sprintf(" (%s – %s)", figure(s.Min), figure(s.Max))
				}
			}
			name := c.Name
			if counted := r.Counted[c.ID]; counted != "" && strings.HasPrefix(id, "cpu-") {
				name += " (" + counted + ")"
			}
			fmt.Fprintf(&tables, "| %s | %s |\n", name, cell)
			kind := peerBar
			switch {
			case c.ID == m.Limit:
				kind = limitBar
			case strings.HasPrefix(c.Name, "slirpctl"):
				kind = ourBar
			}
			p.Bars = append(p.Bars, bar{short(c), s, kind})
		}
		tables.WriteString("\n")
		if p.worthDrawing() {
			panels = append(panels, p)
		}
	}
	if tables.Len() > 0 {
		fmt.Fprintf(b, "## %s\n\n", g.title)
	}
	if len(panels) > 0 {
		fmt.Fprintf(b, "![%s](bench/%s.svg)\n\n", g.title, g.id)
	}
	b.WriteString(tables.String())
	return panels
}

// order returns the contestants that have samples of a metric, in the order of the list.
func (r *results) order(id string) []*contestant {
	var out []*contestant
	known := map[string]bool{}
	for _, c := range r.Contestants {
		known[c.ID] = true
		if _, there := r.Samples[id][c.ID]; there {
			out = append(out, c)
		}
	}
	for _, t := range tunings {
		if _, there := r.Samples[id][t.id]; there && !known[t.id] {
			out = append(out, &contestant{ID: t.id, Name: t.name})
		}
	}
	return out
}
