package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/atomicfile"
	"github.com/slirpctl/slirpctl/internal/trust"
)

// place is a possibly missing file: a name in an open directory, so that it stays the same place
// even if directories are renamed meanwhile. The name is not a symbolic link when it is found.
type place struct {
	dir  *os.File
	name string
}

// maxLinks is the kernel's limit (path_resolution(7)).
const maxLinks = 40

// findPlace walks an absolute path from the root, directory by directory, and follows only symbolic
// links of the caller or root: another user's could lead to a file that the caller may write
// and that user may not. The caller closes the place's directory.
func findPlace(path string) (p place, err error) {
	cur, err := openDirAt(unix.AT_FDCWD, "/")
	if err != nil {
		return place{}, err
	}
	defer func() {
		if err != nil {
			unix.Close(cur)
			err = &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}()
	todo := strings.Split(path, "/")
	for links := 0; len(todo) > 0; {
		name := todo[0]
		todo = todo[1:]
		if name == "" || name == "." {
			continue
		}
		target, err := readLink(cur, name)
		if err != nil && !(errors.Is(err, unix.ENOENT) && len(todo) == 0) {
			return place{}, err
		}
		next := -1
		switch {
		case target != "":
			if links++; links > maxLinks {
				return place{}, unix.ELOOP
			}
			todo = slices.Concat(strings.Split(target, "/"), todo)
			if !filepath.IsAbs(target) {
				continue
			}
			next, err = openDirAt(unix.AT_FDCWD, "/")
		case len(todo) == 0 && name != "..":
			return place{os.NewFile(uintptr(cur), filepath.Dir(path)), name}, nil
		default:
			next, err = openDirAt(cur, name)
		}
		if err != nil {
			return place{}, err
		}
		unix.Close(cur)
		cur = next
	}
	return place{}, unix.EISDIR
}

func openDirAt(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// readLink returns the target of a symbolic link, or "" if name is not one.
func readLink(dir int, name string) (target string, err error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return "", err
	}
	if uid := int(st.Uid); uid != os.Geteuid() && uid != 0 && uid != trust.UnmappedUID() {
		return "", fmt.Errorf("%s is a symbolic link of user %d", name, uid)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// open opens the file for reading; it does not wait for a pipe or follow a link.
func (p place) open() (*os.File, error) {
	fd, err := unix.Openat(int(p.dir.Fd()), p.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p.name, Err: err}
	}
	return os.NewFile(uintptr(fd), p.name), nil
}

// replace writes data to the place atomically; prepare is called on the new file first.
func (p place) replace(data []byte, prepare func(*os.File) error) error {
	path := fmt.Sprintf("/proc/self/fd/%d/%s", p.dir.Fd(), p.name)
	return atomicfile.Write(path, data, func(f *os.File) error {
		if err := prepare(f); err != nil {
			return err
		}
		return f.Sync()
	})
}
