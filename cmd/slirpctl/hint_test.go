package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/target"
)

// TestHints: common errors name a command to run next, or an option to give.
func TestHints(t *testing.T) {
	_, missing := launcher.Find("/none/slirp4netns")
	for _, err := range []error{
		target.ErrGone, target.ErrOwnNetns, instance.ErrNotFound, instance.ErrInUse,
		missing, &launcher.MissingFeatureError{}, &launcher.StartError{Problem: launcher.StartOther},
		&launcher.StartError{Problem: launcher.TunDenied}, &launcher.StartError{Problem: launcher.SandboxFailed},
		&hostfwd.SpecError{}, &hostfwd.NotFoundError{ID: 3}, &options.Error{},
		&options.Error{Help: "did you mean --mtu?"},
	} {
		hint := fault.Hint(diagnose(fmt.Errorf("outer: %w", err)))
		if hint == "" || !slices.ContainsFunc([]string{"slirpctl", "--", "sudo ", "8080:80"}, func(w string) bool { return strings.Contains(hint, w) }) {
			t.Errorf("%T %v: hint %q", err, err, hint)
		}
	}
	if got := fault.Hint(diagnose(errors.New("anything"))); got != "" {
		t.Errorf("%q", got)
	}
}
