// Command testsummary runs `go test` with the arguments it is given and says at the end which
// tests were left out and why. It exists because `go test` is silent about skipped tests, and
// a test that silently does not run is worth nothing: with CI set in the environment a
// skipped test makes the run fail.
//
// It prints what `go test` would: a line for each package, and the output of what failed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv("CI") != ""))
}

// run returns the exit status: go test's own, or 1 where tests were skipped and strict is set.
func run(args []string, strict bool) int {
	// Ctrl-C reaches go test as well, from the terminal; this process outlives it to sum up.
	signal.Ignore(syscall.SIGQUIT)
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, syscall.SIGINT)
	defer signal.Stop(interrupts)

	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsummary: error:", err)
		return 1
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary: error:", err)
		return 1
	}
	s := newSummary(os.Stdout)
	readErr := s.read(events)
	waitErr := cmd.Wait()
	s.close()

	var exit *exec.ExitError
	switch {
	case readErr != nil:
		fmt.Fprintln(os.Stderr, "testsummary: error: reading go test's events:", readErr)
		return 1
	case errors.As(waitErr, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	case waitErr != nil:
		fmt.Fprintln(os.Stderr, "testsummary: error: go test:", waitErr)
		return 1
	case s.failed > 0:
		return 1
	case strict && len(s.skipped) > 0:
		fmt.Println("FAIL: CI is set, and with it no test may be left out")
		return 1
	}
	return 0
}
