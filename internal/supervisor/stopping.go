package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// stoppingState describes COMMAND, a child of init, which was asked to end.
func stoppingState(init int, killsAt time.Time) *instance.StoppingState {
	st := &instance.StoppingState{Name: "the command", Reacts: "has not ended on", KillsAt: killsAt.Truncate(time.Millisecond)}
	st.PID = firstChild(init)
	if st.PID == 0 {
		return st
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.PID))
	for line := range strings.Lines(string(status)) {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch field {
		case "Name":
			st.Name = value
		case "SigBlk":
			if hasTERM(value) {
				st.Reacts = "blocks"
			}
		case "SigIgn":
			if hasTERM(value) {
				st.Reacts = "ignores"
			}
		}
	}
	return st
}

// hasTERM reports whether SIGTERM is in a set of signals of /proc/PID/status (proc(5)).
func hasTERM(hex string) bool {
	set, err := strconv.ParseUint(hex, 16, 64)
	return err == nil && set&(1<<(syscall.SIGTERM-1)) != 0
}

// firstChild returns the child of a process that was started first, 0 if there is none or the kernel does not list
// children (CONFIG_PROC_CHILDREN).
func firstChild(pid int) (first int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var oldest uint64
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for f := range strings.FieldsSeq(string(data)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				continue
			}
			if start, err := instance.StartTime(child); err == nil && (first == 0 || start < oldest) {
				first, oldest = child, start
			}
		}
	}
	return first
}
