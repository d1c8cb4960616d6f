// Package atomicfile replaces files in one step. It exists because state, caches, PID files and bundles are read
// while they are written, and a writer may be killed at any moment: a reader finds the old file or the new one.
package atomicfile

import (
	"os"
	"path/filepath"
)

// Write puts data at path, for the caller alone unless prepare, called with the new file before it takes its place,
// says otherwise; nil does nothing. What lies at the path, a link for instance, is not written to. A writer that is
// killed leaves a file whose name begins with [TempPrefix].
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

// TempPrefix is what the names of files begin with that are to become the file called name.
func TempPrefix(name string) string { return "." + name + ".tmp" }
