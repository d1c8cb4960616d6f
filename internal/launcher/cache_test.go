package launcher

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// elfBinary copies an ELF program that is no slirp4netns: only what the cache says can make it one.
func elfBinary(t *testing.T) string {
	t.Helper()
	in, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	head := make([]byte, 4096)
	if _, err := io.ReadFull(in, head); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "slirp4netns")
	writeFile(t, path, string(head), 0o755) // too short to run; Find does not mind
	return path
}

// settle waits until path's times are old enough to be believed.
func settle(t *testing.T, path string) {
	t.Helper()
	for {
		if _, ok := identify(path); ok {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestCacheRemembersAndForgets(t *testing.T) {
	t.Parallel()
	path := elfBinary(t)
	cache := Cache{Dir: t.TempDir()}
	want := Features(CIDR, MTU)
	hit := func() bool {
		t.Helper()
		b, err := cache.Detect(t.Context(), path)
		if err == nil && (b.Features != want || b.Path != path) {
			t.Errorf("remembered %+v", b)
		}
		return err == nil // asking this file fails
	}
	settle(t, path)
	id, ok := identify(path)
	if !ok {
		t.Fatal("an ELF file has no identity")
	}
	if hit() {
		t.Error("a hit in an empty cache")
	}
	if _, err := os.Stat(filepath.Join(cache.Dir, cacheFile)); err == nil {
		t.Error("a failure was remembered")
	}
	cache.store(cacheEntry{id, want, "1.2.3"})
	if !hit() {
		t.Fatal("not remembered")
	}

	// Every way to change the file, with its size and modification time put back.
	stat, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[100] ^= 1
	writeFile(t, path, string(data), 0o755)
	if err := os.Chtimes(path, time.Time{}, stat.ModTime()); err != nil {
		t.Fatal(err)
	}
	if hit() {
		t.Error("a hit although the file was just written")
	}
	settle(t, path)
	if hit() {
		t.Error("a hit although the file was written")
	}
	id, _ = identify(path)
	cache.store(cacheEntry{id, want, "1.2.3"})
	if !hit() {
		t.Fatal("not remembered")
	}
	if err := os.Rename(elfBinary(t), path); err != nil {
		t.Fatal(err)
	}
	settle(t, path)
	if hit() {
		t.Error("a hit although the file was replaced")
	}
}

func TestCacheBelievesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	path := elfBinary(t)
	settle(t, path)
	id, _ := identify(path)
	good := cacheEntry{Binary: id, Features: Features(MTU)}
	other := good
	other.Binary = "other" // as of a slirpctl that knew less
	text := func(e cacheEntry) string {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, tc := range []struct {
		name string
		make func(file string)
		hit  bool
	}{
		{"ours", func(file string) { writeFile(t, file, text(good), 0o600) }, true},
		{"older slirpctl's", func(file string) { writeFile(t, file, text(other), 0o600) }, false},
		{"cut off", func(file string) { writeFile(t, file, text(good)[:50], 0o600) }, false},
		{"empty", func(file string) { writeFile(t, file, "", 0o600) }, false},
		{"writable for others", func(file string) {
			writeFile(t, file, text(good), 0o600)
			if err := os.Chmod(file, 0o666); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a link", func(file string) {
			writeFile(t, file+"2", text(good), 0o600)
			if err := os.Symlink(file+"2", file); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a fifo", func(file string) {
			if err := unix.Mkfifo(file, 0o600); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"none", func(string) {}, false},
	} {
		cache := Cache{Dir: t.TempDir()}
		tc.make(filepath.Join(cache.Dir, cacheFile))
		if _, hit := cache.load(id); hit != tc.hit {
			t.Errorf("%s: hit %v", tc.name, hit)
		}
	}
}

// The real binary is asked once; a script every time; without a directory nothing breaks.
func TestCacheStores(t *testing.T) {
	t.Parallel()
	if path, err := Find(""); err == nil {
		if _, ok := identify(path); ok {
			cache := Cache{Dir: t.TempDir()}
			first, err := cache.Detect(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			id, _ := identify(path)
			if e, hit := cache.load(id); !hit || e.Features != first.Features {
				t.Errorf("not remembered: %v", list(e.Features))
			}
			if entries, _ := os.ReadDir(cache.Dir); len(entries) != 1 {
				t.Errorf("left %v", entries)
			}
		}
	}
	cache := Cache{Dir: t.TempDir()}
	if _, err := cache.Detect(t.Context(), fake(t, "v1.1.0")); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(cache.Dir); len(entries) != 0 {
		t.Errorf("a script was remembered: %v", entries)
	}
	none := Cache{Dir: "/nonexistent"}
	if b, err := none.Detect(t.Context(), fake(t, "v1.1.0")); err != nil || !b.Features.Has(DisableDNS) {
		t.Errorf("%+v, %v", b, err)
	}
}
