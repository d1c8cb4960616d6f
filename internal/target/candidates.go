package target

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// Process is a process that could be a target.
type Process struct {
	PID     int
	Command string // its command line; if that is empty, its name in brackets
}

// Candidates returns the processes that are not in the caller's network namespace and that the caller
// may inspect.
func Candidates() []Process {
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		dir := "/proc/" + e.Name()
		if ns, err := os.Readlink(dir + "/ns/net"); err != nil || ns == own {
			continue
		}
		line, _ := os.ReadFile(dir + "/cmdline")
		text := strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		if text == "" {
			name, _ := os.ReadFile(dir + "/comm")
			text = "[" + strings.TrimSpace(string(name)) + "]"
		}
		out = append(out, Process{pid, text})
	}
	return out
}
