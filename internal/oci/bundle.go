package oci

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// resolvFile is the file in a bundle that its containers see as /etc/resolv.conf.
const resolvFile = "slirpctl-resolv.conf"

// Setup is the change that [Bundle.Apply] makes.
type Setup struct {
	Up, Down specs.Hook // createRuntime and poststop; see [Config.SetHook]
	// ResolvConf is the content for /etc/resolv.conf if nothing is mounted there; "": leave it unchanged.
	ResolvConf string
}

// Bundle is a directory with a config.json. The caller closes it.
type Bundle struct {
	*Config
	dir    string // absolute
	config place  // with links resolved
	old    []byte
	mode   fs.FileMode
	owner  *syscall.Stat_t

	resolvConf string // content of resolvFile; "": don't write it
}

// OpenBundle reads a bundle's config.json, at most [MaxConfig] bytes. Symbolic links are followed
// only if they belong to the caller or root. Errors are of the kind [fault.Usage].
func OpenBundle(dir string) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	shown := filepath.Join(dir, "config.json")
	config, err := findPlace(shown)
	if err != nil {
		return nil, openError(shown, err)
	}
	b := &Bundle{dir: dir, config: config}
	if err := b.read(shown); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close closes the directory of config.json.
func (b *Bundle) Close() { b.config.dir.Close() }

func (b *Bundle) read(shown string) error {
	f, err := b.config.open()
	if err != nil {
		return openError(shown, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return openError(shown, err)
	}
	if !fi.Mode().IsRegular() {
		return badConfig(shown, "not a regular file", nil)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return openError(shown, err)
	}
	if len(data) > MaxConfig {
		return badConfig(shown, fmt.Sprintf("longer than %d bytes", MaxConfig), nil)
	}
	b.Config, err = ParseConfig(shown, data)
	b.old, b.mode = data, fi.Mode().Perm()
	b.owner, _ = fi.Sys().(*syscall.Stat_t)
	return err
}

// openError returns the error for a failure to open path.
func openError(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return badConfig(path, pe.Err.Error(), err)
	}
	return badConfig(path, err.Error(), err)
}

// OwnedBy reports whether config.json belongs to the user.
func (b *Bundle) OwnedBy(uid int) bool { return b.owner != nil && int(b.owner.Uid) == uid }

// Apply changes the configuration in memory. Existing entries stay as they are, so applying twice
// equals applying once. Errors are of the kind [fault.Usage].
func (b *Bundle) Apply(s Setup) error {
	if err := b.SetHook(CreateRuntime, s.Up); err != nil {
		return err
	}
	if err := b.SetHook(Poststop, s.Down); err != nil {
		return err
	}
	if err := b.AddNetworkNamespace(); err != nil {
		return err
	}
	if s.ResolvConf == "" {
		return nil
	}
	mounted, err := b.MountResolvConf(filepath.Join(b.dir, resolvFile))
	if mounted {
		b.resolvConf = s.ResolvConf
	}
	return err
}

// Write replaces each of the bundle's files atomically; config.json keeps its mode and owner, and
// is not written if nothing has changed.
func (b *Bundle) Write() error {
	if b.resolvConf != "" {
		path := filepath.Join(b.dir, resolvFile)
		p, err := findPlace(path)
		if err != nil {
			return err
		}
		defer p.dir.Close()
		// Readable by every user of the container, regardless of the umask.
		if err := b.replace(p, path, []byte(b.resolvConf), 0o644); err != nil {
			return err
		}
	}
	if bytes.Equal(b.old, b.Bytes()) {
		return nil
	}
	return b.replace(b.config, filepath.Join(b.dir, "config.json"), b.Bytes(), b.mode)
}

// replace writes a file, with config.json's owner, unless it already has this content.
func (b *Bundle) replace(p place, shown string, data []byte, mode fs.FileMode) error {
	if f, err := p.open(); err == nil {
		have, err := io.ReadAll(io.LimitReader(f, MaxConfig))
		f.Close()
		if err == nil && bytes.Equal(have, data) {
			return nil
		}
	}
	err := p.replace(data, func(f *os.File) error {
		if os.Geteuid() == 0 && b.owner != nil {
			if err := f.Chown(int(b.owner.Uid), int(b.owner.Gid)); err != nil {
				return err
			}
		}
		return f.Chmod(mode)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", shown, err)
	}
	return nil
}
