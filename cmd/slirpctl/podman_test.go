package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
)

// TestPodmanStrings compares slirpctl's handling of --network slirp4netns:STRING with Podman's:
// testdata/podman.tsv has a line for each string, with Podman's recorded answer, the one expected of
// slirpctl, and the reason if they differ. Columns, separated by tabs:
//
//	STRING
//	Podman 4.3.1: "yes", "no" (refused by its parser), "fails" (slirp4netns 1.2.0 doesn't start)
//	slirpctl: what the string sets, or "no: " and the error
//	why the answers differ, or "-"
func TestPodmanStrings(t *testing.T) {
	f, err := os.Open("testdata/podman.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for in := bufio.NewScanner(f); in.Scan(); {
		if strings.HasPrefix(in.Text(), "#") {
			continue
		}
		lines++
		c := strings.Split(in.Text(), "\t")
		if len(c) != 4 || c[1] != "yes" && c[1] != "no" && c[1] != "fails" {
			t.Errorf("not four columns with Podman's answer in the second: %q", in.Text())
			continue
		}
		got, err := podmanString(c[0])
		if err != nil {
			got = "no: " + err.Error()
			if exitCode(err) != exitUsage {
				t.Errorf("%q: exit status %d, want %d", c[0], exitCode(err), exitUsage)
			}
		}
		if got != c[2] {
			t.Errorf("%q:\n got %s\nwant %s", c[0], got, c[2])
		}
		if differ := (c[1] == "yes") != (err == nil); differ != (c[3] != "-") {
			t.Errorf("%q: Podman %s, slirpctl %s, and the reason for the difference is %q", c[0], c[1], got, c[3])
		}
	}
	if lines < 109 {
		t.Errorf("only %d strings", lines)
	}
}

// podmanString returns the keys that --network slirp4netns:STRING sets.
func podmanString(s string) (string, error) {
	fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
	options.AddFlags(fs)
	network := "slirp4netns:" + s
	if s == "" {
		network = "slirp4netns"
	}
	if err := fs.Parse([]string{"--network=" + network}); err != nil {
		return "", err
	}
	m, err := options.Load(fs, options.Sources{Root: "/nonexistent"})
	if err != nil {
		return "", err
	}
	var set []string
	for _, v := range m.Values {
		if v.Source != options.SourceDefault {
			set = append(set, fmt.Sprintf("%s=%s", v.Key, v.Value))
		}
	}
	_, err = launcher.NewPlan(&m.Options) // looks up interfaces
	if err != nil && !errors.Is(err, launcher.ErrNoSource) {
		return "", err
	}
	return strings.Join(set, " "), err
}
