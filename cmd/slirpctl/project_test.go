//go:build !race

// The binary built here does not use the race detector.

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ghStep is a step of a workflow or of a composite action.
type ghStep struct {
	Name, ID, Uses, Run, Shell string
	Env                        map[string]string
	With                       map[string]any
}

// ghFile is a workflow or an action.
type ghFile struct {
	Jobs map[string]struct {
		RunsOn   string `yaml:"runs-on"`
		Strategy struct{ Matrix map[string]any }
		Steps    []ghStep
	}
	Runs struct {
		Using string
		Steps []ghStep
	}
}

func readGH(t *testing.T, path string) ghFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repoRoot(t), ".github", path))
	if err != nil {
		t.Fatal(err)
	}
	var f ghFile
	if err := yaml.Unmarshal(data, &f); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return f
}

// runner is a directory on which steps run, with stubs for what would change the machine or needs GitHub.
type runner struct {
	t     *testing.T
	dir   string
	env   []string
	known map[string]string // expressions and their values
}

func newRunner(t *testing.T, env ...string) *runner {
	t.Helper()
	r := &runner{t: t, dir: t.TempDir(), known: map[string]string{"github.token": "secret"}}
	for _, sub := range []string{"stubs", "temp", "work"} {
		if err := os.Mkdir(filepath.Join(r.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.env = append([]string{"LOG=" + filepath.Join(r.dir, "log"), "RUNNER_TEMP=" + filepath.Join(r.dir, "temp"), "GITHUB_PATH=" + filepath.Join(r.dir, "path")}, env...)
	return r
}

// write adds a file to the work tree.
func (r *runner) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, "work", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := writeProgram(path, []byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

// stub puts a program before the machine's. It logs its name and arguments, and runs the script.
func (r *runner) stub(name, script string) {
	r.t.Helper()
	text := "#!/bin/sh\necho \"" + name + " $*\" >>\"$LOG\"\n" + script + "\n"
	if err := writeProgram(filepath.Join(r.dir, "stubs", name), []byte(text)); err != nil {
		r.t.Fatal(err)
	}
}

var ghExpression = regexp.MustCompile(`\$\{\{ *([a-z_.]+) *\}\}`)

// run runs the steps' commands as GitHub does, and returns their output, what the stubs logged, and the first failure.
func (r *runner) run(steps []ghStep) (output, log string, err error) {
	r.t.Helper()
	ran := 0
	var out bytes.Buffer
	for _, step := range steps {
		if step.Run == "" {
			continue
		}
		ran++
		if strings.Contains(step.Run, "${{") {
			r.t.Errorf("step %q puts an expression into a script: others could add commands", step.Name)
		}
		path := filepath.Join(r.dir, "stubs")
		added, _ := os.ReadFile(filepath.Join(r.dir, "path"))
		for line := range strings.Lines(string(added)) {
			path = strings.TrimSpace(line) + ":" + path
		}
		cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step.Run)
		cmd.Dir = filepath.Join(r.dir, "work")
		cmd.Env = append(append(os.Environ(), r.env...), "PATH="+path+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
		for name, value := range step.Env {
			value = ghExpression.ReplaceAllStringFunc(value, func(e string) string {
				known, ok := r.known[ghExpression.FindStringSubmatch(e)[1]]
				if !ok {
					r.t.Errorf("step %q: what is %s?", step.Name, e)
				}
				return known
			})
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		cmd.Stdout, cmd.Stderr = &out, &out
		if err = cmd.Run(); err != nil {
			err = fmt.Errorf("step %q: %w", step.Name, err)
			break
		}
	}
	if ran == 0 {
		r.t.Error("no step ran")
	}
	logged, _ := os.ReadFile(filepath.Join(r.dir, "log"))
	return out.String(), string(logged), err
}

func wantContains(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s has no %q:\n%s", what, want, text)
		}
	}
}

// TestWorkflowRun runs the steps of the workflow ci with a .ci/run that only says that it ran.
func TestWorkflowRun(t *testing.T) {
	job := readGH(t, "workflows/ci.yml").Jobs["run"]
	wantContains(t, "the matrix", fmt.Sprint(job.Strategy.Matrix), "ubuntu-latest", "ubuntu-24.04-arm", "amd64", "arm64")
	r := newRunner(t)
	r.stub("apt-get", "")
	r.write(".ci/run", "#!/bin/sh\necho run \"$@\" >>\"$LOG\"\n")
	out, log, err := r.run(job.Steps)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantContains(t, "the log", log, "apt-get install -y ", " gcc ", " git ", " make\n", "\nrun\n")
	r.write(".ci/run", "#!/bin/sh\nexit 3\n")
	if _, _, err := r.run(job.Steps); err == nil {
		t.Error("a failed .ci/run is no failure of the job")
	}
}

// TestWorkflowRelease runs the steps of the workflow release. TestPackages runs the make packages that is a stub here.
func TestWorkflowRelease(t *testing.T) {
	job := readGH(t, "workflows/release.yml").Jobs["release"]
	const packages = `[ "$1 $2" = "packages VERSION=$GITHUB_REF_NAME" ] || exit 1
mkdir -p dist && cd dist && touch slirpctl_1_amd64.deb slirpctl_1_amd64.cdx.json other && sha256sum slirpctl_* >SHA256SUMS`
	for _, c := range []struct{ tag, notes, extra string }{
		{"v1.2.0", "the new\n\n### Fixed\n- fixed", ""},
		{"v1.3.0-rc1", "to try", " --prerelease"},
	} {
		r := newRunner(t, "GITHUB_REF_NAME="+c.tag)
		r.write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\nnot yet\n\n## [1.3.0-rc1]\nto try\n## [1.2.0] - 2026-01-31\nthe new\n\n### Fixed\n- fixed\n## [1.1.0] - 2025-01-31\nthe old\n")
		r.stub("make", packages)
		r.stub("cosign", `[ "$1" = sign-blob ] && [ -s "$5" ] && echo signature >"$4"`)
		r.stub("gh", `cat "$8" >>"$LOG"; shift 8; for f; do case $f in -*) ;; *) [ -s "$f" ] || [ -e "$f" ] || exit 1 ;; esac; done; [ "$GH_TOKEN" = secret ]`)
		out, log, err := r.run(job.Steps)
		if err != nil {
			t.Fatalf("%s: %v\n%s%s", c.tag, err, log, out)
		}
		wantContains(t, "the log", log, "\ncosign sign-blob --yes --bundle dist/SHA256SUMS.sigstore.json dist/SHA256SUMS\n",
			"\ngh release create "+c.tag+" --verify-tag --title slirpctl "+c.tag+" --notes-file ",
			" SHA256SUMS SHA256SUMS.sigstore.json slirpctl_1_amd64.cdx.json slirpctl_1_amd64.deb"+c.extra+"\n"+c.notes+"\n")
		if strings.Contains(log, "the old") || strings.Contains(log, "not yet") {
			t.Errorf("notes of other versions:\n%s", log)
		}
	}
	r := newRunner(t, "GITHUB_REF_NAME=v9.0.0")
	r.write("CHANGELOG.md", "## [Unreleased]\nnot yet\n")
	out, log, err := r.run(job.Steps)
	if err == nil || log != "" || !strings.Contains(out, "::error::CHANGELOG.md has no section [9.0.0]") {
		t.Errorf("a release without notes: %v, %s%s", err, log, out)
	}
}

// TestSetupAction runs the steps of the action setup-slirpctl, with a release that has the program of this checkout.
func TestSetupAction(t *testing.T) {
	action := readGH(t, "actions/setup-slirpctl/action.yml")
	for _, version := range []string{"latest", "v1.2.0"} {
		r := newRunner(t, "BIN="+programs.path(t), "SLIRPCTL_STATE_DIR="+filepath.Join(t.TempDir(), "state"))
		r.known["inputs.version"] = version
		r.stub("sudo", "")
		r.stub("gh", `[ "$GH_TOKEN" = secret ] || exit 1
case $2 in
download)
	for dir; do :; done
	mkdir -p "$dir/x/slirpctl_1_amd64/bin" && cp "$BIN/slirpctl" "$dir/x/slirpctl_1_amd64/bin" &&
	tar -czf "$dir/slirpctl_1_amd64.tar.gz" -C "$dir/x" slirpctl_1_amd64 ;;
verify) [ -s "$3" ] ;;
esac`)
		out, log, err := r.run(action.Runs.Steps)
		if err != nil {
			t.Fatalf("%v\n%s%s", err, log, out)
		}
		release := map[string]string{"latest": "gh release download --repo ", "v1.2.0": "gh release download v1.2.0 --repo "}[version]
		wantContains(t, "the log", log, "sudo apt-get install -y ", " slirp4netns uidmap\n", "sudo chmod 0666 /dev/net/tun\n", release, "\ngh attestation verify ")
		wantContains(t, "the output", out, "ready for ", "slirp4netns 1.")
		out, _, err = r.run([]ghStep{{Name: "use", Run: "command -v slirpctl; slirpctl up -- ip -4 -br address show tap0"}})
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		wantContains(t, "the output", out, "/temp/setup-slirpctl/bin/slirpctl\n", "10.0.2.100/24")

		r.stub("gh", `[ "$2" != verify ]`)
		if _, _, err := r.run(action.Runs.Steps); err == nil {
			t.Error("a file that GitHub did not attest is installed")
		}
	}
}

// TestActionsPinned: others' actions can't be changed after they were looked at.
func TestActionsPinned(t *testing.T) {
	root := repoRoot(t)
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	if err != nil || len(files) < 2 {
		t.Fatalf("%q, %v", files, err)
	}
	uses := regexp.MustCompile(`(?m)^\s*(?:- )?uses: *(.*)$`)
	pinned := regexp.MustCompile(`^(\./\S+|\S+@[0-9a-f]{40} # v[0-9.]+)$`)
	for _, file := range append(files, filepath.Join(root, ".github/actions/setup-slirpctl/action.yml")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range uses.FindAllSubmatch(text, -1) {
			if !pinned.Match(m[1]) {
				t.Errorf("%s: %s is not pinned to a commit", filepath.Base(file), m[1])
			}
		}
	}
}

// TestIssueForms checks what GitHub checks of issue forms, and that a bug report has the output of probe.
func TestIssueForms(t *testing.T) {
	for _, name := range []string{"bug.yml", "feature.yml"} {
		data, err := os.ReadFile(filepath.Join(repoRoot(t), ".github/ISSUE_TEMPLATE", name))
		if err != nil {
			t.Fatal(err)
		}
		var form struct {
			Name, Description string
			Labels            []string
			Body              []struct {
				Type, ID    string
				Attributes  struct{ Label, Description, Value, Render string }
				Validations struct{ Required bool }
			}
		}
		dec := yaml.NewDecoder(bytes.NewReader(data))
		dec.KnownFields(true)
		if err := dec.Decode(&form); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids := map[string]bool{}
		for _, field := range form.Body {
			switch field.Type {
			case "markdown":
				if field.Attributes.Value == "" {
					t.Errorf("%s: an empty markdown", name)
				}
			case "textarea", "input":
				if field.ID == "" || ids[field.ID] || field.Attributes.Label == "" {
					t.Errorf("%s: %+v", name, field)
				}
				ids[field.ID] = true
			default:
				t.Errorf("%s: a field of type %q", name, field.Type)
			}
		}
		if form.Name == "" || form.Description == "" || len(ids) == 0 {
			t.Errorf("%s: %+v", name, form)
		}
		if name == "bug.yml" {
			wantContains(t, name, string(data), "`slirpctl probe --json`")
		}
	}
}
