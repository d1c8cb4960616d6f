package instance

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"
)

// ShortID is how many digits of a container's id `list` shows, and the least that stand for the whole id.
const ShortID = 12

const longID = 64

// fullName returns the name of the only instance that is named after a container whose id begins with name, or name.
func (b Base) fullName(name string) string {
	if len(name) < ShortID || len(name) >= longID || strings.Trim(name, "0123456789abcdef") != "" {
		return name
	}
	if _, err := os.Lstat(filepath.Join(b.dir, name)); err == nil {
		return name
	}
	found := ""
	all, _ := filepath.Glob(filepath.Join(b.dir, name+"*"))
	for _, path := range all {
		id := filepath.Base(path)
		if len(id) != longID || strings.Trim(id, "0123456789abcdef") != "" {
			continue
		}
		if found != "" {
			return name // it is ambiguous
		}
		found = id
	}
	return cmp.Or(found, name)
}

// CompareNames compares names in natural order: numbers in them by their value, so that job2 is before job10.
func CompareNames(x, y string) int {
	for i, j := 0, 0; ; {
		if i == len(x) || j == len(y) {
			return cmp.Or(cmp.Compare(len(x)-i, len(y)-j), strings.Compare(x, y))
		}
		n, m := digits(x[i:]), digits(y[j:])
		if n == 0 || m == 0 {
			if x[i] != y[j] {
				return cmp.Compare(x[i], y[j])
			}
			i, j = i+1, j+1
			continue
		}
		a, b := strings.TrimLeft(x[i:i+n], "0"), strings.TrimLeft(y[j:j+m], "0")
		if c := cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)); c != 0 {
			return c
		}
		i, j = i+n, j+m
	}
}

// digits returns how many digits s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
