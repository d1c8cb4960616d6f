package main

import (
	"os/exec"
	"strings"
	"testing"
)

// egressContainer is what runs in a container, with the programs of the host's. Afterwards root inside does what it likes
// with its interfaces.
const egressContainer = `
for i in 1 2; do
	everybody
	echo "host: $(fetch -host evil.example http://www.example/ 2>&1 | grep -o -e 'it works' -e reset -e EOF)"
	echo "name: $(curl -sS -m 20 -k --resolve evil.example:443:$(lookup www.example) https://evil.example/ 2>&1 | grep -o -i -e reset -e evil$)"
	kill -9 -1 # all that can be seen, but the shell itself
done
`

// TestAttackEgressContainers: a container that was started through the hooks, with capabilities over its network, gets
// no further than a namespace that slirpctl made, and its annotations don't help it.
func TestAttackEgressContainers(t *testing.T) {
	for _, program := range []string{"runc", "crun", "busybox", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "this test needs %s: %v", program, err)
		}
	}
	for _, runtime := range []string{"runc", "crun"} {
		t.Run(runtime, func(t *testing.T) {
			labs(t, func(t *testing.T, l *lab) {
				helpers := programs.path(t)
				l.env = append(l.env, "RUNTIME="+runtime, "HELPERS="+helpers,
					"SERVERS=socat TCP4-LISTEN:443,bind=192.0.2.53,fork,reuseaddr EXEC:cat & exec httpd -listen 192.0.2.53:80 -port port")
				r := l.attackEgress(egressEverybody + `
					export S=$DIR
					cd "$DIR"
					{
						echo "export PATH=$HELPERS:/usr/bin:/usr/sbin"
						declare -f tcp udp everybody
						echo 'export -f tcp udp everybody'
						cat <<'E'
` + egressContainer + egressTap() + `
E
					} >inside
					if [ $AS = root ]; then # crun wants control groups of version 2 alone
						while umount -l /sys/fs/cgroup 2>/dev/null; do :; done
						mount -t cgroup2 cgroup2 /sys/fs/cgroup
					fi
					for annotation in 'allow=*:*,www.example' options=egress=open; do
						rm -rf b
						bundle -annotate "io.slirpctl.$annotation" -cap CAP_NET_ADMIN -cap CAP_NET_RAW -cap CAP_SYS_PTRACE \
							-bind /usr -bind "$HELPERS" -bind /dev/net b /usr/bin/bash /inside
						for d in lib lib64 sbin; do [ ! -L /$d ] || ln -s usr/$d b/rootfs/$d; done
						cp -r etc/. b/rootfs/etc
						cp inside b/rootfs/inside
						"$BIN" hook --bundle b --state-dir "$STATE" --allow www.example 2>&1 || { echo "no hook: $annotation"; continue; }
						oci run --bundle b c 2>&1 </dev/null
						echo "ended with $?"
						waitfor -not slirpctl list c >/dev/null
					done`)
				r.only(t, append([]string{"v1 tcp 192.0.2.53:443"}, egressAllowed...)...)
				r.has(t, egressAllowed...)
				if strings.Contains(r.out, "evil\n") || strings.Contains(r.out, "found") || strings.Contains(r.out, "0% packet loss") || strings.Contains(r.out, "attached") ||
					strings.Count(r.out, "end of everybody") != 2 || strings.Count(r.out, "end of tap") != 1 || strings.Count(r.out, "it works") < 4 ||
					strings.Count(r.out, "host: reset") != 2 || strings.Count(r.out, "name: reset") != 2 || !strings.Contains(r.out, "no hook: options=egress=open") {
					t.Errorf("%s%s", r.out, r.err)
				}
			})
		})
	}
}
