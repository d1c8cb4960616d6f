//go:build packages

package packages

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", p)
		}
		t.Skipf("%s is not installed", p)
	}
}

// output runs a program that must succeed.
func output(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

const (
	version = "v9.8.7-3-gabcdef0-dirty"
	base    = "slirpctl_9.8.7+3.gabcdef0_" // of file names
)

var arches = []string{"amd64", "arm64"}

// makePackages runs `make packages` in a copy of the checkout, with another umask and time zone each time.
func makePackages(t *testing.T, checkout, umask, zone string) (dist string) {
	t.Helper()
	script := fmt.Sprintf("umask %s; TZ=%s exec make -s packages VERSION=%s SOURCE_DATE_EPOCH=1700000000", umask, zone, version)
	output(t, checkout, "sh", "-c", script)
	return filepath.Join(checkout, "dist")
}

// copyCheckout copies the source files to another place, with new times.
func copyCheckout(t *testing.T, root string) string {
	t.Helper()
	to := t.TempDir()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist"}, rel) {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if !d.Type().IsRegular() || rel == ".git" { // of a work tree
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, info.Mode().Perm())
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestPackages builds all packages twice, in two places, and checks each.
func TestPackages(t *testing.T) {
	need(t, "make", "dpkg", "dpkg-deb", "rpm", "qemu-aarch64-static", "sha256sum")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	one, other := copyCheckout(t, root), copyCheckout(t, root)
	dist, again := makePackages(t, one, "022", "UTC"), makePackages(t, other, "077", "Asia/Tokyo")
	files := []string{"SHA256SUMS"}
	for _, arch := range arches {
		for _, kind := range []string{"apk", "deb", "rpm", "cdx.json", "tar.gz"} {
			files = append(files, base+arch+"."+kind)
		}
	}
	for _, file := range files {
		a, err1 := os.ReadFile(filepath.Join(dist, file))
		b, err2 := os.ReadFile(filepath.Join(again, file))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s is not the same twice: %v, %v", file, err1, err2)
		}
	}
	if sums := output(t, dist, "cat", "SHA256SUMS"); strings.Count(sums, "\n") != len(files)-1 {
		t.Errorf("checksums of other files than %s:\n%s", files, sums)
	}
	output(t, dist, "sha256sum", "--strict", "-c", "SHA256SUMS")
	for _, arch := range arches {
		t.Run("contents "+arch, func(t *testing.T) { checkContents(t, dist, arch) })
	}
	t.Run("deb", func(t *testing.T) { checkInstall(t, filepath.Join(dist, base+"amd64.deb")) })
}

// mustHave are files that every package contains.
var mustHave = []string{
	"bin/slirpctl", "share/man/man1/slirpctl.1.gz", "share/man/man1/slirpctl-up.1.gz", "share/man/man5/slirpctl.conf.5.gz",
	"share/bash-completion/completions/slirpctl", "share/fish/vendor_completions.d/slirpctl.fish",
	"share/doc/slirpctl/copyright", "share/doc/slirpctl/docs/troubleshooting.md", "lib/systemd/user/slirpctl@.service",
	"share/doc/slirpctl/docs/examples/status.py", "share/doc/slirpctl/docs/examples/Makefile", "share/doc/slirpctl/docs/examples/ci/job.sh",
}

// shown returns the pictures and pages that the packaged pages refer to.
func shown(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(pages, err)
	}
	var files []string
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^():#]+\.(?:svg|md))(?:#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			file, err := filepath.Rel("../..", filepath.Join(filepath.Dir(page), m[1]))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(file, ".github/") { // for developers
				files = append(files, "share/doc/slirpctl/"+file)
			}
		}
	}
	if !slices.Contains(files, "share/doc/slirpctl/docs/bench/throughput.svg") || !slices.Contains(files, "share/doc/slirpctl/docs/demo.svg") {
		t.Errorf("no pictures: %q", files)
	}
	return files
}

