package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/moby/sys/user"

	"github.com/slirpctl/slirpctl/internal/nscommand"
	"github.com/slirpctl/slirpctl/internal/trust"
)

// nsenter searches for nsenter(1) and runs it.
func nsenter(ctx context.Context, env *Env) Result {
	path, err := env.LookPath("nsenter")
	if err != nil {
		return warning(env.install(packages{apt: "util-linux", dnf: "util-linux", apk: "util-linux-misc", pacman: "util-linux", zypper: "util-linux"}),
			"not on PATH; slirpctl does not need it, but scripts that enter namespaces may")
	}
	if err := trust.Check(path); err != nil {
		return warning("", "not tried: %v", err)
	}
	text, err := env.Output(ctx, path, "--version")
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	switch {
	case err == nil:
		return ok("%s (%s)", path, text)
	case strings.Contains(strings.ToLower(text), "nsenter"):
		return ok("%s", path) // BusyBox's nsenter has no --version and prints its usage
	case ctx.Err() != nil:
		return unknown("%s does not end", path)
	}
	return warning("", "%s can't be run: %s", path, err)
}

// packages has the name of a package for each package manager.
type packages struct{ apt, dnf, apk, pacman, zypper string }

// install returns the command for the installed package manager.
func (e *Env) install(p packages) string {
	for _, m := range []struct{ tool, command string }{
		{"apt-get", "apt-get install " + p.apt},
		{"dnf", "dnf install " + p.dnf},
		{"apk", "apk add " + p.apk},
		{"pacman", "pacman -S " + p.pacman},
		{"zypper", "zypper install " + p.zypper},
	} {
		if _, err := e.LookPath(m.tool); err == nil {
			return e.sudo(m.command)
		}
	}
	return ""
}

var mapToolPackages = packages{apt: "uidmap", dnf: "shadow-utils", apk: "shadow-uidmap", pacman: "shadow", zypper: "shadow"}

// idMapTools searches for newuidmap(1) and newgidmap(1) and lets them map a user namespace with
// the user's ranges. Only --map-users needs them; root needs none.
func idMapTools(ctx context.Context, env *Env) Result {
	if env.UID == 0 {
		return ok("root maps ids itself")
	}
	var paths [2]string
	for i, tool := range [2]string{"newuidmap", "newgidmap"} {
		path, err := env.LookPath(tool)
		if err != nil {
			return warning(env.install(mapToolPackages), "%s is not on PATH: --map-users won't work", tool)
		}
		paths[i] = path
	}
	var args [2][]string
	for i, file := range subIDFiles {
		ranges, err := env.subIDs(file, env.User, strconv.Itoa(env.UID))
		if err != nil || len(ranges) == 0 {
			return unknown("%s and %s are there; without ranges (subid-ranges) they can't be tried", paths[0], paths[1])
		}
		args[i] = []string{paths[i], "1", fmt.Sprint(ranges[0].SubID), fmt.Sprint(ranges[0].Count)}
	}
	if err := env.TryMaps(ctx, args[0], args[1]); err != nil {
		return warning(env.sudo("chmod u+s "+paths[0]+" "+paths[1]), "%s and %s can't map this user's ranges: %s", paths[0], paths[1], err)
	}
	return ok("%s and %s mapped this user's ranges", paths[0], paths[1])
}

var subIDFiles = [2]string{"etc/subuid", "etc/subgid"}

// subIDRanges reads the user's ranges of subordinate ids, subuid(5) and subgid(5), which
// --map-users needs.
func subIDRanges(_ context.Context, env *Env) Result {
	var counts [2]int64
	for i, file := range subIDFiles {
		ranges, err := env.subIDs(file, env.User, strconv.Itoa(env.UID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unknown("%v", err)
		}
		for _, s := range ranges {
			counts[i] += s.Count
		}
		if counts[i] == 0 {
			return warning(env.sudo(fmt.Sprintf("usermod --add-subuids %[1]s --add-subgids %[1]s %[2]s", env.freeSubIDs(), env.User)),
				"/%s has no range for %s: --map-users won't work", file, env.User)
		}
	}
	return ok("%d user and %d group ids for %s", counts[0], counts[1], env.User)
}

// subIDs returns the ranges of these owners in a file, or all.
func (e *Env) subIDs(file string, owners ...string) ([]user.SubID, error) {
	f, err := e.FS.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return nscommand.SubIDs(f, owners...)
}

// freeSubIDs proposes a range after all assigned ones, FIRST-LAST.
func (e *Env) freeSubIDs() string {
	const size = 65536
	first := int64(100000)
	for _, file := range subIDFiles {
		all, _ := e.subIDs(file)
		for _, s := range all {
			first = max(first, s.SubID+s.Count)
		}
	}
	return fmt.Sprintf("%d-%d", first, first+size-1)
}
