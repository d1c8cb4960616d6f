package supervisor

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// stoppingState describes COMMAND, a child of init, which was asked to end.
func stoppingState(init int, killsAt time.Time) *instance.StoppingState {
	st := &instance.StoppingState{Name: "the command", Reacts: "has not ended on", KillsAt: killsAt.Truncate(time.Millisecond)}
	st.PID = instance.FirstChild(init)
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
