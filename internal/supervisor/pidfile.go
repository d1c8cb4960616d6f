package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// writePIDFile writes the supervisor's PID where --pid-file says, whole or not at all, so that
// whoever waits for the file never reads half a number. It goes with the instance.
func (s *supervisor) writePIDFile() error {
	path := s.req.Options.PIDFile
	if path == "" {
		return nil
	}
	text := []byte(strconv.Itoa(os.Getpid()) + "\n")
	f, err := os.CreateTemp(filepath.Dir(path), ".pid-*")
	if err != nil {
		return fmt.Errorf("--pid-file: %w", err)
	}
	tmp := f.Name()
	_, err = f.Write(text)
	if cerr := f.Chmod(0o644); err == nil {
		err = cerr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("--pid-file: %w", err)
	}
	s.atEnd(func() {
		if now, err := os.ReadFile(path); err == nil && bytes.Equal(now, text) { // else it is another's by now
			os.Remove(path)
		}
	})
	return nil
}
