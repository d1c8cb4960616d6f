package enter

import (
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
)

func TestCgroupDir(t *testing.T) {
	const table = `30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
35 30 0:32 /box /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
39 30 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`
	mounts, err := mountinfo.GetMountsFromReader(strings.NewReader(table), nil)
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]string{
		"0::/":                     "/sys/fs/cgroup/unified",
		"0::/user.slice/a b:c":     "/sys/fs/cgroup/unified/user.slice/a b:c",
		"2:cpu,cpuacct:/x":         "/sys/fs/cgroup/cpu/x",
		"9:name=systemd:/y":        "/sys/fs/cgroup/systemd/y",
		"5:devices:/box/inner":     "/sys/fs/cgroup/devices/inner",
		"5:devices:/box":           "/sys/fs/cgroup/devices",
		"5:devices:/boxes":         "", // not below what is mounted
		"5:devices:/":              "",
		"6:freezer:/":              "", // not mounted
		"0::/../../machine.slice/": "",
		"":                         "",
	} {
		if got, ok := cgroupDir(mounts, group); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v; want %q", group, got, ok, want)
		}
	}
}
