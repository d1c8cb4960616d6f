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

// Nsenter searches for nsenter(1) and runs it.
func Nsenter(ctx context.Context, env *Env) Result {
	r := Result{Name: "nsenter", Status: Warning}
	path, err := env.LookPath("nsenter")
	if err != nil {
		r.Reason, r.Remedy = "not on PATH; slirpctl does not need it, but scripts that enter namespaces may", env.install(packages{apt: "util-linux", dnf: "util-linux", apk: "util-linux-misc", pacman: "util-linux", zypper: "util-linux"})
		return r
	}
	if err := trust.Check(path); err != nil {
		r.Reason = "not tried: " + err.Error()
		return r
	}
	text, err := env.Output(ctx, path, "--version")
	text, _, _ = strings.Cut(strings.TrimSpace(text), "\n")
	switch {
	case err == nil:
		r.Status, r.Reason = OK, fmt.Sprintf("%s (%s)", path, text)
	case strings.Contains(strings.ToLower(text), "nsenter"):
		// BusyBox's nsenter has no --version and prints its usage.
		r.Status, r.Reason = OK, path
	case ctx.Err() != nil:
		r.Status, r.Reason = Unknown, fmt.Sprintf("%s does not end", path)
	default:
		r.Reason = fmt.Sprintf("%s can't be run: %s", path, err)
	}
	return r
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

// IDMapTools searches for newuidmap(1) and newgidmap(1) and lets them map a user namespace with
// the user's ranges. Only --map-users needs them; root needs none.
func IDMapTools(ctx context.Context, env *Env) Result {
	r := Result{Name: "id-map-tools", Status: Warning}
	if env.UID == 0 {
		r.Status, r.Reason = OK, "root maps ids itself"
		return r
	}
	var paths [2]string
	for i, tool := range [2]string{"newuidmap", "newgidmap"} {
		path, err := env.LookPath(tool)
		if err != nil {
			r.Reason, r.Remedy = tool+" is not on PATH: --map-users won't work", env.install(mapToolPackages)
			return r
		}
		paths[i] = path
	}
	var args [2][]string
	for i, file := range subIDFiles {
		ranges, err := env.subIDs(file, env.User, strconv.Itoa(env.UID))
		if err != nil || len(ranges) == 0 {
			r.Status, r.Reason = Unknown, fmt.Sprintf("%s and %s are there; without ranges (subid-ranges) they can't be tried", paths[0], paths[1])
			return r
		}
		args[i] = []string{paths[i], "1", fmt.Sprint(ranges[0].SubID), fmt.Sprint(ranges[0].Count)}
	}
	if err := env.TryMaps(ctx, args[0], args[1]); err != nil {
		r.Reason = fmt.Sprintf("%s and %s can't map this user's ranges: %s", paths[0], paths[1], err)
		r.Remedy = env.sudo("chmod u+s " + paths[0] + " " + paths[1])
		return r
	}
	r.Status, r.Reason = OK, fmt.Sprintf("%s and %s mapped this user's ranges", paths[0], paths[1])
	return r
}

var subIDFiles = [2]string{"etc/subuid", "etc/subgid"}

// SubIDRanges reads the user's ranges of subordinate ids, subuid(5) and subgid(5), which
// --map-users needs.
func SubIDRanges(_ context.Context, env *Env) Result {
	r := Result{Name: "subid-ranges", Status: Warning}
	var counts [2]int64
	for i, file := range subIDFiles {
		ranges, err := env.subIDs(file, env.User, strconv.Itoa(env.UID))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.Status, r.Reason = Unknown, err.Error()
			return r
		}
		for _, s := range ranges {
			counts[i] += s.Count
		}
		if counts[i] == 0 {
			r.Reason = fmt.Sprintf("/%s has no range for %s: --map-users won't work", file, env.User)
			r.Remedy = env.sudo(fmt.Sprintf("usermod --add-subuids %[1]s --add-subgids %[1]s %[2]s", env.freeSubIDs(), env.User))
			return r
		}
	}
	r.Status, r.Reason = OK, fmt.Sprintf("%d user and %d group ids for %s", counts[0], counts[1], env.User)
	return r
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
