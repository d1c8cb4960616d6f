package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"testing"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/selftest"
)

// The exit status of a program that slirpctl runs never becomes slirpctl's own.
func TestExitCodes(t *testing.T) {
	exit5 := exec.Command("sh", "-c", "exit 5").Run()
	if _, ok := errors.AsType[*exec.ExitError](exit5); !ok {
		t.Fatal(exit5)
	}
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("anything"), exitFailure},
		{exit5, exitFailure},
		{&fault.Error{Kind: fault.Unsupported, Err: exit5}, exitUnsupported},
		{&control.Error{Message: "x", Kind: fault.Conflict}, exitConflict},
		{&control.Error{Message: "x"}, exitFailure},
		{selftest.ErrInterrupted, exitFailure},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%T %v: %d, want %d", tc.err, tc.err, got, tc.want)
		}
		if tc.err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("outer: %w", tc.err)); got != tc.want {
			t.Errorf("wrapped %T %v: %d, want %d", tc.err, tc.err, got, tc.want)
		}
	}
}

// Each failure that the host can cause has a check that is run.
func TestHostChecks(t *testing.T) {
	start := func(p launcher.StartProblem) error {
		return fmt.Errorf("outer: %w", &launcher.StartError{Problem: p})
	}
	for _, tc := range []struct {
		err  error
		want string // the first check; "" for none
	}{
		{start(launcher.TunDenied), "tun-device"},
		{start(launcher.TunMissing), "tun-device"},
		{start(launcher.TunNoDriver), "tun-device"},
		{start(launcher.SandboxFailed), "sandbox"},
		{start(launcher.SeccompFailed), "seccomp"},
		{start(launcher.InterfaceExists), ""},
		{start(launcher.StartTimeout), ""},
		{start(launcher.StartOther), ""},
		{&fault.Error{Checks: []string{"user-namespaces", "subid-ranges", "id-map-tools"}, Err: fs.ErrPermission}, "user-namespaces"},
		{errors.New("anything"), ""},
		{nil, ""},
	} {
		got := fault.Checks(tc.err)
		if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) == 0 || got[0] != tc.want) {
			t.Errorf("%v: %q, want %q", tc.err, got, tc.want)
		}
		for _, name := range got {
			if !slices.Contains(probe.Names(), name) {
				t.Errorf("there is no check %s", name)
			}
		}
	}
}
