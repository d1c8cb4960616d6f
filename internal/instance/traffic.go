package instance

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Traffic counts the bytes and packets of an interface since it was created: In came into the
// namespace, Out left it. The counters of the tap restart at zero when slirp4netns is restarted.
type Traffic struct {
	InBytes    uint64 `json:"inBytes"`
	OutBytes   uint64 `json:"outBytes"`
	InPackets  uint64 `json:"inPackets"`
	OutPackets uint64 `json:"outPackets"`
}

// ReadTraffic reads the counters of the interface tap in the network namespace of a process.
// Source: proc(5), /proc/net/dev.
func ReadTraffic(pid int, tap string) (Traffic, error) {
	path := fmt.Sprintf("/proc/%d/net/dev", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return Traffic{}, err
	}
	for line := range strings.Lines(string(data)) {
		name, counters, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) != tap {
			continue
		}
		f := strings.Fields(counters)
		if len(f) < 10 {
			return Traffic{}, fmt.Errorf("%s: %d counters for %s", path, len(f), tap)
		}
		var n [4]uint64
		for i, column := range []int{0, 8, 1, 9} {
			if n[i], err = strconv.ParseUint(f[column], 10, 64); err != nil {
				return Traffic{}, fmt.Errorf("%s: %w", path, err)
			}
		}
		return Traffic{n[0], n[1], n[2], n[3]}, nil
	}
	return Traffic{}, fmt.Errorf("%s: no interface %s", path, tap)
}
