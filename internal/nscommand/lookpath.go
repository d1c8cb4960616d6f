package nscommand

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Candidates returns the paths to try for a command, as a shell does: along PATH unless the name has a
// slash; an empty element of PATH is the current directory.
func Candidates(name, path string) []string {
	if name == "" || strings.Contains(name, "/") {
		return []string{name}
	}
	var out []string
	for _, dir := range filepath.SplitList(path) {
		out = append(out, cmp.Or(dir, ".")+"/"+name)
	}
	return out
}

// lookPath finds a command as a shell does. A file that can't be executed is reported (fs.ErrPermission) only
// if no later element of PATH has one that can; directories that can't be searched are skipped.
func lookPath(name string) (string, error) {
	var found error = fs.ErrNotExist
	for _, path := range Candidates(name, os.Getenv("PATH")) {
		fi, err := os.Stat(path)
		if err == nil && fi.IsDir() {
			err = unix.EISDIR
		}
		switch {
		case err == nil:
			if found = unix.Access(path, unix.X_OK); found == nil {
				return path, nil
			}
		case path == name:
			if pe, ok := err.(*fs.PathError); ok {
				err = pe.Err
			}
			found = err
		}
	}
	return "", found
}

// Check checks, before the namespaces are made, that COMMAND can be found and executed. Error:
// [*ExecError].
func Check(name string) error {
	if _, err := lookPath(name); err != nil {
		return cannotRun(name, err)
	}
	return nil
}

// cannotRun returns the error for a COMMAND that was not executed.
func cannotRun(name string, err error) *ExecError {
	if errors.Is(err, fs.ErrNotExist) {
		return &ExecError{StatusNotFound, name + ": command not found"}
	}
	return &ExecError{StatusCannotRun, name + ": " + err.Error()}
}
