package target

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// kinds are the namespaces of a process: their names below /proc/PID/ns and the flags of setns(2).
var kinds = []struct {
	name string
	flag int
}{
	{"user", unix.CLONE_NEWUSER},
	{"mnt", unix.CLONE_NEWNS},
	{"net", unix.CLONE_NEWNET},
	{"pid", unix.CLONE_NEWPID},
	{"ipc", unix.CLONE_NEWIPC},
	{"uts", unix.CLONE_NEWUTS},
	{"cgroup", unix.CLONE_NEWCGROUP},
	{"time", unix.CLONE_NEWTIME},
}

// Name returns the name below /proc/PID/ns of the kind of namespace that setns(2) has the flag for.
func Name(flag int) string {
	for _, k := range kinds {
		if k.flag == flag {
			return k.name
		}
	}
	return ""
}

// Identity is what a process may do, as far as another one can take it on.
type Identity struct {
	// UID and GID are the real ids as numbers of its own user namespace, -1 where they have none.
	UID int
	GID int
	// OuterUID, OuterGID and Groups are as numbers of the user namespace of who looked.
	OuterUID   int
	OuterGID   int
	Groups     []int
	Bounding   uint64
	Permitted  uint64
	NoNewPrivs bool
	// UIDMap is its user namespace's, "" where that is the one of who looked.
	UIDMap string
}

// MayBe reports whether who is inside may have the rights of a user outside.
func (id *Identity) MayBe(uid int) bool {
	if id.UIDMap == "" {
		return id.OuterUID == 0 || id.OuterUID == uid
	}
	in, err := inner([]byte(id.UIDMap), uid)
	return err != nil || in >= 0
}

// Inside is a process seen from inside: its namespaces, its root directory and its identity, pinned.
type Inside struct {
	Identity
	// Namespaces are its namespaces by setns(2)'s flag. Kinds that the kernel doesn't have are
	// missing.
	Namespaces map[int]*os.File
	Root       *os.File // O_PATH
	Cgroups    string   // /proc/PID/cgroup
}

// Close lets go of it.
func (in *Inside) Close() {
	for _, f := range in.Namespaces {
		f.Close()
	}
	if in.Root != nil {
		in.Root.Close()
	}
}

