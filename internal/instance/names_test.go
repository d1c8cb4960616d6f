package instance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNaturalOrder(t *testing.T) {
	want := []string{"1", "2", "10", "a", "a-1", "a01", "a1", "a1b", "a2", "a10", "ab", "job2", "job2.9", "job2.10", "job10", "job99999999999999999998", "job99999999999999999999"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, CompareNames)
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzCompareNames: it is an order.
func FuzzCompareNames(f *testing.F) {
	f.Add("job2", "job10", "job02")
	f.Fuzz(func(t *testing.T, x, y, z string) {
		if CompareNames(x, y) != -CompareNames(y, x) || (CompareNames(x, y) == 0) != (x == y) {
			t.Errorf("%q and %q", x, y)
		}
		if CompareNames(x, y) < 0 && CompareNames(y, z) < 0 && CompareNames(x, z) >= 0 {
			t.Errorf("%q, %q, %q", x, y, z)
		}
	})
}

func TestFullName(t *testing.T) {
	base, err := OpenBase(t.TempDir() + "/s")
	if err != nil {
		t.Fatal(err)
	}
	id, twin := strings.Repeat("0123456789abcdef", 4), strings.Repeat("0123456789abcdef", 3)+"0000000000000000"
	other := strings.Repeat("f", 64)
	for _, name := range []string{id, twin, other, strings.Repeat("e", 20)} {
		if err := os.Mkdir(filepath.Join(base.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		other[:12]: other, other[:63]: other, other: other,
		other[:11]: other[:11], id[:12]: id[:12], id[:50]: id, strings.Repeat("e", 12): strings.Repeat("e", 12),
		"web": "web", "ffffffffffff*": "ffffffffffff*", "../ffffffffffff": "../ffffffffffff",
	} {
		if got := base.fullName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
