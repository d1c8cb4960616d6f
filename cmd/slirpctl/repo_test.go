package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// topLevel is everything that may lie in the top directory, besides dot files and what is
// built there.
var topLevel = []string{
	"CHANGELOG.md", "LICENSE", "Makefile", "README.md",
	"cmd", "completions", "docs", "go.mod", "go.sum", "internal",
}

// built is what make leaves; .gitignore names the same.
var built = []string{"bin", "dist", "slirpctl"}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(repoRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n := e.Name(); !strings.HasPrefix(n, ".") && !slices.Contains(topLevel, n) && !slices.Contains(built, n) {
			t.Errorf("%s does not belong into the top directory", n)
		}
	}
}

// sources calls f with every file of the repository that somebody wrote.
func sources(t *testing.T, f func(name string, text []byte)) {
	t.Helper()
	root := repoRoot(t)
	n := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if rel == ".git" || slices.Contains(built, rel) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		n++
		f(filepath.ToSlash(rel), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 10 {
		t.Fatalf("only %d files below %s: this test looks in the wrong place", n, root)
	}
}

// private finds what means something only on the machine it was written on, and hosts that a
// machine's own package manager is set up for already. In pieces, so as not to find itself.
var private = regexp.MustCompile(strings.Join([]string{
	`(^|[^\w.~-])/` + `work/`,
	`\.\./` + `shared\b`,
	`/root/` + `(go|\.cache)\b`,
	`\bfarm` + `-[a-z]`,
	`\bissues ` + `show \d`,
	`\bdeb\.` + `debian\.org\b`,
	`\bproxy\.` + `golang\.org\b`,
	`\bregistry\.` + `npmjs\.org\b`,
	`\bdl-cdn\.` + `alpinelinux\.org\b`,
}, "|"))

func TestNoMachinePaths(t *testing.T) {
	sources(t, func(name string, text []byte) {
		for i, line := range bytes.Split(text, []byte("\n")) {
			if found := private.Find(line); found != nil {
				t.Errorf("%s:%d: %q means nothing on another machine", name, i+1, found)
			}
		}
	})
}

func TestPrivate(t *testing.T) {
	for text, want := range map[string]bool{
		"see /" + "work/x.md":         true,
		"see ../" + "shared/facts.md": true,
		"net/wo" + "rk/x":             false,
		"/home/wo" + "rk/x":           false,
		"https://github.com/x/issues": false,
		"deb." + "debian.org/debian":  true,
		"the issues show that":        false,
	} {
		if got := private.MatchString(text); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

// maxLines keeps files about one thing each.
const maxLines = 500

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFileLength(t *testing.T) {
	sources(t, func(name string, text []byte) {
		if !strings.HasSuffix(name, ".go") || generated.Match(text) {
			return
		}
		if n := bytes.Count(text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: it holds more than one thing", name, n, maxLines)
		}
	})
}
