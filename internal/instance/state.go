package instance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// Status is the state of an instance, as `list` shows it.
type Status string

// The states of an instance.
const (
	Running    Status = "running"
	Restarting Status = "restarting" // slirp4netns died and is being started again
	Stopped    Status = "stopped"    // slirp4netns is stopped by a signal
	Stopping   Status = "stopping"   // it was asked to end, and waits for COMMAND
	Exited     Status = "exited"     // COMMAND has ended; this is its record
	// Dead means that the supervisor is alive, but the network is lost for good, or the supervisor doesn't
	// answer and there is no readable state file.
	Dead Status = "dead"
)

// Statuses returns all states.
func Statuses() []Status { return []Status{Running, Restarting, Stopped, Stopping, Exited, Dead} }

// State describes an instance: the object that `up --json` and `list --json` print.
// Fields may be added, but are never renamed.
type State struct {
	Name          string           `json:"name"`
	State         Status           `json:"state"`
	Target        TargetState      `json:"target"`
	SupervisorPID int              `json:"supervisorPid"`
	SlirpPID      int              `json:"slirp4netnsPid"`
	Tap           string           `json:"tap"`
	MTU           int              `json:"mtu"`
	CIDR          subnet.Network   `json:"cidr"`
	Guest         netip.Addr       `json:"guest"`
	Gateway       netip.Addr       `json:"gateway"`
	DNS           netip.Addr       `json:"dns"`
	IPv6          *IPv6State       `json:"ipv6"`
	PortHandler   string           `json:"portHandler"`
	Ports         []hostfwd.Status `json:"ports"`
	StateDir      string           `json:"stateDir"`
	APISocket     string           `json:"apiSocket"`
	ControlSocket string           `json:"controlSocket"`
	Log           string           `json:"log"`
	Slirp         SlirpState       `json:"slirp4netns"`
	StartedAt     time.Time        `json:"startedAt"`
	Restarts      int              `json:"restarts"`
	Error         string           `json:"error,omitempty"` // why it is dead
	// Stopping is what it waits for in the state [Stopping]; else nil.
	Stopping *StoppingState `json:"stopping,omitempty"`
	// ExitStatus is COMMAND's, and EndedAt when it ended, in the state [Exited]; else nil.
	ExitStatus        *int       `json:"exitStatus,omitempty"`
	EndedAt           *time.Time `json:"endedAt,omitempty"`
	Sandbox           bool       `json:"sandbox"`
	Seccomp           bool       `json:"seccomp"`
	DisableDNS        bool       `json:"disableDns"`
	AllowHostLoopback bool       `json:"allowHostLoopback"`
	// Egress is the mode of the egress rules: open (there are none), log or deny.
	Egress    egress.Mode    `json:"egress"`
	Container *Container     `json:"container,omitempty"`
	Processes []ProcessState `json:"processes"`
}

// StoppingState is what an instance waits for in the state [Stopping]: the end of COMMAND.
type StoppingState struct {
	PID     int       `json:"pid"` // COMMAND's own; 0 if it can't be determined
	Name    string    `json:"name"`
	Reacts  string    `json:"reacts"` // "has not ended on", "ignores" or "blocks" TERM
	KillsAt time.Time `json:"killsAt"`
}

// TargetState describes the target of an instance. PID is 0 and Program "" for a netns path; Command
// is set for `up -- COMMAND`.
type TargetState struct {
	PID     int      `json:"pid"`
	Program string   `json:"program"`
	Netns   string   `json:"netns"`
	Userns  string   `json:"userns"`
	Command []string `json:"command,omitempty"`
	User    string   `json:"user,omitempty"` // as whom COMMAND runs: root or keep
}

// Container is the OCI container that an instance was made for.
type Container struct {
	ID     string `json:"id"`
	Bundle string `json:"bundle"`
}

// IPv6State holds the addresses of the guest's IPv6 network.
type IPv6State struct {
	CIDR    netip.Prefix `json:"cidr"`
	Guest   netip.Addr   `json:"guest"`
	Gateway netip.Addr   `json:"gateway"`
	DNS     netip.Addr   `json:"dns"`
}

// SlirpState says which slirp4netns runs.
type SlirpState struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// ProcessState identifies a process of the instance, even if its PID is reused: Start is the
// start time in clock ticks since boot, field 22 of /proc/PID/stat (proc(5)).
type ProcessState struct {
	Role  string `json:"role"` // "supervisor", "slirp4netns" or "command"
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`

	namespace uint64 // inode of the PID namespace of PID; 0: unknown, taken to be the reader's
}

func writeState(dir string, st *State) error {
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, stateFile), data, nil); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// ParseState parses the content of a state file. It fails unless that is the complete state
// of an instance of that name.
func ParseState(data []byte, name string) (*State, error) {
	var st State
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	if st.Name != name || st.SupervisorPID <= 0 || len(st.Processes) == 0 {
		return nil, fmt.Errorf("state file: not the state of %q", name)
	}
	if p := st.Processes[0]; p.Role != "supervisor" || p.PID != st.SupervisorPID {
		return nil, fmt.Errorf("state file: no supervisor")
	}
	return &st, nil
}

func readState(dir, name string) (*State, error) {
	data, err := readSmall(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	return ParseState(data, name)
}

// maxState is how much is read of a state file, in bytes. A state file has a few KB, and up to
// 150 bytes for each forward.
const maxState = 16 << 20

// readSmall reads a regular file. It does not block on other files, such as a FIFO.
func readSmall(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is not a regular file", path))
	}
	return io.ReadAll(io.LimitReader(f, maxState))
}
