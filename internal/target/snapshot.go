package target

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"github.com/slirpctl/slirpctl/internal/procfs"
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

// Name returns the name below /proc/PID/ns of the kind of namespace with the given setns(2) flag.
func Name(flag int) string {
	for _, k := range kinds {
		if k.flag == flag {
			return k.name
		}
	}
	return ""
}

// Identity has a process's ids and capabilities that another process can assume.
type Identity struct {
	// UID and GID are the real ids in its own user namespace, -1 if they are not mapped.
	UID int
	GID int
	// OuterUID, OuterGID and Groups are ids in the caller's user namespace.
	OuterUID   int
	OuterGID   int
	Groups     []int
	Bounding   uint64
	Permitted  uint64
	NoNewPrivs bool
	// UIDMap is the map of its user namespace, "" if that is the caller's.
	UIDMap string
}

// MayBecome reports whether a process of that user namespace may have, or get, the rights of user uid of the caller's.
func (id *Identity) MayBecome(uid int) bool {
	if id.UIDMap == "" {
		return id.OuterUID == 0 || id.OuterUID == uid
	}
	innerUID, err := mapID([]byte(id.UIDMap), uid)
	return err != nil || innerUID >= 0
}

// Snapshot has the namespaces, root directory and identity of a process, pinned by descriptors.
type Snapshot struct {
	Identity
	// Namespaces are its namespaces by setns(2)'s flag. Kinds that the kernel doesn't have are
	// missing.
	Namespaces map[int]*os.File
	Root       *os.File // O_PATH
	Cgroups    string   // /proc/PID/cgroup
}

// Close closes the descriptors.
func (s *Snapshot) Close() {
	for _, f := range s.Namespaces {
		f.Close()
	}
	if s.Root != nil {
		s.Root.Close()
	}
}

// Snapshot returns a snapshot of the target's process. It fails if the process changes its user namespace
// meanwhile, because the parts would not be consistent. Errors: [ErrGone].
func (t *Target) Snapshot() (*Snapshot, error) {
	s := &Snapshot{Namespaces: map[int]*os.File{}}
	// Files opened below this directory are this process's, even if its PID is reused.
	dir, err := unix.Open(fmt.Sprintf("/proc/%d", t.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(dir)
		err = s.read(dir)
	}
	if t.Gone() {
		err = t.Ended("just now")
	} else if err != nil {
		err = fmt.Errorf("inspect process %d: %w", t.PID, err)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Snapshot) read(dir int) error {
	for _, k := range kinds {
		f, err := openAt(dir, "ns/"+k.name, unix.O_RDONLY)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		s.Namespaces[k.flag] = f
	}
	var err error
	if s.Root, err = openAt(dir, "root", unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return err
	}
	var cgroups, status, uidMap, gidMap []byte
	for name, to := range map[string]*[]byte{"cgroup": &cgroups, "status": &status, "uid_map": &uidMap, "gid_map": &gidMap} {
		*to, err = readAt(dir, name)
		if err != nil && !(name == "cgroup" && errors.Is(err, unix.ENOENT)) { // missing in a kernel without cgroups
			return err
		}
	}
	s.Cgroups = string(cgroups)
	if s.Identity, err = parseIdentity(status, uidMap, gidMap); err != nil {
		return err
	}
	user := s.Namespaces[unix.CLONE_NEWUSER]
	own := user == nil // a kernel without user namespaces
	if !own {
		if own, err = SameAs(user, "/proc/self/ns/user"); err != nil {
			return err
		}
	}
	if own { // its maps are relative to its parent (user_namespaces(7))
		s.UID, s.GID, s.UIDMap = s.OuterUID, s.OuterGID, ""
	}
	if user == nil {
		return nil
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
func parseIdentity(status, uidMap, gidMap []byte) (id Identity, err error) {
	first := func(field string) string { return append(procfs.StatusField(status, field), "")[0] }
	id.UIDMap = string(uidMap)
	id.NoNewPrivs = first("NoNewPrivs") == "1"
	var errs [5]error
	id.OuterUID, errs[0] = strconv.Atoi(first("Uid"))
	id.OuterGID, errs[1] = strconv.Atoi(first("Gid"))
	id.Permitted, errs[2] = strconv.ParseUint(first("CapPrm"), 16, 64)
	id.Bounding, errs[3] = strconv.ParseUint(first("CapBnd"), 16, 64)
	for _, g := range procfs.StatusField(status, "Groups") {
		n, err := strconv.Atoi(g)
		errs[4] = errors.Join(errs[4], err)
		id.Groups = append(id.Groups, n)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return id, fmt.Errorf("/proc/PID/status: %w", err)
	}
	if id.UID, err = mapID(uidMap, id.OuterUID); err != nil {
		return id, err
	}
	id.GID, err = mapID(gidMap, id.OuterGID)
	return id, err
}

// mapID maps an id of the caller's user namespace to one of the user namespace with the map idMap, as the caller
// reads it; -1 if it is not mapped.
func mapID(idMap []byte, outer int) (int, error) {
	maps, err := user.ParseIDMap(bytes.NewReader(idMap))
	if err != nil {
		return -1, fmt.Errorf("id map %q: %w", idMap, err)
	}
	for _, m := range maps {
		if under := int64(outer) - m.ParentID; under >= 0 && under < m.Count {
			return int(m.ID + under), nil
		}
	}
	return -1, nil
}

// Same reports whether two descriptors refer to the same namespace.
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

// Ancestors returns a user or PID namespace and its ancestors, up to but without the caller's own
// namespace, which is at path; the outermost first. It fails if the caller's is not an ancestor. The caller must
// close the result, also after an error.
func Ancestors(ns *os.File, path string) ([]*os.File, error) {
	var out []*os.File
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for {
		f := os.NewFile(uintptr(fd), "namespace")
		own, err := SameAs(f, path)
		if err != nil || own {
			f.Close()
			return out, err
		}
		out = append([]*os.File{f}, out...)
		if fd, err = unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_PARENT); err != nil {
			return out, fmt.Errorf("not a descendant of the caller's own: ioctl(NS_GET_PARENT): %w", err)
		}
		unix.CloseOnExec(fd)
	}
}

// LocalPID converts pid, a PID in the PID namespace of process member, to a PID in the caller's PID namespace, which
// must be an ancestor; 0 if there is none.
func LocalPID(member, pid int) int {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", member))
	if err != nil {
		return 0
	}
	defer ns.Close()
	level := len(nsPIDs(member)) - 1
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		candidate, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if n := nsPIDs(candidate); level < 0 || len(n) <= level || n[level] != pid {
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

// nsPIDs returns the PIDs of a process in its PID namespaces, the caller's first (proc(5), NSpid).
func nsPIDs(pid int) (out []int) {
	for _, n := range procfs.Status(pid, "NSpid") {
		v, _ := strconv.Atoi(n)
		out = append(out, v)
	}
	return out
}
