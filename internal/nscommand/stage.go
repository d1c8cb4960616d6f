package nscommand

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

type failure struct {
	Status int    `json:"status"`
	Msg    string `json:"msg"`
}

// stage is what the processes that become a command have in common: the socket to who started
// them, over which they are set up, let go, and report what went wrong.
type stage struct {
	conn *os.File
	dec  *json.Decoder // of the setup, which comes first
}

// executing is what the stage says last: an end of file without is its death.
const executing = "run\n"

func newStage(fd int) *stage {
	conn := os.NewFile(uintptr(fd), "command")
	return &stage{conn, json.NewDecoder(conn)}
}

// released waits for the word to go on; false means that the other end gave up.
func (st *stage) released() bool {
	var word strings.Builder
	_, err := io.Copy(&word, io.LimitReader(io.MultiReader(st.dec.Buffered(), st.conn), int64(len("\ngo\n"))))
	return err == nil && strings.TrimSpace(word.String()) == "go"
}

// fail reports why there will be no command, and returns the status to exit with.
func (st *stage) fail(status int, format string, a ...any) int {
	data, _ := json.Marshal(failure{status, fmt.Sprintf(format, a...)})
	_, _ = st.conn.Write(data)
	return status
}

// become finds and executes the command, which dies with parent. It returns only on failure.
func (st *stage) become(argv []string, parent int) int {
	if err := dieWithParent(parent); err != nil {
		return st.fail(StatusFailed, "%v", err)
	}
	path, err := lookPath(argv[0])
	if err == nil {
		_, _ = io.WriteString(st.conn, executing)
		err = syscall.Exec(path, argv, os.Environ())
	}
	if errors.Is(err, os.ErrNotExist) {
		return st.fail(StatusNotFound, "%s: command not found", argv[0])
	}
	return st.fail(StatusCannotRun, "%s: %v", argv[0], err)
}
