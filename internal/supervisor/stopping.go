package supervisor

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/procfs"
)

// stoppingState describes COMMAND, a child of init, which was asked to end.
func stoppingState(init int, killsAt time.Time) *instance.StoppingState {
	st := &instance.StoppingState{Name: "the command", Reacts: "has not ended on", KillsAt: killsAt.Truncate(time.Millisecond)}
	st.PID = instance.FirstChild(init)
	if st.PID == 0 {
		return st
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", st.PID))
	if name := procfs.StatusField(status, "Name"); len(name) > 0 {
		st.Name = strings.Join(name, " ")
	}
	switch {
	case procfs.HasSignal(status, "SigIgn", syscall.SIGTERM):
		st.Reacts = "ignores"
	case procfs.HasSignal(status, "SigBlk", syscall.SIGTERM):
		st.Reacts = "blocks"
	}
	return st
}