func checkContents(t *testing.T, dist, arch string) {
	base := filepath.Join(dist, base+arch)
	lists := map[string]string{
		"tar.gz": output(t, dist, "tar", "tzf", base+".tar.gz"),
		"apk":    output(t, dist, "tar", "tzf", base+".apk"),
		"deb":    output(t, dist, "dpkg-deb", "-c", base+".deb"),
		"rpm":    output(t, dist, "rpm", "-qpl", "--nosignature", base+".rpm"),
	}
	units, err := filepath.Glob("../../docs/examples/systemd/*")
	if err != nil || len(units) == 0 {
		t.Errorf("there is no example unit: %v", err)
	}
	for kind, list := range lists {
		want := append(slices.Clone(mustHave), "share/zsh/site-functions/_slirpctl")
		if kind == "deb" {
			want[len(want)-1] = "share/zsh/vendor-completions/_slirpctl"
		}
		want = append(want, shown(t)...)
		for _, unit := range units {
			want = append(want, "share/doc/slirpctl/docs/examples/systemd/"+filepath.Base(unit))
		}
		for _, name := range want {
			if !strings.Contains(list, "/"+name+"\n") {
				t.Errorf("%s: no %s in\n%s", kind, name, list)
			}
		}
	}
	output(t, dist, "rpm", "-K", "--nosignature", base+".rpm")
	for kind, maintainer := range map[string]string{
		"deb": output(t, dist, "dpkg-deb", "-f", base+".deb", "Maintainer", "Bugs"),
		"rpm": output(t, dist, "rpm", "-qp", "--nosignature", "--qf", "%{PACKAGER}", base+".rpm"),
		"apk": output(t, dist, "tar", "xzOf", base+".apk", ".PKGINFO"),
	} {
		if !strings.Contains(maintainer, "slirpctl maintainers <slirpctl@users.noreply.github.com>") {
			t.Errorf("%s: the maintainer is %q", kind, maintainer)
		}
	}

	top := t.TempDir()
	output(t, top, "tar", "xzf", base+".tar.gz")
	program := filepath.Join(top, filepath.Base(base), "bin/slirpctl")
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; f.Machine != machine {
		t.Errorf("%s, want %s", f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Error("the program is not static")
		}
	}
	run := []string{program, "version"}
	if arch == "arm64" {
		run = append([]string{"qemu-aarch64-static"}, run...)
	}
	if got := output(t, top, run...); !strings.HasPrefix(got, "slirpctl "+version) || !strings.Contains(got, arch) {
		t.Errorf("it says %q", got)
	}
	checkSBOM(t, base+".cdx.json", program)
}

func checkSBOM(t *testing.T, path, program string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Metadata   struct{ Component struct{ Version string } }
		Components []struct{ Name string }
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Metadata.Component.Version == "" {
		t.Errorf("no version: %s", data[:1000])
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	listed := []string{"std"}
	for _, c := range doc.Components {
		listed = append(listed, c.Name)
	}
	for _, dep := range info.Deps {
		if !slices.Contains(listed, dep.Path) {
			t.Errorf("%s is not in the bill: %s", dep.Path, listed)
		}
	}
}

// checkInstall installs the deb into a directory, runs the program, and removes the package without a trace.
func checkInstall(t *testing.T, deb string) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("dpkg needs root")
		}
		t.Skip("dpkg needs root")
	}
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dpkg := func(args ...string) string {
		// slirp4netns is installed on the machine, not in that directory.
		return output(t, root, append([]string{"dpkg", "--root=" + root, "--force-depends", "--log=/dev/null"}, args...)...)
	}
	dpkg("-i", deb)
	if got := dpkg("-s", "slirpctl"); !strings.Contains(got, "Status: install ok installed") || !strings.Contains(got, "Version: 9.8.7+3.gabcdef0") {
		t.Errorf("%s", got)
	}
	program := filepath.Join(root, "usr/bin/slirpctl")
	if got := output(t, root, program, "version"); !strings.Contains(got, version) {
		t.Errorf("%s", got)
	}
	if got := output(t, root, program, "--state-dir", filepath.Join(root, "state"), "up", "--", "ip", "-4", "-br", "addr", "show", "tap0"); !strings.Contains(got, "10.0.2.100/24") {
		t.Errorf("%s", got)
	}
	dpkg("--purge", "slirpctl")
	if _, err := os.Stat(filepath.Join(root, "usr")); !os.IsNotExist(err) {
		t.Errorf("something of it is left: %s", output(t, root, "find", "usr"))
	}
}
