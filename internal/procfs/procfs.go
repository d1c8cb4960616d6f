// Package procfs reads the files of /proc about a process. It exists so that each of them is parsed in one place.
package procfs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Stat has fields of /proc/PID/stat (proc(5)). Times are in clock ticks of 10 ms.
type Stat struct {
	State  byte // R, S, D, T, t, Z or X
	Parent int
	CPU    int64  // user and system time, with that of reaped children
	Start  uint64 // since boot
}

// ReadStat reads the stat file of a process.
func ReadStat(pid int) (Stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Stat{}, err
	}
	return ParseStat(data)
}

// ParseStat parses a stat file. The name of the command in its second field may have any characters, so fields are
// counted from the last ")".
func ParseStat(data []byte) (s Stat, err error) {
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(f) < 20 || len(f[0]) != 1 {
		return Stat{}, fmt.Errorf("/proc/PID/stat: %d fields after the name", len(f))
	}
	s.State = f[0][0]
	s.Parent, _ = strconv.Atoi(f[1])
	for _, field := range f[11:15] { // utime stime cutime cstime
		n, _ := strconv.ParseInt(field, 10, 64)
		s.CPU += n
	}
	if s.Start, err = strconv.ParseUint(f[19], 10, 64); err != nil {
		return Stat{}, fmt.Errorf("/proc/PID/stat: %w", err)
	}
	return s, nil
}

// Status returns the words of a field of a process's status file; none if there is no such
// field or process.
func Status(pid int, field string) []string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return StatusField(data, field)
}

// StatusField is [Status] for the content of a status file.
func StatusField(status []byte, field string) []string {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(field+":")); ok {
			return strings.Fields(string(rest))
		}
	}
	return nil
}

// HasSignal reports whether a signal is in a set of a status file, such as SigIgn or SigPnd.
func HasSignal(status []byte, field string, sig syscall.Signal) bool {
	for _, text := range StatusField(status, field) {
		set, err := strconv.ParseUint(text, 16, 64)
		return err == nil && set&(1<<(sig-1)) != 0
	}
	return false
}

// Children returns the children of all threads of a process.
func Children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for field := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(field); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}
