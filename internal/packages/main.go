// Command packages is `make packages`: a deb, an rpm, an apk and a tarball for each architecture,
// with a bill of materials (SPDX) and checksums. It exists because the same input must give the
// same bytes: every time stamp comes from the last commit, every order is fixed, and nothing
// of the machine gets in.
//
// Usage: packages -version VERSION -epoch SECONDS -out DIR NFPM...
//
// NFPM... is the command line of nfpm (https://nfpm.goreleaser.com), which writes the package
// formats.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// arches are Go's names of the architectures; each package format's own comes from nfpm.
var arches = []string{"amd64", "arm64"}

type job struct {
	version string
	epoch   time.Time
	out     string
	nfpm    []string
}

func main() {
	var j job
	epoch := flag.Int64("epoch", 0, "seconds since 1970 that every file is stamped with")
	flag.StringVar(&j.version, "version", "", "the version, as git describe has it")
	flag.StringVar(&j.out, "out", "dist", "where the packages go")
	flag.Parse()
	j.epoch, j.nfpm = time.Unix(*epoch, 0).UTC(), flag.Args()
	if err := j.run(); err != nil {
		fmt.Fprintln(os.Stderr, "packages: error:", err)
		os.Exit(1)
	}
}

func (j *job) run() error {
	if j.version == "" || len(j.nfpm) == 0 {
		return errors.New("want -version, -epoch, -out and the command line of nfpm")
	}
	if err := os.MkdirAll(j.out, 0o755); err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "packages")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	for _, arch := range arches {
		if err := j.pack(filepath.Join(stage, arch), arch); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	return j.checksums()
}

// name is the beginning of the files' names.
func (j *job) name(arch string) string {
	return fmt.Sprintf("slirpctl_%s_%s", strings.TrimPrefix(j.version, "v"), arch)
}

// pack makes everything for one architecture.
func (j *job) pack(stage, arch string) error {
	files, err := stageFiles(stage)
	if err != nil {
		return err
	}
	binary := filepath.Join(stage, "slirpctl")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -E github.com/slirpctl/slirpctl/internal/rlimit.entry -X main.version="+j.version, "-o", binary, "./cmd/slirpctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	files = append(files, file{binary, "/usr/bin/slirpctl", 0o755, ""})
	sbom, err := j.sbom(binary)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(j.out, j.name(arch)+".spdx.json"), sbom, 0o644); err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.to+a.format, b.to+b.format) })
	if err := j.tarball(filepath.Join(j.out, j.name(arch)+".tar.gz"), j.name(arch), files); err != nil {
		return err
	}
	config := filepath.Join(stage, "nfpm.yaml")
	if err := os.WriteFile(config, []byte(j.nfpmConfig(arch, files)), 0o644); err != nil {
		return err
	}
	for _, format := range []string{"deb", "rpm", "apk"} {
		args := append(slices.Clone(j.nfpm[1:]), "package", "--config", config, "--packager", format,
			"--target", filepath.Join(j.out, j.name(arch)+"."+format))
		cmd := exec.Command(j.nfpm[0], args...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", j.epoch.Unix()))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nfpm: %w\n%s", err, out)
		}
	}
	return nil
}

// file is one of a package: where it is now, where it goes, and its mode. It goes into one package
// format only, unless that is "".
type file struct {
	from, to string
	mode     os.FileMode
	format   string
}

// stageFiles returns all that is packed besides the program. Manual pages are compressed, as
// the distributions want them.
func stageFiles(stage string) ([]file, error) {
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return nil, err
	}
	files := []file{
		{"completions/slirpctl.bash", "/usr/share/bash-completion/completions/slirpctl", 0o644, ""},
		{"completions/_slirpctl", "/usr/share/zsh/vendor-completions/_slirpctl", 0o644, "deb"},
		{"completions/_slirpctl", "/usr/share/zsh/site-functions/_slirpctl", 0o644, "rpm"},
		{"completions/_slirpctl", "/usr/share/zsh/site-functions/_slirpctl", 0o644, "apk"},
		{"completions/_slirpctl", "/usr/share/zsh/site-functions/_slirpctl", 0o644, "tar"},
		{"completions/slirpctl.fish", "/usr/share/fish/vendor_completions.d/slirpctl.fish", 0o644, ""},
		{"completions/slirpctl.ps1", "/usr/share/slirpctl/slirpctl.ps1", 0o644, ""},
		{"LICENSE", "/usr/share/doc/slirpctl/copyright", 0o644, ""},
		{"README.md", "/usr/share/doc/slirpctl/README.md", 0o644, ""},
		{"CHANGELOG.md", "/usr/share/doc/slirpctl/CHANGELOG.md", 0o644, ""},
	}
	examples, err := tree("docs/examples", "/usr/share/doc/slirpctl/docs/examples")
	if err != nil {
		return nil, err
	}
	files = append(files, examples...)
	docs, err := filepath.Glob("docs/*.[ms][dv]*") // pages and pictures
	if err != nil {
		return nil, err
	}
	for _, doc := range docs {
		files = append(files, file{doc, "/usr/share/doc/slirpctl/" + filepath.ToSlash(doc), 0o644, ""})
	}
	pages, err := filepath.Glob("docs/man/*.[1-8]")
	if err != nil || len(pages) == 0 {
		return nil, fmt.Errorf("no manual pages in docs/man: %v", err)
	}
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err != nil {
			return nil, err
		}
		packed := filepath.Join(stage, filepath.Base(page)+".gz")
		if err := os.WriteFile(packed, compress(data), 0o644); err != nil {
			return nil, err
		}
		section := strings.TrimPrefix(filepath.Ext(page), ".")
		files = append(files, file{packed, "/usr/share/man/man" + section + "/" + filepath.Base(packed), 0o644, ""})
	}
	return files, nil
}

// tree returns every file below dir.
func tree(dir, to string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files = append(files, file{path, to + "/" + filepath.ToSlash(rel), mode, ""})
		return nil
	})
	return files, err
}

// compress is gzip -n.
func compress(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = w.Write(data) // a Buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

// checksums writes SHA256SUMS over all that is there, for sha256sum -c.
func (j *job) checksums() error {
	var b strings.Builder
	entries, err := os.ReadDir(j.out) // by name
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "slirpctl_"+strings.TrimPrefix(j.version, "v")+"_") {
			continue // of another version
		}
		data, err := os.ReadFile(filepath.Join(j.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return os.WriteFile(filepath.Join(j.out, "SHA256SUMS"), []byte(b.String()), 0o644)
}
