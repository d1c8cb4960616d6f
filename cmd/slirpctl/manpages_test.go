package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/slirpctl/slirpctl/internal/options"
)

// The manual pages are generated from the command tree by cobra's own generator, the options' table, and
// sections written by hand (testdata/man).

// manDate is the date of the last revision of the hand-written text.
var manDate = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)

// flagUsage matches a flag and the tab before its description, which mandoc warns about.
var flagUsage = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*)\n\t`)

// manSection returns the hand-written part of a page in Markdown, or "".
func manSection(page string) string {
	data, _ := os.ReadFile("testdata/man/" + page + ".md")
	return string(data)
}

// roff converts sections in Markdown to the manual page format, without a page header.
func roff(markdown string) string {
	_, sections, _ := strings.Cut(string(md2man.Render([]byte("% PAGE\n"+markdown))), ".TH PAGE")
	_, sections, _ = strings.Cut(sections, "\n\n")
	return sections
}

// markdownText escapes text for Markdown.
func markdownText(text string) string {
	return strings.NewReplacer("_", `\_`, "*", `\*`, "<", `\<`, "[", `\[`).Replace(text)
}

// manPages returns every page by file name: one for the command itself, one for each subcommand,
// and slirpctl.conf.5. It fails if the generator does.
func manPages(root *cobra.Command) (map[string]string, error) {
	pages := map[string]string{"slirpctl.conf.5": manConf()}
	var walk func(cmd *cobra.Command) error
	walk = func(cmd *cobra.Command) error {
		if cmd.Hidden || cmd.Name() == "help" {
			return nil
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		cmd.DisableAutoGenTag = true
		var out bytes.Buffer
		header := &doc.GenManHeader{Section: "1", Date: &manDate, Source: "slirpctl", Manual: "User Commands"}
		if err := doc.GenMan(cmd, header, &out); err != nil {
			return err
		}
		page, seeAlso, _ := strings.Cut(flagUsage.ReplaceAllString(out.String(), ".TP\n$1\n"), ".SH SEE ALSO\n")
		page = strings.Replace(page, manDate.Format("Jan 2006"), manDate.Format(time.DateOnly), 1)
		pages[name+".1"] = page + roff(manSection(name+".1")) + ".SH SEE ALSO\n" + seeAlso
		for _, sub := range cmd.Commands() {
			if err := walk(sub); err != nil {
				return err
			}
		}
		return nil
	}
	return pages, walk(root)
}

// fileKeys returns the keys that a configuration file accepts.
func fileKeys() []options.Key {
	var keys []options.Key
	for _, k := range options.Keys() {
		if k.Scope != options.ScopeFlagOnly {
			keys = append(keys, k)
		}
	}
	return keys
}

func keyUsage(k options.Key) string {
	text := strings.ReplaceAll(k.Usage, "`", "")
	if first, _, _ := strings.Cut(text, " "); strings.ContainsAny(first, "_=") || first == "slirpctl" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// manConf returns slirpctl.conf.5.
func manConf() string {
	var keys strings.Builder
	for _, k := range fileKeys() {
		value := string(k.Kind)
		if len(k.Values) > 0 {
			value = "one of " + strings.Join(k.Values, ", ")
		}
		if k.Default != "" {
			value += "; default " + k.Default
		}
		fmt.Fprintf(&keys, "**%s**\n: %s. %s. Environment: %s.\n\n", k.Name, markdownText(keyUsage(k)), markdownText(strings.ToUpper(value[:1])+value[1:]), markdownText(k.Env()))
	}
	text := strings.Replace(manSection("slirpctl.conf.5"), "\nKEYS\n", "\n"+keys.String(), 1)
	return fmt.Sprintf(".TH SLIRPCTL.CONF 5 %q slirpctl \"File Formats\"\n", manDate.Format(time.DateOnly)) + roff(text)
}

// Markers around the output of [keysTable] in docs/config.md.
const (
	keysBegin = "<!-- keys: generated -->\n"
	keysEnd   = "<!-- keys: end -->\n"
)

// keysTable returns the keys as a Markdown table.
func keysTable() string {
	var b strings.Builder
	b.WriteString("| key | environment | Podman's name | default | meaning |\n|---|---|---|---|---|\n")
	for _, k := range fileKeys() {
		word := func(s string) string {
			if s == "" {
				return ""
			}
			return "`" + strings.ReplaceAll(s, "|", "\\|") + "`"
		}
		meaning := strings.ReplaceAll(keyUsage(k), "|", "\\|")
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", k.Name, k.Env(), word(k.Podman), word(k.Default), meaning)
	}
	return b.String()
}
