package main

import (
	"fmt"
	"strings"

	"github.com/slirpctl/slirpctl/internal/probe"
)

// binaryRows are the lines about slirp4netns itself.
func binaryRows(b probe.Binary) [][2]string {
	var rows [][2]string
	for _, r := range [][2]string{
		{"path", b.Path},
		{"version", b.Version},
		{"commit", b.Commit},
		{"libslirp", b.Libslirp},
		{"SLIRP_CONFIG_VERSION_MAX", b.ConfigVersionMax},
		{"libseccomp", b.Libseccomp},
		{"error", b.Error},
	} {
		if r[1] != "" {
			rows = append(rows, r)
		}
	}
	return rows
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

// plainReport is for pipes: one line for each thing, fields separated by a tab.
func plainReport(r probe.Report) string {
	var b strings.Builder
	for _, row := range binaryRows(r.Slirp4netns) {
		fmt.Fprintf(&b, "%s\t%s\n", row[0], row[1])
	}
	if r.Slirp4netns.Error == "" {
		for _, f := range r.Slirp4netns.Features {
			fmt.Fprintf(&b, "%s\t%s\tsince %s\n", f.Name, yesNo(f.Have), f.Since)
		}
	}
	for _, c := range r.Host {
		b.WriteString(strings.TrimSuffix(fmt.Sprintf("%s\t%s\t%s\t%s", c.Name, c.Status, c.Reason, c.Remedy), "\t"))
		b.WriteByte('\n')
	}
	for _, s := range r.SelfTest {
		b.WriteString(strings.TrimSuffix(fmt.Sprintf("%s\t%s\t%s\t%s\t%s", s.Name, s.Status, milliseconds(s), s.Reason, s.Remedy), "\t"))
		b.WriteByte('\n')
	}
	return b.String()
}

func milliseconds(s probe.Step) string {
	if s.Milliseconds == 0 {
		return "-" // not tried
	}
	return fmt.Sprintf("%.1f ms", s.Milliseconds)
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

// terminalReport is for people: aligned, in sections, with a summary.
func terminalReport(r probe.Report, colour bool) string {
	paint := func(code, text string) string {
		if !colour || code == "" {
			return text
		}
		return code + text + reset
	}
	width := 0
	for _, c := range r.Host {
		width = max(width, len(c.Name))
	}
	for _, s := range r.SelfTest {
		width = max(width, len(s.Name))
	}
	for _, row := range binaryRows(r.Slirp4netns) {
		width = max(width, len(row[0]))
	}
	if r.Slirp4netns.Error == "" {
		for _, f := range r.Slirp4netns.Features {
			width = max(width, len(f.Name))
		}
	}
	var b strings.Builder
	fmt.Fprintln(&b, paint(bold, "slirp4netns"))
	for _, row := range binaryRows(r.Slirp4netns) {
		code := ""
		if row[0] == "error" {
			code = red
		}
		fmt.Fprintf(&b, "  %-*s  %s\n", width, row[0], paint(code, row[1]))
	}
	if r.Slirp4netns.Error == "" {
		fmt.Fprintln(&b, paint(bold, "features"))
		for _, f := range r.Slirp4netns.Features {
			code := green
			if !f.Have {
				code = yellow
			}
			fmt.Fprintf(&b, "  %-*s  %s  since %s\n", width, f.Name, paint(code, fmt.Sprintf("%-3s", yesNo(f.Have))), f.Since)
		}
	}
	fmt.Fprintln(&b, paint(bold, "host"))
	line := func(name string, status probe.Status, reason, remedy string) {
		code := map[probe.Status]string{probe.OK: green, probe.Warning: yellow, probe.Failed: red, probe.Unknown: yellow}[status]
		fmt.Fprintf(&b, "  %-*s  %s  %s\n", width, name, paint(code, fmt.Sprintf("%-7s", status)), reason)
		if remedy != "" {
			fmt.Fprintf(&b, "  %-*s  %-7s  try: %s\n", width, "", "", remedy)
		}
	}
	for _, c := range r.Host {
		line(c.Name, c.Status, c.Reason, c.Remedy)
	}
	if len(r.SelfTest) > 0 {
		fmt.Fprintln(&b, paint(bold, "self-test"))
	}
	for _, s := range r.SelfTest {
		line(s.Name, s.Status, fmt.Sprintf("%9s  %s", milliseconds(s), s.Reason), s.Remedy)
	}
	code := green
	if !r.Ready {
		code = red
	}
	fmt.Fprintln(&b, paint(code, r.Summary))
	return b.String()
}
