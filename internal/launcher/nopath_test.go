package launcher

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFindWithoutPATH: a hook may have no environment at all.
func TestFindWithoutPATH(t *testing.T) {
	t.Setenv("PATH", "")
	os.Unsetenv("PATH")
	// Something that is in a usual directory on every machine stands for slirp4netns.
	found, err := Find("sh")
	if err != nil || !filepath.IsAbs(found) {
		t.Errorf("Find: %q, %v", found, err)
	}
	_, err = Find("slirpctl-no-such-program")
	if err == nil || !strings.Contains(err.Error(), "PATH is not set") {
		t.Errorf("error %v", err)
	}
}
