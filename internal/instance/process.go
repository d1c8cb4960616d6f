package instance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/procfs"
)

// StartTime returns the start time of a process in clock ticks since the host's boot. Together with the PID it
// identifies the process, even if the PID is reused. Source: proc(5), /proc/PID/stat field 22.
func StartTime(pid int) (uint64, error) {
	s, err := procfs.ReadStat(pid)
	if err != nil {
		return 0, err
	}
	return s.Start - ticksAhead(), nil
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
	s, err := procfs.ReadStat(p.PID)
	return err == nil && s.Start-ticksAhead() == p.Start && s.State != 'Z' && s.State != 'X'
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
		if data, err := os.ReadFile(path); err == nil {
			list = append(list, parseThread(data))
		}
	}
	return list
}

func parseThread(status []byte) (t thread) {
	if state := procfs.StatusField(status, "State"); len(state) > 0 {
		t.state = state[0][0]
	}
	t.killed = procfs.HasSignal(status, "SigPnd", unix.SIGKILL) || procfs.HasSignal(status, "ShdPnd", unix.SIGKILL)
	return t
}

// FirstChild returns the child of a process that was started first, 0 if there is none or the kernel does not list
// children (CONFIG_PROC_CHILDREN).
func FirstChild(pid int) (first int) {
	var oldest uint64
	for _, child := range procfs.Children(pid) {
		if start, err := StartTime(child); err == nil && (first == 0 || start < oldest) {
			first, oldest = child, start
		}
	}
	return first
}
