package options

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
)

// world is a set of sources under a temporary root.
type world struct {
	t   *testing.T
	src Sources
}

func newWorld(t *testing.T) *world {
	return &world{t, Sources{Root: t.TempDir(), Environ: []string{"HOME=/home/me"}, UnprivilegedStart: 1024}}
}

func (w *world) env(kv ...string) *world {
	w.src.Environ = append(w.src.Environ, kv...)
	return w
}

func (w *world) file(path, content string) *world {
	w.t.Helper()
	path = filepath.Join(w.src.Root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w
}

func (w *world) load(args ...string) (Merged, error) {
	w.t.Helper()
	fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
	AddFlags(fs)
	AddGeneralFlags(fs)
	if err := fs.Parse(args); err != nil {
		w.t.Fatalf("parse %q: %v", args, err)
	}
	return Load(fs, w.src)
}

func (w *world) mustLoad(args ...string) Merged {
	w.t.Helper()
	m, err := w.load(args...)
	if err != nil {
		w.t.Fatalf("Load(%q): %v", args, err)
	}
	return m
}

// fails expects an *Error with exactly this text and hint.
func (w *world) fails(wantText, wantHint string, args ...string) {
	w.t.Helper()
	_, err := w.load(args...)
	var e *Error
	if !errors.As(err, &e) {
		w.t.Fatalf("Load(%q): got %v, want an *Error %q", args, err, wantText)
	}
	if e.Error() != wantText {
		w.t.Errorf("Load(%q)\n got %s\nwant %s", args, e.Error(), wantText)
	}
	if e.Help != wantHint {
		w.t.Errorf("Load(%q): hint\n got %s\nwant %s", args, e.Help, wantHint)
	}
}

func value(t *testing.T, m Merged, key string) Value {
	t.Helper()
	for _, v := range m.Values {
		if v.Key == key {
			return v
		}
	}
	t.Fatalf("no value for %s", key)
	return Value{}
}
