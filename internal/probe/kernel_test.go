package probe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Both results of the kernel's checks, in environments made for the purpose.
func TestChecksInMadeWorlds(t *testing.T) {
	const devNet = `unshare -m sh -euc 'mount -t tmpfs x /dev/net; %s' x`
	userDevNet := strings.Replace(devNet, "unshare -m", "unshare -Urm", 1)
	in := func(world, do string) string { return strings.Replace(world, "%s", do, 1) }
	// A root without /tmp, where the sandbox can't be made.
	const noTmp = `exec unshare -Urm sh -euc '
		mount -t tmpfs x /mnt; cd /mnt; mkdir old
		for d in bin sbin lib lib64 usr dev proc etc run; do
			[ -L /$d ] && ln -s $(readlink /$d) $d && continue
			[ -d /$d ] || continue
			mkdir $d; mount --rbind /$d $d
		done
		pivot_root . old; umount -l /old; exec $PROBE'`
	for _, tc := range []struct {
		name, check, script string
		root                bool // only root can make this environment
		status              Status
		reason, remedy      string // parts
	}{
		{"made", "user-namespaces", "exec " + asUser() + "$PROBE", false, OK, "was made", ""},
		{"limit 0", "user-namespaces", "exec " + asUser() + `sh -euc 'echo 0 >/proc/sys/user/max_user_namespaces; exec $PROBE'`, false, Failed, "user.max_user_namespaces=0", "sudo sysctl -w user.max_user_namespaces="},
		{"limit 0, as root", "user-namespaces", `exec unshare -Ur sh -euc 'echo 0 >/proc/sys/user/max_user_namespaces; exec $PROBE'`, false, Warning, "user.max_user_namespaces=0", "sysctl -w"},
		{"no network namespaces", "user-namespaces", "exec " + asUser() + `sh -euc 'echo 0 >/proc/sys/user/max_net_namespaces; exec $PROBE'`, false, Failed, "user.max_net_namespaces=0", "max_net_namespaces="},

		{"missing", "tun-device", in(userDevNet, "exec $PROBE"), false, Failed, "missing", "/dev/net/tun"},
		{"another device", "tun-device", in(userDevNet, "touch /dev/net/tun; mount --bind /dev/null /dev/net/tun; exec $PROBE"), false, Failed, "no driver", "rm /dev/net/tun"},
		{"there", "tun-device", in(devNet, "mknod -m 0600 /dev/net/tun c 10 200; exec $PROBE"), true, OK, "a tap made", ""},
		{"there for all", "tun-device", in(devNet, "mknod -m 0666 /dev/net/tun c 10 200; exec "+asNobody+"$PROBE"), true, OK, "a tap made", ""},
		{"denied", "tun-device", in(devNet, "mknod -m 0600 /dev/net/tun c 10 200; exec "+asNobody+"$PROBE"), true, Failed, "denied", "sudo chmod 0666 /dev/net/tun"},
		{"no driver", "tun-device", in(devNet, "mknod -m 0666 /dev/net/tun c 10 250; exec $PROBE"), true, Failed, "no driver", "modprobe tun"},
		{"no driver, as a user", "tun-device", in(devNet, "mknod -m 0666 /dev/net/tun c 10 250; exec "+asNobody+"$PROBE"), true, Failed, "no driver", "sudo modprobe tun"},
		{"no namespace to try in", "tun-device", "exec " + asUser() + `sh -euc 'echo 0 >/proc/sys/user/max_user_namespaces; exec $PROBE'`, false, Unknown, "no namespace", ""},

		{"possible", "sandbox", "exec $PROBE", true, OK, "", ""},
		{"possible for a user", "sandbox", "exec " + asUser() + "$PROBE", false, OK, "", ""},
		{"no /tmp", "sandbox", noTmp, false, Warning, "mount a tmpfs on /tmp: no such file", "SLIRPCTL_SANDBOX=false"},
		{"no namespace", "sandbox", "exec " + asUser() + `sh -euc 'echo 0 >/proc/sys/user/max_user_namespaces; exec $PROBE'`, false, Unknown, "no namespace", ""},

		{"filter taken", "seccomp", "exec " + asUser() + "$PROBE", false, OK, "accepted a filter", ""},

		{"no nameserver", "resolv-conf", `exec unshare -Urm sh -euc 'mount --bind /dev/null /etc/resolv.conf; exec $PROBE'`, false, Warning, "names no nameserver", "resolv.conf"},
		{"nameserver", "resolv-conf", `exec unshare -Urm sh -euc 'mount -t tmpfs x /etc; echo nameserver 192.0.2.1 >/etc/resolv.conf; exec $PROBE'`, false, OK, "nameserver 192.0.2.1", ""},
		{"link out of the sandbox", "resolv-conf", `exec unshare -Urm sh -euc 'mount -t tmpfs x /etc; mount -t tmpfs x /mnt; echo nameserver 192.0.2.1 >/mnt/r; ln -s /mnt/r /etc/resolv.conf; exec $PROBE'`, false, Warning, "not /mnt/r", "SLIRPCTL_SANDBOX=false"},
		{"no resolv.conf", "resolv-conf", `exec unshare -Urm sh -euc 'mount -t tmpfs x /etc; exec $PROBE'`, false, Warning, "no /etc/resolv.conf", "nameserver"},

		{"free", "cidr-overlap", `exec unshare -Urn $PROBE`, false, OK, "no route", ""},
		{"taken", "cidr-overlap", `exec unshare -Urn sh -euc 'ip link set lo up; ip route add 10.0.0.0/16 dev lo; exec $PROBE'`, false, Warning, "10.0.2.0/24 overlaps the host's route to 10.0.0.0/16 on lo", "export SLIRPCTL_CIDR="},
		{"an address without a route", "cidr-overlap", `exec unshare -Urn sh -euc 'ip link set lo up; ip address add 10.0.2.9/32 dev lo; exec $PROBE'`, false, Warning, "10.0.2.0/24 overlaps the host's address or route 10.0.2.9 on lo", "export SLIRPCTL_CIDR="},

		{"found", "nsenter", "exec $PROBE", false, OK, "nsenter", ""},
		{"not found", "nsenter", `export PATH=/nonexistent; exec $PROBE`, false, Warning, "not on PATH", ""},

		{"not our group", "ping-group-range", "exec " + asUser() + "unshare -n " + dropCaps + "$PROBE", false, Warning, "; only gateway and DNS answer ping6", "ping_group_range"},
		{"not our group, root", "ping-group-range", `exec unshare -Urn $PROBE`, false, Warning, "only with the sandbox off", "ping_group_range"},
		{"our group", "ping-group-range", `exec unshare -Urn sh -euc 'echo "0 0" >/proc/sys/net/ipv4/ping_group_range; exec $PROBE'`, false, OK, "ping works", ""},

		{"capability", "unprivileged-ports", `exec unshare -Urn $PROBE`, false, OK, "every port", ""},
		{"from 80", "unprivileged-ports", "exec " + asUser() + `unshare -n sh -euc 'echo 80 >/proc/sys/net/ipv4/ip_unprivileged_port_start; exec ` + dropCaps + `$PROBE'`, false, OK, "from 80", ""},
		{"from 0", "unprivileged-ports", "exec " + asUser() + `unshare -n sh -euc 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start; exec ` + dropCaps + `$PROBE'`, false, OK, "every port", ""},
		{"from 2000", "unprivileged-ports", "exec " + asUser() + `unshare -n sh -euc 'echo 2000 >/proc/sys/net/ipv4/ip_unprivileged_port_start; exec ` + dropCaps + `$PROBE'`, false, Warning, "from 2000", "sudo sysctl -w net.ipv4.ip_unprivileged_port_start="},

		{"small", "tcp-rmem", `exec unshare -Urn sh -euc 'echo 4096 87380 6291456 >/proc/sys/net/ipv4/tcp_rmem; exec $PROBE'`, false, OK, "87380 bytes", ""},
		{"large", "tcp-rmem", `exec unshare -Urn sh -euc 'echo 4096 131072 6291456 >/proc/sys/net/ipv4/tcp_rmem; exec $PROBE'`, false, Warning, "131072 bytes", `tcp_rmem="4096 87380 6291456"`},

		{"no tools", "id-map-tools", asNobody + `env PATH=/nonexistent $PROBE`, true, Warning, "newuidmap is not on PATH", ""},
		{"no ranges", "id-map-tools", `exec unshare -m sh -euc 'mount --bind /dev/null /etc/subuid; exec ` + asNobody + `$PROBE'`, true, Unknown, "subid-ranges", ""},
		{"root", "id-map-tools", "exec $PROBE", true, OK, "root", ""},
		{"mapped", "id-map-tools", ranges("exec " + asNobody + "$PROBE"), true, OK, "mapped this user's ranges", ""},
		{"not setuid", "id-map-tools", ranges(`mount -t tmpfs x /mnt; cp /usr/bin/new[ug]idmap /mnt; chmod 0755 /mnt/*; PATH=/mnt:$PATH; exec ` + asNobody + "$PROBE"), true, Warning, "can't map", "sudo chmod u+s /mnt/newuidmap"},
		{"none", "subid-ranges", `exec unshare -m sh -euc 'mount --bind /dev/null /etc/subuid; exec ` + asNobody + `$PROBE'`, true, Warning, "/etc/subuid has no range for nobody", "sudo usermod --add-subuids "},
		{"some", "subid-ranges", ranges("exec " + asNobody + "$PROBE"), true, OK, "65536 user and 65536 group ids for nobody", ""},
	} {
		t.Run(tc.check+"/"+tc.name, func(t *testing.T) {
			if tc.root {
				needRoot(t)
			} else {
				needUserns(t)
			}
			r := ask(t, tc.check, tc.script)
			if r.Status != tc.status || !strings.Contains(r.Reason, tc.reason) || !strings.Contains(r.Remedy, tc.remedy) {
				t.Errorf("got %+v, want %s with %q and %q", r, tc.status, tc.reason, tc.remedy)
			}
			if r.Reason == "" || strings.ContainsAny(r.Reason+r.Remedy, "\n\t") || strings.HasSuffix(r.Reason, ".") {
				t.Errorf("not one line: %q, %q", r.Reason, r.Remedy)
			}
		})
	}
}

