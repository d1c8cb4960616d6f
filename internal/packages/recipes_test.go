//go:build packages

package packages

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPKGBUILD builds Arch Linux's package with makepkg, from a repository with a tag and a commit after it.
func TestPKGBUILD(t *testing.T) {
	need(t, "makepkg", "bsdtar", "git", "unshare")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	source := copyCheckout(t, root)
	git := func(args ...string) {
		t.Helper()
		output(t, source, append([]string{"git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"}, args...)...)
	}
	git("init", "-q")
	git("add", "-A")
	git("commit", "-q", "-m", "first")
	git("tag", "-m", "release", "v9.8.7")
	git("commit", "-q", "--allow-empty", "-m", "second")

	dir := t.TempDir()
	for name, text := range map[string]string{
		// Arch's own, but for what this machine lacks: fakeroot can't be used in a user namespace.
		"makepkg.conf": ". /etc/makepkg.conf\nBUILDENV=(!fakeroot !distcc !color !ccache !check !sign)\nPKGEXT=.pkg.tar\n",
		"pacman":       "#!/bin/sh\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output(t, dir, "cp", filepath.Join(root, ".packaging/arch/PKGBUILD"), "PKGBUILD")
	// makepkg refuses root. In this user namespace root has another id, and still the module cache.
	cmd := exec.Command("unshare", "--user", "--map-user=1000", "--map-group=1000", "makepkg", "--config", "makepkg.conf", "--nodeps")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=url.file://"+source+".insteadOf", "GIT_CONFIG_VALUE_0=https://github.com/slirpctl/slirpctl.git")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	packages, err := filepath.Glob(filepath.Join(dir, "slirpctl-git-9.8.7.r1.g*-1-*.pkg.tar"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("%q, %v: %s", packages, err, output(t, dir, "ls"))
	}
	list := output(t, dir, "bsdtar", "-tf", packages[0])
	for _, want := range []string{
		"usr/bin/slirpctl\n", "usr/share/man/man1/slirpctl-up.1", "usr/lib/systemd/user/slirpctl@.service\n",
		"usr/share/zsh/site-functions/_slirpctl\n", "usr/share/licenses/slirpctl-git/LICENSE\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %s in\n%s", want, list)
		}
	}
	info := output(t, dir, "bsdtar", "-xOf", packages[0], ".PKGINFO")
	if !strings.Contains(info, "depend = slirp4netns\n") {
		t.Errorf("%s", info)
	}
	output(t, dir, "bsdtar", "-xf", packages[0], "usr/bin/slirpctl")
	if got := output(t, dir, "usr/bin/slirpctl", "version"); !strings.HasPrefix(got, "slirpctl v9.8.7-1-g") {
		t.Errorf("it says %q", got)
	}
}

// TestFlake evaluates the Nix flake with a stand-in for nixpkgs, and compares vendorHash with the modules of go.mod.
func TestFlake(t *testing.T) {
	need(t, "nix", "nix-instantiate")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	expression := `let
  lib = {
    genAttrs = names: f: builtins.listToAttrs (map (n: { name = n; value = f n; }) names);
    makeBinPath = ps: builtins.concatStringsSep ":" (map (p: "${p}/bin") ps);
    licenses.asl20 = "Apache-2.0";
  };
  pkgs = { inherit lib; buildGoModule = args: args; installShellFiles = "i"; makeWrapper = "w"; slirp4netns = "/slirp4netns"; };
  flake = import ` + root + `/.packaging/nix/flake.nix;
in builtins.mapAttrs (_: p: p.default // { src = toString p.default.src == "` + root + `"; })
  (flake.outputs { self.shortRev = "abc"; nixpkgs = { inherit lib; legacyPackages = { x86_64-linux = pkgs; aarch64-linux = pkgs; }; }; }).packages`
	var systems map[string]struct {
		Version, VendorHash, PostInstall string
		Src                              bool
		SubPackages, Ldflags             []string
	}
	text := output(t, t.TempDir(), "nix-instantiate", "--eval", "--strict", "--json", "--store", "dummy://", "--expr", expression)
	if err := json.Unmarshal([]byte(text), &systems); err != nil {
		t.Fatal(err)
	}
	vendor := filepath.Join(t.TempDir(), "vendor")
	output(t, root, "go", "mod", "vendor", "-o", vendor)
	hash := strings.TrimSpace(output(t, root, "nix", "--extra-experimental-features", "nix-command", "hash", "path", vendor))
	for _, name := range []string{"x86_64-linux", "aarch64-linux"} {
		p, ok := systems[name]
		if !ok || !p.Src || p.Version != "abc" || len(p.SubPackages) != 1 || !strings.Contains(strings.Join(p.Ldflags, " "), "-X main.version=abc") ||
			!strings.Contains(p.PostInstall, "--suffix PATH : /slirp4netns/bin") {
			t.Errorf("%s: %+v", name, p)
		}
		if p.VendorHash != hash {
			t.Errorf("%s: vendorHash in .packaging/nix/flake.nix is %s, want %s", name, p.VendorHash, hash)
		}
	}
}
