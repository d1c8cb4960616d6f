// Package atomicfile replaces files atomically. It exists because state, caches, PID files and bundles may be read
// while they are written, and a writer may be killed at any moment: a reader always sees the old file or the new one.
package atomicfile

import (
	"os"
	"path/filepath"
)

// Write replaces the file at path with one that has data and mode 0600. prepare, if not nil, is called with the new
// file before the replacement, for example to change its mode. A link at path is replaced, not followed. A writer that
// is killed may leave a file whose name begins with [TempPrefix].
func Write(path string, data []byte, prepare func(*os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix(filepath.Base(path))+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && prepare != nil {
		err = prepare(f)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// TempPrefix returns the prefix of the names of temporary files that are renamed to name.
func TempPrefix(name string) string { return "." + name + ".tmp" }
