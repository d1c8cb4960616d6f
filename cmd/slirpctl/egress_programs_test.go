//go:build programs

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The servers, in the network of 192.0.2.53. Some refuse to run as root.
const egressServers = `set -eu
cd "$DIR"
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin):/usr/sbin
sysctl -qw net.ipv4.ip_unprivileged_port_start=0
plain() { unshare --user --map-user=4242 --map-group=4242 "$@"; }
echo "tester:x:4242:4242::$DIR:/bin/bash" >>etc/passwd
ssh-keygen -q -t ed25519 -N "" -f key; ssh-keygen -q -t ed25519 -N "" -f hostkey; cp key.pub authorized
mkdir work sshd-run
git init -q -b main work; git -C work -c user.name=a -c user.email=a@example commit -q --allow-empty -m first; git clone -q --bare work demo.git
mkdir -p deb/DEBIAN debs/demo
printf "Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example>\nDescription: a test\n" >deb/DEBIAN/control
dpkg-deb --root-owner-group -b deb debs/demo/demo_1_all.deb >/dev/null
(cat deb/DEBIAN/control; echo "Filename: demo/demo_1_all.deb"; echo "Size: $(stat -c %s debs/demo/demo_1_all.deb)"; echo "SHA256: $(sha256sum debs/demo/demo_1_all.deb | cut -d" " -f1)") >debs/demo/Packages
{
	plain initdb -N -A trust -U tester -D pg >/dev/null
	echo "host all all all trust" >>pg/pg_hba.conf
	plain postgres -D pg -c listen_addresses=192.0.2.53 -c unix_socket_directories= -c fsync=off >pg.log 2>&1 &
	plain "$(command -v sshd)" -D -e -f /dev/null -h "$DIR/hostkey" -p 22 -o ListenAddress=192.0.2.53 -o StrictModes=no -o UsePAM=no \
		-o AuthorizedKeysFile="$DIR/authorized" -o PidFile=none >sshd.log 2>&1 &
	redis-server --bind 192.0.2.53 --port 6379 --save "" --protected-mode no >redis.log 2>&1 &
	waitfor redis-cli -h 192.0.2.53 ping >/dev/null
	waitfor psql -h 192.0.2.53 -U tester -c "select 1" postgres >/dev/null
	waitfor ssh-keyscan 192.0.2.53 >/dev/null
	: >seen.v1
	echo 80 >port
} &
exec sites
`

// What runs inside. Each program says with which name it reached its server.
const egressPrograms = `set -u
cd "$DIR"
try() { # NAME COMMAND: it has to print or leave something that says it works
	local name=$1; shift
	if timeout 60 bash -c "$*" >out.$name 2>&1; then echo "$name: ok"; else echo "$name: failed: $(tail -c 800 out.$name)"; fi
}
ssh='ssh -F none -i key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=30'
apt="-o Dir::Etc=$DIR/apt -o Dir::State=$DIR/apt -o Dir::Cache=$DIR/apt -o APT::Sandbox::User=root -o Debug::NoLocking=1"
cat >Fetch.java <<'J'
import java.net.URI;
import java.net.http.*;
class Fetch {
	public static void main(String[] args) throws Exception {
		System.out.print(HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(args[0])).build(), HttpResponse.BodyHandlers.ofString()).body());
	}
}
J
try java "$JAVA -XX:TieredStopAtLevel=1 -Djavax.net.ssl.trustStore=trust -Djavax.net.ssl.trustStorePassword=changeit Fetch.java https://java.example/ | grep 'it works'" &
try npm 'mkdir npm; npm install --prefix npm --cache npm/cache --no-audit --no-fund --no-update-notifier demo && test -e npm/node_modules/demo/package.json' &
try curl 'curl -sS --max-time 30 https://www.example/ | grep "it works"'
try curl-http 'curl -sS --max-time 30 http://www.example/ | grep "it works"'
try curl-denied '! curl -sS --max-time 30 https://denied.example/ 2>&1 | grep -v "Could not resolve host"'
try git-https 'git clone -q https://github.com/demo.git git1 && git -C git1 log --oneline | grep first'
try git-ssh "git -c core.sshCommand='$ssh' clone -q ssh://tester@git.example$DIR/demo.git git2 && git -C git2 log --oneline | grep first"
try ssh "$ssh tester@git.example echo it works | grep 'it works'"
try pip 'python3 -m pip install --cert ca.pem --break-system-packages --no-cache-dir --disable-pip-version-check --target pip demo && PYTHONPATH=pip python3 -m demo | grep "it works"' &
try go 'go mod download -modcacherw demo.example/demo@v1.0.0 && test -e go/pkg/mod/demo.example/demo@v1.0.0/demo.go'
try node-fetch "node --use-openssl-ca -e 'fetch(\"https://node.example/\").then(r => r.text()).then(t => process.stdout.write(t))' | grep 'it works'"
try node-websocket "node --experimental-websocket -e 'const w = new WebSocket(\"ws://ws.example/\"); w.onopen = () => w.send(\"it works\"); w.onmessage = m => { console.log(m.data); process.exit(0) }; w.onerror = e => { console.log(e); process.exit(1) }' | grep 'it works'"
try psql 'psql -h db.example -U tester -Atc "select 40+2" postgres | grep 42'
try redis-cli 'redis-cli -h cache.example ping | grep PONG'
try dig 'dig +short +timeout=20 www.example | grep ^198.18'
try dig-tcp 'dig +short +tcp +timeout=20 www.example | grep ^198.18'
try dig-denied 'dig +timeout=20 denied.example >denied; grep NXDOMAIN denied && grep "EDE: 15" denied'
mkdir -p apt/lists/partial apt/archives/partial apt/preferences.d apt/apt.conf.d apt/trusted.gpg.d; echo 'deb [trusted=yes] http://debs.example/ demo/' >apt/sources.list; : >apt/status
try apt "apt-get $apt update && cd apt && apt-get $apt download demo && dpkg-deb -I demo_1_all.deb"
wait
`

