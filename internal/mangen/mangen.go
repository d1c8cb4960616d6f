// Package mangen writes the manual pages and the table of configuration keys: from the command
// tree, by cobra's own generator, the options' own table, and sections written by hand. Only a
// test imports it, which writes the files with -update and compares them without: so the pages
// are always what the program is, and the program doesn't carry the generator.
package mangen

import (
	"bytes"
	"embed"
	"regexp"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// date is when the pages' hand-written text was last revised.
var date = time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)

// flagUsage matches a flag and the tab before its description, which mandoc faults.
var flagUsage = regexp.MustCompile(`(?m)^(?:\.PP\n)?(\\fB-.*)\n\t`)

//go:embed sections
var sections embed.FS

// section returns the hand-written part of a page in Markdown, or "".
func section(page string) string {
	data, _ := sections.ReadFile("sections/" + page + ".md")
	return string(data)
}

// roff turns sections in Markdown into the language of manual pages, without a page's header.
func roff(markdown string) string {
	_, sections, _ := strings.Cut(string(md2man.Render([]byte("% PAGE\n"+markdown))), ".TH PAGE")
	_, sections, _ = strings.Cut(sections, "\n\n")
	return sections
}

// markdownText makes Markdown that shows text as it is.
func markdownText(text string) string {
	return strings.NewReplacer("_", `\_`, "*", `\*`, "<", `\<`, "[", `\[`).Replace(text)
}

// Pages returns every page by file name: one for the command itself, one for each command below
// it, and slirpctl.conf.5. It fails if the generator does.
func Pages(root *cobra.Command) (map[string]string, error) {
	pages := map[string]string{"slirpctl.conf.5": confPage()}
	var walk func(cmd *cobra.Command) error
	walk = func(cmd *cobra.Command) error {
		if cmd.Hidden || cmd.Name() == "help" {
			return nil
		}
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		cmd.DisableAutoGenTag = true
		var out bytes.Buffer
		header := &doc.GenManHeader{Section: "1", Date: &date, Source: "slirpctl", Manual: "User Commands"}
		if err := doc.GenMan(cmd, header, &out); err != nil {
			return err
		}
		page, seeAlso, _ := strings.Cut(flagUsage.ReplaceAllString(out.String(), ".TP\n$1\n"), ".SH SEE ALSO\n")
		page = strings.Replace(page, date.Format("Jan 2006"), date.Format(time.DateOnly), 1)
		pages[name+".1"] = page + roff(section(name+".1")) + ".SH SEE ALSO\n" + seeAlso
		for _, sub := range cmd.Commands() {
			if err := walk(sub); err != nil {
				return err
			}
		}
		return nil
	}
	return pages, walk(root)
}
