package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReliabilityPage checks that the pages about faults and security name tests that exist, that each
// fault test is named, and each attack on the page about security; and that each claim there names a test.
func TestReliabilityPage(t *testing.T) {
	exist := map[string]bool{}
	var files []string
	for _, dir := range []string{"cmd/*", "internal/*", "internal/*/*"} {
		found, err := filepath.Glob(filepath.Join(repoRoot(t), dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	faults, attacks := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			exist[m[1]] = true
			if strings.Contains(file, "/cmd/slirpctl/fault_") {
				faults[m[1]] = true
			}
			if strings.HasPrefix(m[1], "TestAttack") {
				attacks[m[1]] = true
			}
		}
	}
	for _, page := range []string{"reliability.md", "security.md"} {
		text, err := os.ReadFile(filepath.Join(repoRoot(t), "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(text), -1)
		if len(named) < 5 {
			t.Errorf("%s names only %d tests", page, len(named))
		}
		for _, m := range named {
			if !exist[m[1]] {
				t.Errorf("%s names %s, which does not exist", page, m[1])
			}
			delete(faults, m[1])
			if page == "security.md" {
				delete(attacks, m[1])
			}
		}
	}
	for name := range faults {
		t.Errorf("%s is not named in docs/reliability.md or docs/security.md", name)
	}
	for name := range attacks {
		t.Errorf("%s is not named in docs/security.md", name)
	}
	text, err := os.ReadFile(filepath.Join(repoRoot(t), "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	claims, _, found := strings.Cut(string(text), "\n## Reachable by design\n")
	if !found {
		t.Error("docs/security.md does not say what is reachable by design")
	}
	for _, claim := range strings.Split(claims, "\n* ")[1:] {
		claim, _, _ = strings.Cut(claim, "\n\n")
		if !strings.Contains(claim, "`Test") {
			t.Errorf("docs/security.md names no test for: %s", claim)
		}
	}
}

// TestClockOnlyShown checks that a jump of the clock changes nothing: Go's time.Since and timers
// use the monotonic clock unless it is stripped from a time or times read from elsewhere are
// compared. The exceptions are for display or for identity.
func TestClockOnlyShown(t *testing.T) {
	stripped := regexp.MustCompile(`\.(Unix|UnixNano|UnixMilli|UnixMicro)\(\)|\.Round\(0\)|\.ModTime\(\)|time\.Unix\(|time\.Parse\(|CLOCK_REALTIME`)
	allowed := map[string]bool{
		"internal/launcher/cache.go": true, // when a file was changed
		// A request's deadline, between two processes that may be in different time namespaces.
		"internal/control/client.go": true, "internal/control/guard.go": true,
		"internal/instance/logread.go": true, // when a line was written
	}
	root := repoRoot(t)
	for _, f := range goFiles(t, root) {
		file := f.dir + "/" + f.name
		if within(f.dir, "internal/bench") || within(f.dir, "internal/demo") || within(f.dir, "internal/packages") || allowed[file] {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			line = strings.ReplaceAll(line, "time.Unix(1, 0)", "") // in the past for any clock
			if stripped.MatchString(line) {
				t.Errorf("%s:%d uses the wall clock: %s", file, i+1, strings.TrimSpace(line))
			}
		}
	}
	if got := age(time.Now().Add(time.Hour)); got != "0s" {
		t.Errorf("started in the future: up for %s, want 0s", got)
	}
}
