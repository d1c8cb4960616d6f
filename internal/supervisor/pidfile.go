package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
)

// writePIDFile writes the supervisor's PID to the file of --pid-file atomically, so that a reader
// never sees part of the number. The file is removed when the instance stops.
func (s *supervisor) writePIDFile() error {
	path := s.req.Options.PIDFile
	if path == "" {
		return nil
	}
	text := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if err := atomicfile.Write(path, text, func(f *os.File) error { return f.Chmod(0o644) }); err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	s.atEnd(func() {
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, text) { // unless another process has replaced it
			os.Remove(path)
		}
	})
	return nil
}
