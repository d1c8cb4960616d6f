package probe

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/launcher"
)

// Report is the output of `slirpctl probe`.
type Report struct {
	Slirp4netns Binary   `json:"slirp4netns"`
	Host        []Result `json:"host"`
	SelfTest    []Step   `json:"selfTest"` // empty unless asked for
	Ready       bool     `json:"ready"`    // `up` should work
	Summary     string   `json:"summary"`  // one line
}

// Step is one step of the self-test.
type Step struct {
	Name         string  `json:"name"`         // kebab-case
	Status       Status  `json:"status"`       // ok, failed, or unknown if it could not be tried
	Milliseconds float64 `json:"milliseconds"` // how long it took
	Reason       string  `json:"reason"`       // one line, no full stop
	Remedy       string  `json:"remedy"`       // what to do about it; ""
}

// Binary is the installed slirp4netns. Fields that it does not report are empty.
type Binary struct {
	Path             string         `json:"path"`
	Version          string         `json:"version"`
	Commit           string         `json:"commit"`
	Libslirp         string         `json:"libslirp"`
	ConfigVersionMax string         `json:"configVersionMax"` // SLIRP_CONFIG_VERSION_MAX
	Libseccomp       string         `json:"libseccomp"`
	Features         []FeatureState `json:"features"`
	Error            string         `json:"error"` // why none is usable
}

// FeatureState says whether slirp4netns has a feature, and which upstream version introduced it.
type FeatureState struct {
	Name  launcher.Feature `json:"name"`
	Have  bool             `json:"have"`
	Since string           `json:"since"`
}

// NewBinary converts the result of [launcher.Detect].
func NewBinary(b launcher.Binary, err error) Binary {
	v := b.Version
	out := Binary{
		Path: b.Path, Version: v.Version, Commit: v.Commit, Libslirp: v.Libslirp,
		ConfigVersionMax: v.ConfigVersionMax, Libseccomp: v.Libseccomp,
	}
	if err != nil {
		out.Error = err.Error()
	}
	for _, f := range launcher.AllFeatures() {
		out.Features = append(out.Features, FeatureState{f, err == nil && b.Features.Has(f), f.Since()})
	}
	return out
}

// NewReport detects slirp4netns (path as for [launcher.Find]) and then runs every host check.
// The error is that of the detection; the report is complete even then.
func NewReport(ctx context.Context, env *Env, path string) (Report, error) {
	binary, err := launcher.Detect(ctx, path)
	if err == nil {
		env.Slirp4netns = &binary
	}
	report := Report{Slirp4netns: NewBinary(binary, err), Host: host(ctx, env), SelfTest: []Step{}}
	report.Ready, report.Summary = summarize(report, env.UID)
	return report, err
}

// AddSelfTest adds the steps of the self-test to the report. A failed step is the first thing to fix,
// unless a check has failed.
func (r *Report) AddSelfTest(steps []Step) {
	r.SelfTest = append(r.SelfTest, steps...)
	for _, s := range steps {
		if s.Status == Failed && r.Ready {
			r.Ready, r.Summary = false, fmt.Sprintf("not ready: self-test: %s: %s", s.Name, s.Reason)
		}
	}
}

// summarize names the first thing to fix.
func summarize(r Report, uid int) (ready bool, line string) {
	if r.Slirp4netns.Error != "" {
		return false, "not ready: " + r.Slirp4netns.Error
	}
	warnings := 0
	for _, c := range r.Host {
		switch c.Status {
		case Failed:
			return false, fmt.Sprintf("not ready: %s: %s", c.Name, c.Reason)
		case Warning:
			warnings++
		}
	}
	line = "ready for rootless use"
	if uid == 0 {
		line = "ready for use by root"
	}
	if warnings > 0 {
		line += fmt.Sprintf(", warnings: %d", warnings)
	}
	return true, line
}

// Requirable returns all names that [Report.Require] takes: features, then host checks.
func Requirable() []string {
	var names []string
	for _, f := range launcher.AllFeatures() {
		names = append(names, string(f))
	}
	return append(names, Names()...)
}

// Require checks that every name, one of [Requirable], is a feature that slirp4netns has, or a host check that is not
// failed or unknown. The error is of the kind [fault.Unsupported].
func (r Report) Require(names []string) error {
	var missing []string
	hint := ""
	for _, f := range r.Slirp4netns.Features {
		if !slices.Contains(names, string(f.Name)) || f.Have {
			continue
		}
		if have := r.Slirp4netns.Version; have != "" {
			missing = append(missing, fmt.Sprintf("%s (upstream has it since %s, installed is %s)", f.Name, f.Since, have))
			hint = cmp.Or(hint, "install a newer slirp4netns, or one that was built with "+string(f.Name))
		} else { // none is usable
			missing = append(missing, fmt.Sprintf("%s (upstream has it since %s)", f.Name, f.Since))
			hint = cmp.Or(hint, "install slirp4netns, or name it with --slirp4netns-path")
		}
	}
	for _, c := range r.Host {
		if slices.Contains(names, c.Name) && c.Status != OK && c.Status != Warning {
			missing = append(missing, fmt.Sprintf("%s: %s", c.Name, c.Reason))
			hint = cmp.Or(hint, c.Remedy)
		}
	}
	if len(missing) > 0 {
		return fault.New(fault.Unsupported, "missing: "+strings.Join(missing, "; "), hint)
	}
	return nil
}
