//go:build !race

// The binary built here does not use the race detector.

package main

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestShaping: tc shapes what leaves an instance. Where the kernel has netem, probe says so and packets are late; elsewhere
// probe and tc say what is missing. tbf limits the rate everywhere.
func TestShaping(t *testing.T) {
	for _, program := range []string{"tc", "busybox", "socat"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, "%s is not installed", program)
		}
	}
	cmds := []docCommand{
		{text: "slirpctl up -d --name slow --allow-host-loopback -- sleep 1000 >/dev/null"},
		{text: "slirpctl probe --require netem >probe"},
		{text: "slirpctl exec slow -- tc qdisc add dev tap0 root netem delay 50ms loss 1%"},
		{text: "cat probe; slirpctl probe -v | grep netem"},
		{text: "slirpctl exec slow -- busybox ping -q -c 3 10.0.2.2 | sed -n 's|.* = ||p'"},
		{text: "slirpctl exec slow -- tc qdisc replace dev tap0 root tbf rate 8mbit burst 64k latency 50ms"},
		{text: "socat -u TCP-LISTEN:9000,bind=127.0.0.1 CREATE:got & server=$!"},
		{text: "date +%s%3N; head -c 1000000 /dev/zero | slirpctl exec slow -- socat -u - TCP:10.0.2.2:9000,retry=99,interval=0.1; wait $server; date +%s%3N; wc -c <got"},
	}
	outs, statuses := docShell(t, cmds)
	for _, i := range []int{0, 5, 6, 7} {
		if statuses[i] != 0 {
			t.Errorf("%s: status %d: %s", cmds[i].text, statuses[i], outs[i])
		}
	}
	if have := statuses[2] == 0; have {
		best, _, _ := strings.Cut(outs[4], "/")
		if ms, err := strconv.ParseFloat(best, 64); statuses[1] != 0 || !strings.Contains(outs[3], "tc can add latency and loss inside") || err != nil || ms < 50 {
			t.Errorf("probe: %d, %s; the round trip took %q ms", statuses[1], outs[3], outs[4])
		}
	} else if statuses[1] != 3 || !strings.Contains(outs[1], "netem: tc can't add latency or loss inside: the kernel has no netem") ||
		!strings.Contains(outs[1], "modprobe sch_netem") || !strings.Contains(outs[2], "Specified qdisc kind is unknown") {
		t.Errorf("probe: %d, %s; tc: %s", statuses[1], outs[1], outs[2])
	}
	f := strings.Fields(outs[7])
	if len(f) != 3 || f[2] != "1000000" {
		t.Fatalf("%q", outs[7])
	}
	from, err1 := strconv.Atoi(f[0])
	to, err2 := strconv.Atoi(f[1])
	if err1 != nil || err2 != nil || to-from < 700 { // 1 MB at 1 MB/s, less the burst
		t.Errorf("1 MB at 8 Mbit/s took %d ms", to-from)
	}
}
