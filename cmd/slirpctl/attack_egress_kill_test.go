package main

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func init() { helperPrograms["tracer"] = tracer }

// TestAttackEgressKilled: whatever process of slirpctl's ends while the guest floods, nothing passes that could not
// before; and nothing at all without the supervisor.
func TestAttackEgressKilled(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		var flood []string
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			for _, dst := range []string{"192.0.2.66", "192.0.2.1", "127.0.0.1", "192.0.0.2"} {
				flood = append(flood, testFrame{src: "10.0.2.100", dst: dst, proto: proto, port: 80}.make()...)
			}
		}
		r := l.attackEgress(fmt.Sprintf(`
			unshare --user --map-root-user --net sh -c 'frames -flood %s >/dev/null & touch "$DIR/held"; exec sleep 1000' & target=$!
			waitfor test -e "$DIR/held"
			up() { slirpctl up -d --name x --allow www.example:80 --allow 192.0.2.53:5000-5002/udp $target >/dev/null; }
			once() { slirpctl exec x -- fetch http://www.example/ | grep 'it works'; }
			works() { waitfor bash -c once; } # the flood crowds out single questions for a name
			carries() { # by slirp4netns
				slirpctl exec x -- bash -c "echo x >/dev/udp/192.0.2.53/$1" && grep -q "udp 192.0.2.53:$1" seen.v1; }
			field() { slirpctl list --json | jsonget "0.$1"; }
			restarted() { slirpctl list --json | grep -q "\"restarts\": *$1" && slirpctl list | grep -q running; }
			export target; export -f carries restarted once
			up; works; waitfor bash -c "carries 5000"
			for i in 1 2; do
				kill -9 $(field slirp4netnsPid); waitfor bash -c "restarted $i"; echo "slirp4netns: $(works)"
				waitfor bash -c "carries 500$i"
			done
			kill -9 $(pgrep -f '^slirpctl __gateway'); echo "gateway: $(works)"
			kill -9 $(field slirp4netnsPid); echo "both: $(works)"
			slirpctl down x; up; echo "again: $(works)"
			supervisor=$(field supervisorPid)
			kill -9 $supervisor; waitfor -not alive $supervisor
			waitfor -not nsenter --preserve-credentials -U -n -t $target ip link show tap0 >/dev/null
			inside bash -c 'tcp 192.0.2.53:80'
			up; echo "and again: $(works)"
			slirpctl down x`, strings.Join(flood, " ")))
		r.only(t, append([]string{"v1 udp 192.0.2.53:5000", "v1 udp 192.0.2.53:5001", "v1 udp 192.0.2.53:5002"}, egressAllowed...)...)
		for what, n := range map[string]int{"slirp4netns: it works": 2, "gateway: it works": 1, "again: it works": 2} {
			if strings.Count(r.out, what) != n {
				t.Errorf("not %d times %q: %s%s", n, what, r.out, r.err)
			}
		}
		if strings.Contains(r.out, "tcp 192.0.2.53:80: \n") {
			t.Errorf("without the supervisor it is reached: %s", r.out)
		}
	})
}

// TestAttackEgressKilledStarting: killed at each step of a start, the supervisor leaves no way out for a guest that
// floods all the while.
func TestAttackEgressKilledStarting(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		var flood []string
		for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			for _, dst := range []string{"192.0.2.66", "192.0.2.1", "127.0.0.1", "10.0.2.2", "192.0.0.2"} {
				flood = append(flood, testFrame{src: "10.0.2.100", dst: dst, proto: proto, port: 80}.make()...)
			}
		}
		r := l.attackEgress(fmt.Sprintf(`
			unshare --user --map-root-user --net sh -c 'frames -flood %s >/dev/null & touch "$DIR/held"; exec sleep 1000' & target=$!
			waitfor test -e "$DIR/held"
			export target
			for n in $(seq 0 16); do
				if SLIRPCTL_TEST_CRASH_AFTER=$n slirpctl up -d --name x --allow www.example:80 $target >/dev/null 2>"$DIR/err"; then
					echo up; slirpctl down x
				else
					grep -q 'signal: killed' "$DIR/err" && echo killed || cat "$DIR/err"
				fi
				waitfor -not nsenter --preserve-credentials -U -n -t $target ip link show tap0 >/dev/null
			done
			slirpctl up -d --name x --allow www.example:80 $target >/dev/null
			slirpctl exec x -- fetch http://www.example/ | head -1
			slirpctl down x`, strings.Join(flood, " ")))
		r.only(t, egressAllowed...)
		if n := strings.Count(r.out, "killed\n"); n < 8 || n+strings.Count(r.out, "up\n") != 17 || !strings.Contains(r.out, "it works") {
			t.Errorf("killed %d times: %s%s", n, r.out, r.err)
		}
	})
}

// TestAttackEgressTraced: root of a namespace that sees slirpctl's processes can neither look into them, nor enter what
// they are in, nor trace them.
func TestAttackEgressTraced(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		r := l.attackEgress(`
			holder
			slirpctl up -d --name x --allow www.example:80 $target >/dev/null
			field() { slirpctl list --json | jsonget "0.$1"; }
			for p in $(field supervisorPid) $(field slirp4netnsPid) $(pgrep -f '^slirpctl __gateway'); do
				inside bash -c "test -d /proc/$p && echo seen
					readlink /proc/$p/exe /proc/$p/cwd /proc/$p/root /proc/$p/ns/net && echo looked
					cat /proc/$p/environ /proc/$p/maps && echo looked
					readlink /proc/$p/fd/* && echo looked
					echo x >/proc/$p/mem && echo wrote
					for n in -n -U '-U -n' -m; do nsenter --preserve-credentials -t $p \$n true && echo entered; done
					tracer $p && echo traced" 2>/dev/null
			done
			inside bash -c "tracer \$\$; sleep 1000 & tracer \$! && echo can trace its own; kill \$!"
			slirpctl exec x -- fetch http://www.example/ | head -1
			slirpctl down x`)
		r.only(t, egressAllowed...)
		if strings.Count(r.out, "seen") != 3 || !strings.Contains(r.out, "can trace its own") || !strings.Contains(r.out, "it works") {
			t.Errorf("this proves nothing: %s%s", r.out, r.err)
		}
		for _, got := range []string{"looked", "wrote", "entered", "traced"} {
			if strings.Contains(r.out, got) {
				t.Errorf("%s: %s%s", got, r.out, r.err)
			}
		}
	})
}

// tracer PID attaches to a process and lets it go.
func tracer(args []string) int {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return failed("tracer: %v", err)
	}
	runtime.LockOSThread()
	if err := unix.PtraceSeize(pid); err != nil {
		return failed("tracer: %v", err)
	}
	return 0
}
