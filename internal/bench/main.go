// Command bench is `make bench`: it measures slirpctl and the other installed programs, in one run
// on one machine, and writes docs/benchmarks.md with its plots. It exists so that every claim about
// speed is a ratio that anyone can measure again, and no figure is typed by hand.
//
// Usage: bench [-slirpctl FILE] [-out DIR] [-only GROUP,…] [-render]
//
// BENCH_RUNS is the number of measurements of each contestant [7].
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == guestCommand {
		if err := runGuest(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench: guest:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	slirpctl := flags.String("slirpctl", "bin/slirpctl", "the slirpctl to measure")
	out := flags.String("out", "docs", "where benchmarks.md goes, and its plots below bench/")
	peers := flags.String("peers", "", "a directory with newer peers: bin/rootlesskit, bin/rootlessctl, bin/pasta")
	only := flags.String("only", "", "the groups to measure, with commas: forwards, starts, memory, thousand, scale, slirp, tuning, heal, egress")
	render := flags.Bool("render", false, "write the report again from the results of the last run")
	if err := flags.Parse(args); err != nil {
		return err
	}
	data := filepath.Join(*out, "bench", "results.json")
	if *render {
		res, err := loadResults(data)
		if err != nil {
			return err
		}
		return writeReport(res, *out)
	}
	runs := 7
	if v := os.Getenv("BENCH_RUNS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return fmt.Errorf("BENCH_RUNS %q is not a number of runs", v)
		}
		runs = n
	}
	w, err := newWorld(*slirpctl)
	if err != nil {
		return err
	}
	defer w.close()
	w.runs, w.stream = runs, time.Second
	res := newResults(w)
	b := &bench{ctx, w, res}
	if err := b.findContestants(*peers); err != nil {
		return err
	}
	for _, c := range res.Contestants {
		if c.Missing != "" {
			warn("missing: %s: %s", c.Name, c.Missing)
		}
	}
	start := time.Now()
	wanted := func(group string) bool {
		return ctx.Err() == nil && (*only == "" || slices.Contains(strings.Split(*only, ","), group))
	}
	for _, g := range []struct {
		name string
		f    func()
	}{
		{"starts", func() {
			if err := b.startRows(); err != nil {
				b.failed("starts: %v", err)
			}
		}},
		{"forwards", b.forwardRows},
		{"slirp", b.slirpRows},
		{"tuning", b.tuningRows},
		{"thousand", b.thousandRows},
		{"heal", b.healRow},
		{"memory", b.memoryRows},
		{"scale", b.scaleRows},
		{"egress", b.egressRows},
	} {
		if wanted(g.name) {
			g.f()
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted: no report is written")
	}
	warn("took %s", time.Since(start).Round(time.Second))
	if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil {
		return err
	}
	if err := res.save(data); err != nil {
		return err
	}
	if res, err = loadResults(data); err != nil { // the saved values are rounded
		return err
	}
	return writeReport(res, *out)
}