// TestEgressPrograms: programs as they are, and with no variable that names a proxy, use their servers through a list of
// what is allowed.
func TestEgressPrograms(t *testing.T) {
	wanted := []string{
		"java", "npm", "curl", "curl-http", "curl-denied", "git-https", "git-ssh", "ssh", "pip", "go", "node-fetch", "node-websocket",
		"psql", "redis-cli", "dig", "dig-tcp", "dig-denied", "apt",
	}
	for _, program := range []string{"java", "npm", "node", "curl", "git", "ssh", "sshd", "python3", "go", "psql", "redis-cli", "redis-server", "dig", "apt-get"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "this test needs %s: %v", program, err)
		}
	}
	java, _ := exec.LookPath("java")
	java, err := filepath.EvalSymlinks(java) // the host of this test has no links in /etc
	must(t, err)
	l := newLab(t)
	l.env = append(l.env, "SERVERS="+egressServers, "PROGRAMS="+egressPrograms, "JAVA="+java)
	r := l.attackEgress(`
		mkdir -p etc/ssl/certs; cp ca.pem etc/ssl/certs/ca-certificates.crt; cp ca.pem etc/ssl/cert.pem
		${JAVA%/*}/keytool -importcert -noprompt -keystore trust -storepass changeit -file ca.pem 2>/dev/null
		printf '%s\n' "cafile=$DIR/ca.pem" registry=https://npm.example/ >.npmrc
		printf '%s\n' GONOSUMDB=demo.example GOPROXY=https://goproxy.example >goenv; mkdir -p .config/go; mv goenv .config/go/env
		set -f
		slirpctl up --allow *.example --deny denied.example --allow pypi.org --allow files.pythonhosted.org \
			--allow github.com:443 --allow git.example:22 --allow db.example:5432 --allow cache.example:6379 -- \
			env -i PATH="$PATH" HOME="$DIR" DIR="$DIR" JAVA="$JAVA" bash -c "$PROGRAMS"`)
	for _, name := range wanted {
		if !strings.Contains(r.out, name+": ok\n") {
			t.Errorf("%s does not work", name)
		}
	}
	for _, s := range r.seen {
		if !strings.Contains(s, "tcp 192.0.2.53:") && !strings.Contains(s, "dns 127.0.0.1") || strings.Contains(s, "denied") {
			t.Errorf("got out: %s", s)
		}
	}
	if t.Failed() {
		t.Logf("%s%s", r.out, r.err)
	}
}
