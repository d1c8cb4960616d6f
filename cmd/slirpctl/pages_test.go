package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	docLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// anchor returns the anchor that GitHub gives to a heading.
func anchor(heading string) string {
	heading = strings.ToLower(regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(heading, ""))
	return strings.ReplaceAll(heading, " ", "-")
}

// TestPages: each page is in the index, and each link of a page leads to a file and a heading that exist.
func TestPages(t *testing.T) {
	root := repoRoot(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil || len(pages) < 10 {
		t.Fatalf("%q, %v", pages, err)
	}
	index, err := os.ReadFile(filepath.Join(root, "docs/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(string(index), "]("+name+")") {
			t.Errorf("docs/README.md does not have %s", name)
		}
	}
	others, err := filepath.Glob(filepath.Join(root, ".github/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(append(pages, others...), filepath.Join(root, "README.md"), filepath.Join(root, "CHANGELOG.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range docLink.FindAllStringSubmatch(string(text), -1) {
			path, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := page
			if path != "" {
				target = filepath.Join(filepath.Dir(page), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, m[1])
				continue
			}
			if fragment == "" {
				continue
			}
			there, err := os.ReadFile(target)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, h := range heading.FindAllStringSubmatch(string(there), -1) {
				found = found || anchor(h[1]) == fragment
			}
			if !found {
				t.Errorf("%s: there is no heading for %s", page, m[1])
			}
		}
	}
}

// TestPagesAgree: the job on the page is the file that TestExamples runs, and every flag and command that the README, a page,
// an example or the action gives to slirpctl exists. TestGenerated compares manual pages and completions with the program.
func TestPagesAgree(t *testing.T) {
	root := repoRoot(t)
	page, err1 := os.ReadFile(filepath.Join(root, "docs/ci.md"))
	job, err2 := os.ReadFile(filepath.Join(root, "docs/examples/ci/job.sh"))
	if err1 != nil || err2 != nil || !strings.Contains(string(page), "```bash\n"+string(job)+"```\n") {
		t.Errorf("docs/ci.md does not show docs/examples/ci/job.sh: %v, %v", err1, err2)
	}
	files := []string{filepath.Join(root, "README.md"), filepath.Join(root, ".github/actions/setup-slirpctl/action.yml")}
	for _, pattern := range []string{"docs/*.md", "docs/examples/*", "docs/examples/*/*", ".github/*.md", ".github/*/*.yml"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %q, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	tree, checked := newRootCmd(buildTree(t)), 0
	call := regexp.MustCompile(`(?m)(?:^|[^\w/.-])slirpctl ([a-z][^` + "`" + `\n|;&()<>]*)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a directory
		}
		joined := strings.ReplaceAll(string(text), "\\\n", " ")
		for _, m := range call.FindAllStringSubmatch(joined, -1) {
			words := strings.Fields(strings.Split(m[1]+" ", " -- ")[0])
			cmd, _, err := tree.Find(words[:1])
			if err != nil || cmd == tree {
				continue // prose: slirpctl is …
			}
			if cmd, _, err = tree.Find(words); err != nil {
				t.Errorf("%s: slirpctl %s: %v", file, m[1], err)
				continue
			}
			for _, word := range words {
				name, isFlag := strings.CutPrefix(strings.Trim(word, "[],.:…'\""), "--")
				if name, _, _ = strings.Cut(name, "="); !isFlag || name == "" || name == "help" {
					continue
				}
				checked++
				if cmd.Flag(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
					t.Errorf("%s: slirpctl %s has no --%s", file, cmd.CommandPath(), name)
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d flags: this test looks at the wrong thing", checked)
	}
}
