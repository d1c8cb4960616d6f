package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
)

// writePIDFile writes the supervisor's PID where --pid-file says, whole or not at all, so that
// whoever waits for the file never reads half a number. It goes with the instance.
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
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, text) { // else it is another's by now
			os.Remove(path)
		}
	})
	return nil
}
