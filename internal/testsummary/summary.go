package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// event is a line of `go test -json`; `go doc test2json` describes it.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Output      string
	FailedBuild string
}

// test names a test: its package and its name with all parents.
type test struct{ pkg, name string }

// skip is a test that was left out.
type skip struct {
	test
	reason string
}

// summary prints the events of one `go test` as they come and counts the tests.
type summary struct {
	out      io.Writer
	output   map[test][]string // of the tests that still run; name "" is the package's own
	build    map[string][]string
	skipped  []skip
	bad      map[string]bool // packages with a failed test
	packages int
	passed   int
	failed   int // tests, and packages that failed without one of their tests failing
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: map[test][]string{}, build: map[string][]string{}, bad: map[string]bool{}}
}

// read takes in everything up to the end of r.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil {
				s.add(e)
			} else {
				// go test writes a few of its own complaints as plain text.
				fmt.Fprint(s.out, line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		s.build[e.ImportPath] = append(s.build[e.ImportPath], e.Output)
	case "output":
		s.output[t] = append(s.output[t], e.Output)
	case "pass":
		if e.Test == "" {
			s.packages++
			s.endPackage(t, e)
			return
		}
		s.passed++
		delete(s.output, t)
	case "skip":
		if e.Test == "" { // a package without tests
			s.endPackage(t, e)
			return
		}
		s.skipped = append(s.skipped, skip{t, reason(s.output[t])})
		delete(s.output, t)
	case "fail":
		if e.Test == "" {
			s.packages++
			if !s.bad[e.Package] {
				s.failed++
			}
			s.endPackage(t, e)
			return
		}
		s.failed++
		s.bad[e.Package] = true
		s.print(s.output[t])
		delete(s.output, t)
	}
}

// endPackage prints the package's own lines: its result, and in a failed one everything that
// belongs to no finished test, such as the trace of a panic.
func (s *summary) endPackage(p test, e event) {
	if e.Action == "fail" {
		s.print(s.build[e.FailedBuild])
		for t, lines := range s.output {
			if t.pkg == p.pkg && t.name != "" {
				s.print(lines)
			}
		}
		s.print(s.output[p])
	} else {
		for _, line := range s.output[p] {
			if strings.HasPrefix(line, "ok  \t") || strings.HasPrefix(line, "?   \t") || strings.HasPrefix(line, "\t") {
				fmt.Fprint(s.out, line)
			}
		}
	}
	for t := range s.output {
		if t.pkg == p.pkg {
			delete(s.output, t)
		}
	}
}

func (s *summary) print(lines []string) {
	for _, line := range lines {
		fmt.Fprint(s.out, line)
	}
}

// close prints what was left out, the numbers, and go test's own last word on failure.
func (s *summary) close() {
	if len(s.skipped) > 0 {
		fmt.Fprintf(s.out, "\nleft out (%d):\n", len(s.skipped))
		for _, k := range s.skipped {
			fmt.Fprintf(s.out, "  %s %s: %s\n", k.pkg, k.name, k.reason)
		}
	}
	fmt.Fprintf(s.out, "\n%d tests passed, %d failed, %d left out, in %d packages\n",
		s.passed, s.failed, len(s.skipped), s.packages)
	if s.failed > 0 {
		fmt.Fprintln(s.out, "FAIL")
	}
}

// reason takes what a test said when it skipped out of its output, without go test's frame.
func reason(lines []string) string {
	var said []string
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		said = append(said, line)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
