package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
)

// Cache stores features between runs, which saves `up` two processes (1 to 2 ms each). Help texts are
// compiled in, so an unchanged ELF file has unchanged features; a script may run any program, so
// it is not cached. Errors of reading and writing the cache are ignored.
type Cache struct {
	Dir string // private to this user; without it nothing is cached
}

const cacheFile = "slirp4netns-features.json"

// minAge is how long a file must be unchanged before its times identify its content: the kernel's
// clock for them is coarse, so that two writes may get the same time.
const minAge = 2 * time.Second

type cacheEntry struct {
	Binary   string     `json:"binary"` // see identify
	Features FeatureSet `json:"features"`
	Version  string     `json:"version"`
}

// Detect is the function [Detect] with a cache. A cached result has only [Version.Version] of the
// version: the rest is about libraries, which may be replaced without the binary.
func (c Cache) Detect(ctx context.Context, path string) (Binary, error) {
	found, err := Find(path)
	if err != nil {
		return Binary{Path: path}, err
	}
	id, ok := identify(found)
	if ok {
		if e, hit := c.load(id); hit && e.Version != "" {
			return Binary{Path: found, Features: e.Features, Version: Version{Version: e.Version}}, nil
		}
	}
	b, err := Detect(ctx, found)
	// Unless the file was replaced during the detection: then the result may be of either file.
	if again, _ := identify(found); err == nil && ok && again == id {
		c.store(cacheEntry{id, b.Features, b.Version.Version})
	}
	return b, err
}

// identify returns a text that changes whenever the file at path does, or the list of features that this slirpctl knows;
// ok is false if the file may change without it.
func identify(path string) (id string, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return "", false
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != "\x7fELF" {
		return "", false
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", false
	}
	// The ctime can't be set.
	return fmt.Sprint(path, st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim, AllFeatures()), time.Since(time.Unix(st.Ctim.Unix())) > minAge
}

// load returns the entry for id. It ignores a file that others may have written.
func (c Cache) load(id string) (e cacheEntry, hit bool) {
	f, err := os.OpenFile(filepath.Join(c.Dir, cacheFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return e, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return e, false
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return e, false
	}
	if err := json.NewDecoder(io.LimitReader(f, detectMaxOutput)).Decode(&e); err != nil || e.Binary != id {
		return cacheEntry{}, false
	}
	return e, true
}

// store replaces the cache file atomically.
func (c Cache) store(e cacheEntry) {
	data, err := json.Marshal(e)
	if err != nil {
		return
	}
	_ = atomicfile.Write(filepath.Join(c.Dir, cacheFile), data, nil) // on an error it is detected again
}
