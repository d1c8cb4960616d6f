package selftest

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/launcher"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
)

// Options of a single instance are ignored; all others are used.
func TestOptions(t *testing.T) {
	mine := options.Options{
		Name: "mine", Detach: true, PIDFile: "/pid", ReadyFD: 5, ExitFD: 6, MapUsers: true, PublishAuto: options.AutoPublish{HostIP: netip.IPv4Unspecified()}, IPv6: true,
		MTU: 1500, TapName: "eth7", Sandbox: options.Off, Slirp4netnsPath: "/x", DisableDNS: true, Timeout: time.Hour,
	}
	o := (&test{cfg: Config{Options: mine}}).options("self")
	if o.Name != "self" || o.Detach || o.PIDFile != "" || o.ReadyFD != -1 || o.ExitFD != -1 || o.MapUsers || o.PublishAuto.On() || o.IPv6 || o.DisableDNS || o.Timeout != upTimeout || !o.AllowHostLoopback {
		t.Errorf("got %+v", o)
	}
	if o.MTU != 1500 || o.TapName != "eth7" || o.Sandbox != options.Off || o.Slirp4netnsPath != "/x" {
		t.Errorf("not taken over: %+v", o)
	}
}

func TestSteps(t *testing.T) {
	tt := &test{cfg: Config{Diagnose: func(err error) error { return fault.Errorf(0, "do it", "%w", err) }}}
	ctx, cancel := context.WithCancel(t.Context())
	step := func(name string, err error) {
		_ = tt.step(ctx, name, func(context.Context) (string, error) { return "because", err })
	}
	step("fine", nil)
	step("bad", errors.New("two\nlines"))
	step("worse", errors.New("more"))
	step("tried", &untested{"nobody there", true})
	step("untried", &untested{reason: "no file"})
	tt.skip("no namespace", "skipped")
	cancel()
	step("late", nil)
	want := []probe.Step{
		{Name: "fine", Status: probe.OK, Reason: "because"},
		{Name: "bad", Status: probe.Failed, Reason: "two; lines", Remedy: "do it"},
		{Name: "worse", Status: probe.Failed, Reason: "more", Remedy: "do it"},
		{Name: "tried", Status: probe.Unknown, Reason: "nobody there"},
		{Name: "untried", Status: probe.Unknown, Reason: "not tried: no file"},
		{Name: "skipped", Status: probe.Unknown, Reason: "not tried: no namespace"},
		{Name: "late", Status: probe.Unknown, Reason: "not tried: no time left"},
	}
	if len(tt.steps) != len(want) {
		t.Fatalf("got %+v", tt.steps)
	}
	for i, s := range tt.steps {
		s.Milliseconds = 0
		if s != want[i] {
			t.Errorf("got %+v, want %+v", s, want[i])
		}
	}
	if f := tt.failure; f == nil || fault.Hint(f) != "do it" || !strings.HasPrefix(f.Error(), "self-test: bad: two") {
		t.Errorf("the failure is %+v", f)
	}
}

// A failed step is a plain failure, or this host can't do it.
func TestStepError(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want fault.Kind
	}{
		{errors.New("no answer in time"), 0},
		{&control.Error{Kind: fault.Unsupported}, fault.Unsupported},
		{&control.Error{Kind: fault.Conflict}, 0},
		{context.DeadlineExceeded, 0},
	} {
		if got := fault.Of(stepError("step", tc.err, "")); got != tc.want {
			t.Errorf("%v: kind %d, want %d", tc.err, got, tc.want)
		}
	}
}

// Forwards are not expected of an old slirp4netns.
func TestWithoutAPISocket(t *testing.T) {
	tt := &test{cfg: Config{Binary: launcher.Binary{Features: launcher.ParseFeatures("-c, --configure\n")}}}
	tt.slirp4netns(t.Context())
	if len(tt.steps) != 4 || tt.failure != nil {
		t.Fatalf("got %+v", tt.steps)
	}
	for _, s := range tt.steps {
		if s.Status != probe.Unknown || !strings.Contains(s.Reason, "no --api-socket (upstream since 0.3.0)") {
			t.Errorf("got %+v", s)
		}
	}
}

func TestInterruptedBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if steps, err := Run(ctx, Config{}); len(steps) != 0 || !errors.Is(err, ErrInterrupted) {
		t.Errorf("got %+v, %v", steps, err)
	}
}
