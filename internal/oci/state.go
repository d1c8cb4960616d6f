// Package oci handles the two documents that OCI runtimes and slirpctl exchange: the state that
// a runtime passes to its hooks, and the bundle's config.json that names the hooks. It exists so
// that neither is trusted without checks, and so that config.json is edited without changing what
// other programs wrote there.
package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// MaxState is the maximum size of a state, in bytes. Runtimes write a few hundred; only
// annotations can make it much longer.
const MaxState = 1 << 20

// badState returns the error for an invalid container state; cause may be nil.
func badState(reason string, cause error) error {
	return &fault.Error{
		Kind: fault.Usage, Msg: "OCI state: " + reason, Err: cause, Help: "runtimes hand it to their hooks, and runc state ID prints it",
	}
}

// ErrNoProcess is returned for a container without a process, which has no namespace to enter.
var ErrNoProcess = fault.New(fault.NotFound, "has no process", "")

// ReadState reads a state from r, at most [MaxState] bytes. Errors are of the kind [fault.Usage].
func ReadState(r io.Reader) (*specs.State, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxState+1))
	if err != nil {
		return nil, badState("can't be read: "+err.Error(), err)
	}
	if len(data) > MaxState {
		return nil, badState(fmt.Sprintf("longer than %d bytes", MaxState), nil)
	}
	return ParseState(data)
}

// ParseState parses a state. Unknown fields are ignored, because runtimes add their own. An
// ambiguous state is rejected: one that is no object, lacks its id, has a negative pid, or is
// followed by other data. Errors are of the kind [fault.Usage].
func ParseState(data []byte) (*specs.State, error) {
	trimmed := bytes.Trim(data, " \t\r\n") // white space in JSON
	if len(trimmed) == 0 {
		return nil, badState("empty", io.ErrUnexpectedEOF)
	}
	if trimmed[0] != '{' {
		return nil, badState("not a JSON object", nil)
	}
	var st specs.State
	if err := json.Unmarshal(trimmed, &st); err != nil {
		return nil, badState(jsonReason(err), err)
	}
	switch {
	case st.ID == "":
		return nil, badState("no id", nil)
	case st.Pid < 0 || st.Pid > 1<<22: // PID_MAX_LIMIT, proc(5)
		return nil, badState(fmt.Sprintf("pid %d is not a process id", st.Pid), nil)
	case strings.ContainsRune(st.Bundle, 0):
		return nil, badState("a bundle with a NUL byte", nil)
	}
	if _, err := InstanceName(st.ID); err != nil {
		return nil, err
	}
	return &st, nil
}

// jsonReason returns a readable reason for an error of encoding/json.
func jsonReason(err error) string {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON: %v at byte %d", syntax, syntax.Offset)
	case errors.As(err, &typ):
		return fmt.Sprintf("%s is a %s, want %s", typ.Field, typ.Value, typ.Type)
	}
	return err.Error()
}
