package instance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// StartTime returns the start time of a process in clock ticks since the host's boot. Together with the PID it
// identifies the process, even if the PID is reused. Source: proc(5), /proc/PID/stat field 22.
func StartTime(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, start, err := parseStat(data)
	return start - ticksAhead(), err
}

// ticksAhead returns the offset that this process's time namespace adds to start times, in ticks
// (time_namespaces(7)), so that processes in different time namespaces agree on a start time. The result can be off
// by one if the offset is not a whole number of ticks, as after a checkpoint restore.
var ticksAhead = sync.OnceValue(func() uint64 {
	// The file has the offsets for children, which are also this process's if it was executed after the unshare.
	own, err := os.Readlink("/proc/self/ns/time")
	childrens, err2 := os.Readlink("/proc/self/ns/time_for_children")
	data, err3 := os.ReadFile("/proc/self/timens_offsets")
	if err != nil || err2 != nil || err3 != nil || own != childrens {
		return 0 // no time namespaces (before Linux 5.6)
	}
	return parseTimeOffset(data)
})

// parseTimeOffset returns the offset of the boot time in ticks of 10 ms; a negative offset wraps around.
func parseTimeOffset(data []byte) uint64 {
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) != 3 || string(f[0]) != "boottime" {
			continue
		}
		sec, err := strconv.ParseInt(string(f[1]), 10, 64)
		nsec, err2 := strconv.ParseInt(string(f[2]), 10, 64)
		if err == nil && err2 == nil {
			return uint64(sec*100 + nsec/1e7)
		}
	}
	return 0
}

// parseStat returns the state letter (field 3) and the start time (field 22) of /proc/PID/stat.
// The command name in field 2 may have any characters, so fields are counted from the last ")".
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

// Identify returns the identity of a running process.
func Identify(role string, pid int) ProcessState {
	start, _ := StartTime(pid)
	return ProcessState{Role: role, PID: pid, Start: start}
}

// ownPIDNamespace returns the inode of this process's PID namespace, 0 if unknown.
func ownPIDNamespace() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
}

// Elsewhere reports whether PID is a number of another PID namespace, and so has no meaning in this one.
func (p ProcessState) Elsewhere() bool { return p.namespace != 0 && p.namespace != ownPIDNamespace() }

// Alive reports whether this very process is still running. It is false for a zombie and for a process of another
// PID namespace.
func (p ProcessState) Alive() bool {
	if p.Elsewhere() {
		return false
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false
	}
	state, start, err := parseStat(data)
	return err == nil && start-ticksAhead() == p.Start && state != 'Z' && state != 'X'
}

// dying reports whether the process has been killed and still has threads, which hold its descriptors. It is false
// if they can't handle the signal, for example in a frozen cgroup.
// Source: proc(5), /proc/PID/status, "State", "SigPnd" and "ShdPnd".
func (p ProcessState) dying() bool { return dying(p.threads()) }

func dying(threads []thread) bool {
	for _, t := range threads {
		switch {
		case t.state == 'Z' || t.state == 'X':
			return len(threads) > 1
		case t.killed && !t.stuck():
			return true
		}
	}
	return false
}

// stuck returns why the process can't run, or "".
func (p ProcessState) stuck() string {
	if why := stuck(p.threads()); why != "" {
		return fmt.Sprintf("its supervisor (pid %d) %s", p.PID, why)
	}
	return ""
}

func stuck(threads []thread) string {
	for _, t := range threads {
		switch {
		case !t.stuck():
		case t.killed:
			return "was killed but can't exit: it is frozen or waits for a device"
		case t.state == 'D':
			return "is frozen or waits for a device"
		default:
			return "is stopped"
		}
	}
	return ""
}

type thread struct {
	state  byte
	killed bool
}

func (t thread) stuck() bool { return t.state == 'D' || t.state == 'T' || t.state == 't' }

func (p ProcessState) threads() (list []thread) {
	if p.PID <= 0 || p.Elsewhere() {
		return nil
	}
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		list = append(list, parseThread(string(data)))
	}
	return list
}

func parseThread(status string) (t thread) {
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case name == "State" && value != "":
			t.state = value[0]
		case name == "SigPnd" || name == "ShdPnd":
			set, _ := strconv.ParseUint(value, 16, 64)
			t.killed = t.killed || set&(1<<(unix.SIGKILL-1)) != 0
		}
	}
	return t
}
