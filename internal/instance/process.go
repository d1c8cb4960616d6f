package instance

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// StartTime returns the start time of a process in clock ticks since boot: with the PID, a name
// for the process that is never used again. Source: proc(5), /proc/PID/stat field 22.
func StartTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, start, err := parseStat(data)
	return start, err
}

// parseStat takes the state letter (field 3) and start time (field 22) out of /proc/PID/stat.
// The command name in field 2 may hold anything, so fields are counted from the last ")".
func parseStat(data []byte) (state byte, start uint64, err error) {
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return 0, 0, fmt.Errorf("/proc/PID/stat: no command name")
	}
	f := bytes.Fields(data[i+1:])
	if len(f) < 20 || len(f[0]) != 1 {
		return 0, 0, fmt.Errorf("/proc/PID/stat: %d fields after the name", len(f))
	}
	start, err = strconv.ParseUint(string(f[19]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("/proc/PID/stat: %w", err)
	}
	return f[0][0], start, nil
}

// Identify returns the identity of a process that runs now.
func Identify(role string, pid int) ProcessState {
	start, _ := StartTime(pid)
	return ProcessState{Role: role, PID: pid, Start: start}
}

// Alive reports whether exactly this process still runs; a zombie does not.
func (p ProcessState) Alive() bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false
	}
	state, start, err := parseStat(data)
	return err == nil && start == p.Start && state != 'Z' && state != 'X'
}
