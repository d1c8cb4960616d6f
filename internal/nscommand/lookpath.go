package nscommand

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lookPath finds a command as a shell does: along PATH unless the name has a slash; an empty element
// of PATH is the current directory. A file that can't be executed is reported (fs.ErrPermission) only
// if no later element has one that can; directories that can't be searched are skipped.
func lookPath(name string) (string, error) {
	if name == "" {
		return "", fs.ErrNotExist
	}
	if strings.Contains(name, "/") {
		return name, runnable(name)
	}
	var found error = fs.ErrNotExist
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if dir == "" {
			dir = "."
		}
		path := dir + "/" + name
		if fi, err := os.Stat(path); err != nil || fi.IsDir() {
			continue
		}
		err := unix.Access(path, unix.X_OK)
		if err == nil {
			return path, nil
		}
		found = err
	}
	return "", found
}

func runnable(path string) error {
	fi, err := os.Stat(path)
	switch {
	case err != nil:
		if pe, ok := err.(*fs.PathError); ok {
			return pe.Err
		}
		return err
	case fi.IsDir():
		return unix.EISDIR
	}
	return unix.Access(path, unix.X_OK)
}

// Check checks, before the namespaces are made, that COMMAND can be found and executed. Error:
// [*ExecError].
func Check(name string) error {
	_, err := lookPath(name)
	switch {
	case err == nil:
		return nil
	case os.IsNotExist(err):
		return &ExecError{StatusNotFound, name + ": command not found"}
	default:
		return &ExecError{StatusCannotRun, name + ": " + err.Error()}
	}
}
