package main

import (
	"strings"
	"testing"
)

// TestEgressNetns: a namespace that is named by its path has egress rules like any other.
func TestEgressNetns(t *testing.T) {
	labs(t, func(t *testing.T, l *lab) {
		r := l.attackEgress(`
			holder
			through() { # PATH: its network namespace
				slirpctl up -d --name n --netns $1 --allow www.example:80 >/dev/null
				slirpctl exec n -- bash -c '
					fetch http://www.example/ 2>&1 | head -1
					for u in http://other.example/ http://192.0.2.66/ http://www.example:81/; do fetch $u 2>&1 | grep -o -e evil -e refused -e "no such host"; done'
				slirpctl egress list n
				slirpctl egress check n www.example:80; slirpctl egress check n other.example:80 || echo status $?
				slirpctl egress log n | sed 's/^[^ ]* [^ ]*//; s/ *[0-9.]* s  / /; s/  */ /g' | sort -u
				slirpctl egress remove n www.example:80
				slirpctl exec n -- fetch http://www.example/ 2>&1 | grep -o "no such host"
				slirpctl down n
				nsenter $2 ip link show tap0 >/dev/null 2>&1 && echo a tap is left
				slirpctl list | grep -q . && echo an instance is left
				pgrep -f '^slirpctl __' ; pgrep slirp4netns
				echo end of $3
			}
			through /proc/$target/ns/net "--preserve-credentials -U -n -t $target" process
			if [ $AS = root ]; then
				touch named; unshare --net=$DIR/named true; through $DIR/named --net=$DIR/named name
			fi`)
		const want = `it works
no such host
refused
refused
ID  ACTION  RULE
1   allow   www.example:80/tcp
allowed by rule 1: allow www.example:80/tcp
denied: no rule allows it
status 1
 allowed tcp www.example:80 in 149 out 92 192.0.2.53 allow www.example:80/tcp
 denied dns other.example in 0 out 0 no rule allows it
 denied tcp 192.0.2.66:80 in 0 out 0 no rule allows it
 denied tcp www.example:81 in 0 out 0 no rule allows it
no such host
end of `
		all := want + "process\n"
		if !l.ordinary() {
			all += want + "name\n"
		}
		if r.out != all {
			t.Errorf("got %s\nwant %s%s", r.out, all, r.err)
		}
		for _, s := range r.seen {
			if strings.Contains(s, "192.0.2.66") || strings.Contains(s, "other") {
				t.Errorf("got out: %s", s)
			}
		}
	})
}
