package forwardtest

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestTransparent: --source-ip-transparent works for an ordinary user too.
// TestSourceAddress checks the client's address.
func TestTransparent(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		w := newWorld(t)
		g := w.up("g", "--port-handler=rootlesskit", "--source-ip-transparent", "-p", "127.0.0.1::80")
		port := g.listen("tcp4", "0.0.0.0:0", "echo")
		if err := echo(dial(t, local(g.forward("127.0.0.1", port, "tcp").HostPort)), "x"); err != nil {
			t.Error(err)
		}
	})
}

// TestTransparentMissing: --source-ip-transparent is an error without the programs it needs.
func TestTransparentMissing(t *testing.T) {
	if os.Geteuid() != 0 {
		return // hiding programs needs root; covered by root's run
	}
	asCaller(t, func(t *testing.T) {
		w := newWorld(t)
		hide := "mount --make-rprivate /"
		for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
			for _, tool := range []string{"nft", "iptables", "ip6tables"} {
				if _, err := os.Stat(dir + "/" + tool); err == nil {
					// No program can be found.
					hide += " && mount --bind /dev/null " + dir + "/" + tool
				}
			}
		}
		up := w.command(t.Context(), "up", "-d", "--name", "g", "--port-handler=rootlesskit", "--source-ip-transparent", "-p", "127.0.0.1::80", strconv.Itoa(namespaces(t)))
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-c", hide + ` && exec "$0" "$@"`}, up.Args...)...)
		cmd.Env = up.Env
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.Contains(string(out), "--source-ip-transparent needs nft or iptables") {
			t.Errorf("exit status %d, want 3:\n%s", code, out)
		}
	})
}