// ranges is an environment in which no user has ranges.
func ranges(do string) string {
	return `exec unshare -m sh -euc 'mount -t tmpfs x /mnt; echo nobody:200000:65536 >/mnt/ids
		mount --bind /mnt/ids /etc/subuid; mount --bind /mnt/ids /etc/subgid; ` + do + `'`
}

func TestRuntimeDirectory(t *testing.T) {
	dir := t.TempDir()
	// t.TempDir can be long; a short one leaves the length to the test.
	short, err := os.MkdirTemp("/tmp", "p-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	ours := filepath.Join(short, "ours")
	link := filepath.Join(short, "link")
	file := filepath.Join(short, "file")
	if err := os.Mkdir(ours, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(ours, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	padded := func(length int) string { return short + "/" + strings.Repeat("d", length-len(short)-1) }
	for _, tc := range []struct {
		name, dir string
		status    Status
		reason    string
	}{
		{"there", ours, OK, "sockets can be made"},
		{"to be made", filepath.Join(short, "a/b"), OK, "sockets can be made"},
		{"a link", link, Failed, "symbolic link"},
		{"a file", file, Failed, "not a directory"},
		{"below a file", filepath.Join(file, "x"), Failed, "no socket can be made"},
		{"no room", "/proc/self", Failed, ""},
		{"longest that takes every name", padded(29), OK, "sockets"},
		{"a byte longer", padded(30), Warning, "names of up to 63 bytes"},
		{"longest", padded(92), Warning, "names of up to 1 bytes"},
		{"too long", padded(93), Failed, "too long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := ask(t, "runtime-directory", "exec $PROBE", askDir+"="+tc.dir)
			if r.Status != tc.status || !strings.Contains(r.Reason, tc.reason) {
				t.Errorf("got %+v, want %s with %q", r, tc.status, tc.reason)
			}
			if (r.Status == OK) != (r.Remedy == "") {
				t.Errorf("%s with the remedy %q", r.Status, r.Remedy)
			}
		})
	}
	t.Run("somebody else's", func(t *testing.T) {
		needRoot(t)
		if err := os.Chown(ours, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if r := ask(t, "runtime-directory", "exec $PROBE", askDir+"="+ours); r.Status != Failed || !strings.Contains(r.Reason, "belongs to user 12345") {
			t.Errorf("got %+v", r)
		}
		if r := ask(t, "runtime-directory", "exec "+asNobody+"$PROBE", askDir+"="+dir+"/x"); r.Status != Failed || !strings.Contains(r.Reason, "permission denied") {
			t.Errorf("out of reach: got %+v", r)
		}
	})
	left, err := filepath.Glob(short + "/*/.probe-*")
	if more, _ := filepath.Glob(short + "/.probe-*"); err != nil || len(left)+len(more) > 0 {
		t.Errorf("left behind: %v %v %v", left, more, err)
	}
}
