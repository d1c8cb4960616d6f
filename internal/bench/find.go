package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// findContestants looks for installed contestants. peers is a directory of programs newer than the
// system's, "" for none.
func (b *bench) findContestants(peers string) error {
	w := b.w
	slirp, err := exec.LookPath("slirp4netns")
	if err != nil {
		return fmt.Errorf("nothing works without slirp4netns: %w", err)
	}
	b.res.Slirp = strings.TrimPrefix(w.versionLine(slirp, "--version"), "slirp4netns version ")
	b.res.Slirpctl = strings.TrimPrefix(w.versionLine(w.slirpctl, "version"), "slirpctl ")
	add := func(c contestant) { b.res.Contestants = append(b.res.Contestants, &c) }
	add(contestant{ID: "loopback", Name: "loopback, no namespace", path: w.self, start: startLoopback})
	open := []string{"--configure", "--mtu=65520", "--enable-sandbox", "--enable-seccomp"}
	for _, c := range []contestant{
		{ID: "slirpctl", Name: "slirpctl"},
		{ID: "direct", Name: "slirpctl, direct", start: startSlirpctl("direct")},
		{ID: "handler-rootlesskit", Name: "slirpctl, rootlesskit handler", start: startSlirpctl("rootlesskit")},
		{ID: "handler-slirp4netns", Name: "slirpctl, slirp4netns handler", start: startSlirpctl("slirp4netns")},
		{ID: "slirp-open", Name: "slirpctl", start: startSlirpctl("slirp4netns", "--allow-host-loopback")},
	} {
		c.path, c.Version = w.slirpctl, b.res.Slirpctl
		add(c)
	}
	for _, c := range []contestant{
		{ID: "bare", Name: "bare slirp4netns", start: startBare(slirpFlags...)},
		{ID: "bare-open", Name: "bare slirp4netns", start: startBare(open...)},
	} {
		c.path, c.Version = slirp, b.res.Slirp
		add(c)
	}
	b.addEmpty()
	b.addPeer(peers, "rootlesskit", "RootlessKit", startRootlesskit)
	b.addPeer(peers, "pasta", "pasta", startPasta())
	add(b.newest(peers, "srt", "sandbox-runtime", nil))
	add(b.newest(peers, "fence", "fence", nil))
	podman := contestant{ID: "podman", Name: "Podman", Missing: "not measured: its rootlessport is RootlessKit's builtin driver, which takes part itself"}
	if path, err := exec.LookPath("podman"); err == nil {
		podman.Version = w.versionLine(path, "--version")
	}
	add(podman)
	return nil
}

// newest returns the newest version of a peer, which was fetched to the directory peers.
func (b *bench) newest(peers, program, name string, start func(*world, *contestant, int) (*forwarder, error)) contestant {
	c := contestant{ID: program, Name: name, start: start, Missing: "not fetched"}
	path, err := filepath.EvalSymlinks(filepath.Join(peers, program))
	if peers == "" || err != nil {
		return c
	}
	tree := filepath.Join(peers, "..", program+"-root") // the libraries it needs
	if _, err := os.Stat(tree); err == nil {
		if err := exec.Command("cp", "-r", tree, b.w.tmp).Run(); err != nil {
			c.Missing = fmt.Sprintf("copy %s: %v", tree, err)
			return c
		}
	}
	c.Missing = ""
	if c.path, err = b.w.copyProgram(path); err != nil {
		c.Missing = err.Error()
	} else if c.Version = b.w.versionLine(c.path, "--version"); c.Version == "" {
		c.Missing = path + " does not run"
	}
	c.Version = strings.TrimPrefix(strings.TrimPrefix(c.Version, program+" "), "version ")
	return c
}

// addPeer adds a peer twice: the newest, and the system's.
func (b *bench) addPeer(peers, program, name string, start func(*world, *contestant, int) (*forwarder, error)) {
	w := b.w
	newest := b.newest(peers, program, name, start)
	system := contestant{ID: program + "-debian", Name: name + " of the system", start: start}
	if path, err := exec.LookPath(program); err == nil {
		system.path, system.Version = path, w.versionLine(path, "--version")
		if strings.HasSuffix(system.Version, "unknown version") { // what Debian's pasta says of itself
			system.Version = packageOf(path)
		}
	} else {
		system.Missing = "not installed"
	}
	if ctl := filepath.Join(peers, "rootlessctl"); program == "rootlesskit" && newest.Missing == "" {
		if _, err := w.copyProgram(ctl); err != nil {
			newest.Missing = err.Error()
		}
	}
	system.Version = strings.TrimPrefix(strings.TrimPrefix(system.Version, program+" "), "version ")
	b.res.Contestants = append(b.res.Contestants, &newest, &system)
}

// packageOf returns the version of the package that a program comes from.
func packageOf(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	owner, err := exec.Command("dpkg-query", "--search", path).Output()
	if err != nil {
		return "unknown version"
	}
	name, _, _ := strings.Cut(string(owner), ":")
	version, err := exec.Command("dpkg-query", "--show", "--showformat=${Version}", name).Output()
	if err != nil {
		return "unknown version"
	}
	return string(version)
}
