package launcher

import (
	"strconv"
	"strings"
)

// Version is the output of `slirp4netns --version`. Fields that are not printed are empty:
// Libslirp was added in 1.0.0, ConfigVersionMax in 1.1.0.
type Version struct {
	Version          string `json:"version"`          // "1.2.0", "1.3.2+dev"
	Commit           string `json:"commit"`           // a git hash, or "unknown"
	Libslirp         string `json:"libslirp"`         // the library in use, "4.7.0"
	ConfigVersionMax string `json:"configVersionMax"` // SLIRP_CONFIG_VERSION_MAX, "4"
	Libseccomp       string `json:"libseccomp"`       // "2.5.4"
}

// ParseVersion parses the output of `slirp4netns --version`. For any other text the result's
// Version is empty.
func ParseVersion(text string) Version {
	var v Version
	for line := range strings.Lines(text) {
		line = Printable(strings.TrimSpace(line))
		if rest, ok := strings.CutPrefix(line, "slirp4netns version "); ok && v.Version == "" {
			v.Version, _, _ = strings.Cut(strings.TrimSpace(rest), " ")
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "commit":
			v.Commit = value
		case "libslirp":
			v.Libslirp = value
		case "SLIRP_CONFIG_VERSION_MAX":
			v.ConfigVersionMax = value
		case "libseccomp":
			v.Libseccomp = value
		}
	}
	return v
}

// AtLeast reports whether the version is major.minor.patch or later. known is false if the
// version is empty or does not begin with three numbers. It is for the few behaviours that the
// help text does not show; everything else is a [Feature].
func (v Version) AtLeast(major, minor, patch int) (yes, known bool) {
	text, _, _ := strings.Cut(v.Version, "+")
	text, pre, isPre := strings.Cut(text, "-")
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return false, false
	}
	for i, want := range [3]int{major, minor, patch} {
		have, err := strconv.ParseUint(parts[i], 10, 31)
		if err != nil {
			return false, false
		}
		if int(have) != want {
			return int(have) > want, true
		}
	}
	return !isPre || pre == "", true // 1.2.1-beta comes before 1.2.1
}