// Inside looks into the target's process. It is an error that the process changes its user namespace
// meanwhile: then what was read would not belong together. Errors: [ErrGone].
func (t *Target) Inside() (*Inside, error) {
	in := &Inside{Namespaces: map[int]*os.File{}}
	// What is opened below this directory is this process's, whoever has its number later.
	dir, err := unix.Open(fmt.Sprintf("/proc/%d", t.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(dir)
		err = in.look(dir)
	}
	if t.Gone() {
		err = t.Ended("just now")
	} else if err != nil {
		err = fmt.Errorf("look into process %d: %w", t.PID, err)
	}
	if err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

func (in *Inside) look(dir int) error {
	for _, k := range kinds {
		f, err := openAt(dir, "ns/"+k.name, unix.O_RDONLY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		in.Namespaces[k.flag] = f
	}
	var err error
	if in.Root, err = openAt(dir, "root", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return err
	}
	cgroups, err := readAt(dir, "cgroup")
	if err != nil && !errors.Is(err, unix.ENOENT) { // a kernel without
		return err
	}
	in.Cgroups = string(cgroups)
	status, err := readAt(dir, "status")
	if err != nil {
		return err
	}
	uidMap, err := readAt(dir, "uid_map")
	if err != nil {
		return err
	}
	gidMap, err := readAt(dir, "gid_map")
	if err != nil {
		return err
	}
	if in.Identity, err = parseIdentity(status, uidMap, gidMap); err != nil {
		return err
	}
	user := in.Namespaces[unix.CLONE_NEWUSER]
	if user == nil {
		in.UID, in.GID, in.UIDMap = in.OuterUID, in.OuterGID, ""
		return nil // a kernel without
	}
	if own, err := sameNS(user, "/proc/self/ns/user"); err != nil {
		return err
	} else if own { // whose maps are shown as those of its parent (user_namespaces(7))
		in.UID, in.GID, in.UIDMap = in.OuterUID, in.OuterGID, ""
	}
	again, err := openAt(dir, "ns/user", unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer again.Close()
	if same, err := Same(user, again); err != nil || !same {
		return errors.Join(err, errors.New("it is changing its user namespace"))
	}
	return nil
}

func openAt(dir int, path string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func readAt(dir int, path string) ([]byte, error) {
	f, err := openAt(dir, path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// parseIdentity reads /proc/PID/status, uid_map and gid_map (proc(5), user_namespaces(7)).
func parseIdentity(status, uidMap, gidMap []byte) (Identity, error) {
	id := Identity{OuterUID: -1, OuterGID: -1, UIDMap: string(uidMap)}
	found := 0
	sc := bufio.NewScanner(bytes.NewReader(status))
	sc.Buffer(nil, 1<<20) // 65536 groups
	for sc.Scan() {
		name, value, _ := strings.Cut(sc.Text(), ":")
		f := strings.Fields(value)
		var err error
		switch {
		case name == "Groups":
			for _, g := range f {
				n, gerr := strconv.Atoi(g)
				err = errors.Join(err, gerr)
				id.Groups = append(id.Groups, n)
			}
		case len(f) == 0:
			continue
		case name == "Uid":
			id.OuterUID, err = strconv.Atoi(f[0])
		case name == "Gid":
			id.OuterGID, err = strconv.Atoi(f[0])
		case name == "CapPrm":
			id.Permitted, err = strconv.ParseUint(f[0], 16, 64)
		case name == "CapBnd":
			id.Bounding, err = strconv.ParseUint(f[0], 16, 64)
		case name == "NoNewPrivs":
			id.NoNewPrivs = f[0] != "0"
		default:
			continue
		}
		if err != nil {
			return id, fmt.Errorf("/proc/PID/status: %w", err)
		}
		found++
	}
	if found < 5 || id.OuterUID < 0 || id.OuterGID < 0 {
		return id, errors.New("/proc/PID/status: not all is there")
	}
	var err error
	if id.UID, err = inner(uidMap, id.OuterUID); err != nil {
		return id, err
	}
	id.GID, err = inner(gidMap, id.OuterGID)
	return id, err
}

// inner translates an id into a user namespace by its map, as seen from outside.
func inner(idMap []byte, outer int) (int, error) {
	for line := range bytes.Lines(idMap) {
		var first, under, count int
		if _, err := fmt.Sscan(string(line), &first, &under, &count); err != nil {
			return -1, fmt.Errorf("id map %q: %w", line, err)
		}
		if outer >= under && outer-under < count {
			return first + outer - under, nil
		}
	}
	return -1, nil
}

// Same reports whether two descriptors are of the same namespace.
func Same(a, b *os.File) (bool, error) {
	s, err := a.Stat()
	if err != nil {
		return false, err
	}
	t, err := b.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(s, t), nil
}

// Ancestors returns a namespace of a kind with parents (user, PID) and those above it, up to but
// without the caller's own at path, the outermost first. It is an error that the caller's is not
// among them. The result is the caller's to close, also with an error.
func Ancestors(ns *os.File, path string) ([]*os.File, error) {
	var out []*os.File
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for {
		f := os.NewFile(uintptr(fd), "namespace")
		own, err := sameNS(f, path)
		if err != nil || own {
			f.Close()
			return out, err
		}
		out = append([]*os.File{f}, out...)
		if fd, err = unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_PARENT); err != nil {
			return out, fmt.Errorf("it is no descendant of the caller's own: ioctl(NS_GET_PARENT): %w", err)
		}
		unix.CloseOnExec(fd)
	}
}

// Here returns the number that the caller's PID namespace has for a process, of which the number in
// another process's one, a descendant's, is known; 0 if there is none.
func Here(in, pid int) int {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", in))
	if err != nil {
		return 0
	}
	defer ns.Close()
	level := len(numbers(in)) - 1
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		candidate, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if n := numbers(candidate); level < 0 || len(n) <= level || n[level] != pid {
			continue
		}
		theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", candidate))
		if err != nil {
			continue
		}
		above, _ := Ancestors(theirs, "/proc/self/ns/pid")
		theirs.Close()
		found := false
		for _, a := range above {
			same, err := Same(a, ns)
			found = found || same && err == nil
			a.Close()
		}
		if found {
			return candidate
		}
	}
	return 0
}

// numbers are what a process is called in its PID namespaces, the caller's first (proc(5), NSpid).
func numbers(pid int) (out []int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range bytes.Lines(status) {
		f := strings.Fields(string(line))
		if len(f) == 0 || f[0] != "NSpid:" {
			continue
		}
		for _, n := range f[1:] {
			v, _ := strconv.Atoi(n)
			out = append(out, v)
		}
	}
	return out
}

// Owner returns the user namespace that a namespace belongs to (ioctl_ns(2)).
func Owner(ns *os.File) (*os.File, error) { return owner(ns) }
