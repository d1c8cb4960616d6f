package enter

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroups opens the cgroup.procs files of a target's cgroups, in the hierarchies where the caller is in
// another cgroup. They have the target's limits and device rules. Hierarchies that are not mounted, or that the
// caller may not write to, are omitted.
func cgroups(theirs string) (files []*os.File) {
	ours, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own := strings.Split(string(ours), "\n")
	for line := range strings.Lines(theirs) {
		line = strings.TrimSuffix(line, "\n")
		if slices.Contains(own, line) {
			continue
		}
		dir, ok := cgroupDir(string(mounts), line)
		if !ok {
			continue
		}
		if f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0); err == nil {
			files = append(files, f)
		}
	}
	return files
}

// cgroupDir returns the directory of a cgroup given by a line of /proc/PID/cgroup (cgroups(7)). mounts is
// /proc/self/mountinfo (proc(5)).
func cgroupDir(mounts, group string) (dir string, ok bool) {
	f := strings.SplitN(group, ":", 3)
	if len(f) != 3 || strings.HasPrefix(f[2], "/..") { // outside the caller's cgroup namespace
		return "", false
	}
	for line := range strings.Lines(mounts) {
		left, right, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		where, what := strings.Fields(left), strings.Fields(right)
		if len(where) < 5 || len(what) < 3 {
			continue
		}
		unified := what[0] == "cgroup2" && f[1] == ""
		named := what[0] == "cgroup" && f[1] != "" && slices.Contains(strings.Split(what[2], ","), strings.Split(f[1], ",")[0])
		below, found := strings.CutPrefix(f[2], strings.TrimSuffix(where[3], "/"))
		if (unified || named) && found && (below == "" || below[0] == '/') {
			return filepath.Join(where[4], below), true
		}
	}
	return "", false
}
