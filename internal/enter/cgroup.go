package enter

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// cgroups opens the cgroup.procs files of a target's cgroups, in the hierarchies where the caller is in
// another cgroup. They have the target's limits and device rules. Hierarchies that are not mounted, or that the
// caller may not write to, are omitted.
func cgroups(theirs string) (files []*os.File) {
	ours, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := mountinfo.GetMounts(nil)
	own := strings.Split(string(ours), "\n")
	for line := range strings.Lines(theirs) {
		line = strings.TrimSuffix(line, "\n")
		if slices.Contains(own, line) {
			continue
		}
		dir, ok := cgroupDir(mounts, line)
		if !ok {
			continue
		}
		if f, err := os.OpenFile(filepath.Join(dir, "cgroup.procs"), os.O_WRONLY, 0); err == nil {
			files = append(files, f)
		}
	}
	return files
}

// cgroupDir returns the directory of a cgroup given by a line of /proc/PID/cgroup (cgroups(7)).
func cgroupDir(mounts []*mountinfo.Info, group string) (dir string, ok bool) {
	f := strings.SplitN(group, ":", 3)
	if len(f) != 3 || strings.HasPrefix(f[2], "/..") { // outside the caller's cgroup namespace
		return "", false
	}
	for _, m := range mounts {
		unified := m.FSType == "cgroup2" && f[1] == ""
		named := m.FSType == "cgroup" && f[1] != "" && slices.Contains(strings.Split(m.VFSOptions, ","), strings.Split(f[1], ",")[0])
		below, found := strings.CutPrefix(f[2], strings.TrimSuffix(m.Root, "/"))
		if (unified || named) && found && (below == "" || below[0] == '/') {
			return filepath.Join(m.Mountpoint, below), true
		}
	}
	return "", false
}
