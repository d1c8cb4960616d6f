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
)

// resolvFile is the file in a bundle that its containers see as /etc/resolv.conf.
const resolvFile = "slirpctl-resolv.conf"

// Setup is what a bundle is to have.
type Setup struct {
	Up, Down Hook // createRuntime and poststop; see [Config.SetHook]
	// ResolvConf is the content of /etc/resolv.conf where nothing is mounted there; "": leave it.
	ResolvConf string
}

// Bundle is a directory with a config.json.
type Bundle struct {
	*Config
	dir    string // absolute
	config string // the file itself, behind links
	old    []byte
	mode   fs.FileMode
	owner  *syscall.Stat_t

	resolvConf string // to be written to resolvFile; "": nothing
}

// OpenBundle reads a bundle's config.json, at most [MaxConfig] bytes. Error: [*ConfigError].
func OpenBundle(dir string) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	shown := filepath.Join(dir, "config.json")
	file, err := filepath.EvalSymlinks(shown)
	if err != nil {
		return nil, openError(shown, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, openError(shown, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, openError(shown, err)
	}
	if !fi.Mode().IsRegular() {
		return nil, &ConfigError{shown, "not a regular file", nil}
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxConfig+1))
	if err != nil {
		return nil, openError(shown, err)
	}
	if len(data) > MaxConfig {
		return nil, &ConfigError{shown, fmt.Sprintf("longer than %d bytes", MaxConfig), nil}
	}
	c, err := ParseConfig(shown, data)
	if err != nil {
		return nil, err
	}
	owner, _ := fi.Sys().(*syscall.Stat_t)
	return &Bundle{Config: c, dir: dir, config: file, old: data, mode: fi.Mode().Perm(), owner: owner}, nil
}

// openError words what the file system says.
func openError(path string, err error) error {
	e := &ConfigError{path, err.Error(), err}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		e.Reason = pe.Err.Error()
	}
	return e
}

// OwnedBy reports whether config.json belongs to the user.
func (b *Bundle) OwnedBy(uid int) bool { return b.owner != nil && int(b.owner.Uid) == uid }

// Apply changes the configuration in memory. What is there already stays as it is, so applying twice
// is the same as once. Error: [*ConfigError].
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

// Write puts the bundle's files into place, each in one step; config.json keeps its mode and
// owner, and its time too if nothing has changed.
func (b *Bundle) Write() error {
	if b.resolvConf != "" {
		// Readable for every user of the container, whatever the umask.
		if err := b.replace(filepath.Join(b.dir, resolvFile), []byte(b.resolvConf), 0o644); err != nil {
			return err
		}
	}
	if bytes.Equal(b.old, b.Bytes()) {
		return nil
	}
	return b.replace(b.config, b.Bytes(), b.mode)
}

func (b *Bundle) replace(path string, data []byte, mode fs.FileMode) (err error) {
	if have, rerr := os.ReadFile(path); rerr == nil && bytes.Equal(have, data) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".slirpctl-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if os.Geteuid() == 0 && b.owner != nil {
		if err = f.Chown(int(b.owner.Uid), int(b.owner.Gid)); err != nil {
			return err
		}
	}
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
