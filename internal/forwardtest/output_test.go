package forwardtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestOutput checks the output of the forward commands.
func TestOutput(t *testing.T) {
	asCaller(t, func(t *testing.T) {
		w := newWorld(t)
		for _, name := range []string{"a", "b"} {
			w.must("up", "-d", "--name", name, "--", bin(t, "idle"))
		}
		first := freeRange(t, 3)
		port := func(i int) string { return strconv.Itoa(first + i) }
		for _, c := range []struct{ args, want string }{
			{"list", ""},
			{"list --json", "[]\n"},
			{"add a 127.0.0.1:" + port(0) + ":80 [::1]:" + port(0) + ":53/udp", "1  127.0.0.1:" + port(0) + " -> 10.0.2.100:80/tcp\n2  [::1]:" + port(0) + " -> 10.0.2.100:53/udp\n"},
			{"add b --format {{.ID}}/{{.HostPort}}/{{.Name}} " + port(1) + ":80", "1/" + port(1) + "/b\n"},
			{"list a", "ID  PROTO  HOST             GUEST\n1   tcp    127.0.0.1:" + port(0) + "  10.0.2.100:80\n2   udp    [::1]:" + port(0) + "      10.0.2.100:53\n"},
			{"list", "NAME  ID  PROTO  HOST             GUEST\na     1   tcp    127.0.0.1:" + port(0) + "  10.0.2.100:80\na     2   udp    [::1]:" + port(0) + "      10.0.2.100:53\nb     1   tcp    0.0.0.0:" + port(1) + "    10.0.2.100:80\n"},
			{"list b --json", "[\n  {\n    \"name\": \"b\",\n    \"id\": 1,\n    \"proto\": \"tcp\",\n    \"hostIP\": \"0.0.0.0\",\n    \"hostPort\": " + port(1) + ",\n    \"guestIP\": \"10.0.2.100\",\n    \"guestPort\": 80\n  }\n]\n"},
			{"list a -q", "1\n2\n"},
			{"set a [::1]:" + port(0) + ":53/udp", "2  [::1]:" + port(0) + " -> 10.0.2.100:53/udp\n"},
			{"reload a", "2  [::1]:" + port(0) + " -> 10.0.2.100:53/udp\n"},
			{"remove a 2", ""},
			{"rm b :80", ""},
			{"ls", ""},
		} {
			if got := w.must(append([]string{"forward"}, strings.Fields(c.args)...)...); got != c.want {
				t.Errorf("forward %s:\n%s\nwant:\n%s", c.args, got, c.want)
			}
		}
		w.refused(2, "--format", "forward", "add", "a", port(0)+":80", "--format", "{{.Nothing}}")
		w.refused(2, "--json and --format exclude each other", "forward", "list", "a", "--json", "--format", "x")
		if got := w.must("forward", "list"); got != "" {
			t.Errorf("added in spite of a bad template: %s", got)
		}
	})
}

// TestStuckInstance: commands time out if a supervisor does not answer.
func TestStuckInstance(t *testing.T) {
	asCaller(t, func(t *testing.T) {
		w := newWorld(t)
		w.must("up", "-d", "--name", "stuck", "--", bin(t, "idle"))
		pid, err := strconv.Atoi(strings.TrimSpace(w.must("list", "stuck", "--format", "{{.SupervisorPID}}")))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer syscall.Kill(pid, syscall.SIGCONT)
		eventually(t, func() error {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !strings.Contains(string(stat), ") T ") {
				err = fmt.Errorf("not stopped yet: %.100s", stat)
			}
			return err
		})
		for _, args := range []string{"list stuck", "add stuck 0:80", "remove stuck 1", "remove stuck :80", "set stuck", "reload stuck"} {
			w.refused(6, "\"stuck\" did not answer in time", append([]string{"forward"}, append(strings.Fields(args), "--timeout=200ms")...)...)
		}
	})
}
