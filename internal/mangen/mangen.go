// Package mangen writes the manual pages and the table of configuration keys: from the command
// tree, the options' own table, and sections written by hand. Only a test imports it, which
// writes the files with -update and compares them without: so the pages can't lie, and the
// program doesn't carry them.
package mangen

import (
	"embed"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// date is when the pages' hand-written text was last revised.
const date = "2026-11-24"

//go:embed sections
var sections embed.FS

// section returns the hand-written part of a page, or "".
func section(page string) string {
	data, err := sections.ReadFile("sections/" + page + ".roff")
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(data), "\n") + "\n"
}

// Pages returns every page by file name: one for the command itself, one for each command below
// it, and slirpctl.conf.5.
func Pages(root *cobra.Command) map[string]string {
	root.InitDefaultHelpFlag()
	pages := map[string]string{"slirpctl.conf.5": confPage()}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" {
			return
		}
		name := pageName(cmd)
		pages[name+".1"] = page(cmd, name)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return pages
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func page(cmd *cobra.Command, name string) string {
	var b strings.Builder
	header(&b, name, 1, "User Commands")
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", esc(name), esc(lowerFirst(cmd.Short)))
	b.WriteString(".SH SYNOPSIS\n")
	synopsis(&b, cmd)
	b.WriteString(".SH DESCRIPTION\n")
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	paragraphs(&b, text)
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, ".PP\nAlias: %s.\n", esc(strings.Join(cmd.Aliases, ", ")))
	}
	commands(&b, cmd)
	flags(&b, "OPTIONS", cmd.NonInheritedFlags())
	if !cmd.HasParent() {
		flags(&b, "GLOBAL OPTIONS", cmd.PersistentFlags())
	}
	b.WriteString(section(name + ".1"))
	if cmd.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.EX\n%s\n.EE\n", esc(outdent(cmd.Example)))
	}
	seeAlso(&b, cmd)
	return b.String()
}

func header(b *strings.Builder, name string, n int, title string) {
	fmt.Fprintf(b, ".\\\" Code generated from the command tree and internal/mangen/sections. DO NOT EDIT.\n")
	fmt.Fprintf(b, ".TH %s %d %s slirpctl \"%s\"\n", strings.ToUpper(name), n, date, title)
}

func synopsis(b *strings.Builder, cmd *cobra.Command) {
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(b, ".B %s\n.I COMMAND\n.RI [ FLAGS ]\n", esc(cmd.CommandPath()))
		return
	}
	path, rest := cmd.CommandPath(), strings.TrimPrefix(cmd.Use, cmd.Name())
	rest = strings.TrimSpace(strings.ReplaceAll(rest, "[flags]", ""))
	fmt.Fprintf(b, ".B %s\n.RI [ FLAGS ]\n", esc(path))
	if rest != "" {
		fmt.Fprintf(b, "%s\n", esc(rest))
	}
}

func commands(b *strings.Builder, cmd *cobra.Command) {
	if !cmd.HasAvailableSubCommands() {
		return
	}
	b.WriteString(".SH COMMANDS\n")
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			fmt.Fprintf(b, ".TP\n.BR %s (1)\n%s.\n", esc(pageName(sub)), esc(sub.Short))
		}
	}
}

func flags(b *strings.Builder, title string, fs *pflag.FlagSet) {
	any := false
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || title == "OPTIONS" && f.Name == "config" {
			return
		}
		if !any {
			fmt.Fprintf(b, ".SH %s\n", title)
			any = true
		}
		arg, usage := pflag.UnquoteUsage(f)
		b.WriteString(".TP\n.B ")
		if f.Shorthand != "" {
			fmt.Fprintf(b, "%s, ", esc("-"+f.Shorthand))
		}
		b.WriteString(esc("--" + f.Name))
		if arg != "" {
			fmt.Fprintf(b, " \\fI%s\\fR", esc(arg))
		}
		fmt.Fprintf(b, "\n%s", esc(upperFirst(usage)))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
			fmt.Fprintf(b, " [%s]", esc(f.DefValue))
		}
		b.WriteString(".\n")
	})
}

func seeAlso(b *strings.Builder, cmd *cobra.Command) {
	var pages []string
	if p := cmd.Parent(); p != nil {
		pages = append(pages, ".BR "+esc(pageName(p))+" (1)")
		for _, sub := range p.Commands() {
			if sub != cmd && p.HasParent() && sub.IsAvailableCommand() {
				pages = append(pages, ".BR "+esc(pageName(sub))+" (1)")
			}
		}
	}
	for _, other := range []string{"slirpctl.conf (5)", "slirp4netns (1)", "network_namespaces (7)"} {
		pages = append(pages, ".BR "+esc(other))
	}
	fmt.Fprintf(b, ".SH SEE ALSO\n%s\n", strings.Join(pages, " ,\n"))
}

// paragraphs writes running text. A line that begins with a space stays a line.
func paragraphs(b *strings.Builder, text string) {
	for i, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		for line := range strings.Lines(p + "\n") {
			line = strings.TrimSuffix(line, "\n")
			if trimmed := strings.TrimLeft(line, " "); trimmed != line {
				fmt.Fprintf(b, ".br\n%s\n.br\n", esc(trimmed))
				continue
			}
			fmt.Fprintf(b, "%s\n", esc(line))
		}
	}
}

// esc makes text safe for roff: what stands in the source is what a reader may copy.
func esc(text string) string {
	text = strings.NewReplacer(
		`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`,
		"…", `\(u2026`, "→", `\(->`,
	).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func outdent(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func upperFirst(s string) string {
	if s == "" || s[0] == '`' {
		return s
	}
	first, _, _ := strings.Cut(s, " ")
	if strings.ContainsAny(first, "_=") || first == "slirpctl" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
