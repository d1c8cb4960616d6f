package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// userHZ is the unit of times in /proc/PID/stat on Linux, ticks a second.
const userHZ = 100

type procStat struct {
	pid, parent int
	ticks       int64 // user and system time, with that of reaped children
}

// readStat reads /proc/PID/stat.
func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	s := procStat{pid: pid}
	s.parent, _ = strconv.Atoi(f[1])
	for _, field := range f[11:15] { // utime stime cutime cstime
		n, _ := strconv.ParseInt(field, 10, 64)
		s.ticks += n
	}
	return s, nil
}

// family returns roots and all their descendants, except processes in without and their
// descendants.
func family(roots, without []int) []int {
	children := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, e := range entries {
		pid, _ := strconv.Atoi(filepath.Base(e))
		if s, err := readStat(pid); err == nil {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	var out []int
	var walk func(int)
	walk = func(pid int) {
		if slices.Contains(without, pid) || slices.Contains(out, pid) {
			return
		}
		out = append(out, pid)
		for _, c := range children[pid] {
			walk(c)
		}
	}
	for _, r := range roots {
		walk(r)
	}
	return out
}

// cpuSeconds returns the processor time that processes have used so far.
func cpuSeconds(pids []int) float64 {
	var ticks int64
	for _, pid := range pids {
		if s, err := readStat(pid); err == nil {
			ticks += s.ticks
		}
	}
	return float64(ticks) / userHZ
}

// programOf returns the name of a process's program (proc(5): comm).
func programOf(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(data))
}

// wakeups returns the number of voluntary context switches of the processes' threads so far.
func wakeups(pids []int) float64 {
	var n int64
	for _, pid := range pids {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, f := range files {
			data, _ := os.ReadFile(f)
			n += field(data, "voluntary_ctxt_switches:")
		}
	}
	return float64(n)
}

// memory returns the processes' proportional set size, in MiB (proc(5): smaps_rollup).
func memory(pids []int) (float64, error) {
	var kb int64
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		kb += field(data, "Pss:")
	}
	return float64(kb) / 1024, nil
}

// field returns the number after a word at the start of a line.
func field(data []byte, word string) int64 {
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte(word)); ok {
			f := strings.Fields(string(rest))
			if len(f) > 0 {
				n, _ := strconv.ParseInt(f[0], 10, 64)
				return n
			}
		}
	}
	return 0
}
