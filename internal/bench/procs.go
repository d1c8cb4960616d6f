package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/procfs"
)

// userHZ is the unit of times in /proc/PID/stat on Linux, ticks a second.
const userHZ = 100

// family returns roots and all their descendants, except processes in without and their
// descendants.
func family(roots, without []int) []int {
	children := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*")
	for _, e := range entries {
		pid, _ := strconv.Atoi(filepath.Base(e))
		if s, err := procfs.ReadStat(pid); err == nil {
			children[s.Parent] = append(children[s.Parent], pid)
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
		if s, err := procfs.ReadStat(pid); err == nil {
			ticks += s.CPU
		}
	}
	return float64(ticks) / userHZ
}

// allProcessors are those that the benchmark was started with.
var allProcessors = func() (set unix.CPUSet) {
	_ = unix.SchedGetaffinity(0, &set)
	return set
}()

// pin makes all threads of processes run on cpus.
func pin(pids []int, cpus unix.CPUSet) error {
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			if err := unix.SchedSetaffinity(tid, &cpus); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("pin thread %d of process %d: %w", tid, pid, err)
			}
		}
	}
	return nil
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
			n += field(data, "voluntary_ctxt_switches")
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
		kb += field(data, "Pss")
	}
	return float64(kb) / 1024, nil
}

// field returns the number after the name of a field.
func field(data []byte, name string) int64 {
	f := procfs.StatusField(data, name)
	if len(f) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(f[0], 10, 64)
	return n
}
