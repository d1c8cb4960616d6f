package forwardtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// slirp4netns starts one as Podman does, and returns its API socket. It ends with the test, which
// checks that it did not exit earlier.
func slirp4netns(t testing.TB, flags ...string) (socket string) {
	t.Helper()
	socket = filepath.Join(tempDir(t), "api.sock")
	target := namespaces(t)
	if ours, theirs := netnsOf(t, "self"), netnsOf(t, strconv.Itoa(target)); ours == theirs {
		t.Fatal("the target has no network namespace of its own")
	}
	readyR, readyW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer readyR.Close()
	exitR, exitW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	flags = append(flags, "-c", "-r", "3", "-e", "4", "--api-socket", socket, strconv.Itoa(target), "tap0")
	cmd := exec.Command("slirp4netns", flags...)
	cmd.ExtraFiles = []*os.File{readyW, exitR}
	var log strings.Builder
	cmd.Stderr = &log
	err = cmd.Start()
	readyW.Close()
	exitR.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exitW.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("slirp4netns: %v\n%.2000s", err, log.String())
		}
	})
	if b, _ := io.ReadAll(readyR); string(b) != "1" {
		t.Fatalf("slirp4netns is not ready:\n%s", log.String())
	}
	return socket
}

func netnsOf(t testing.TB, pid string) string {
	t.Helper()
	link, err := os.Readlink("/proc/" + pid + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// TestForeign works on a slirp4netns that slirpctl did not start.
func TestForeign(t *testing.T) {
	asEverybody(t, func(t *testing.T) {
		w := newWorld(t)
		api := "--api-socket=" + slirp4netns(t)
		first := freeRange(t, 4)
		spec := func(i int) string { return fmt.Sprintf("127.0.0.1:%d:%d", first+i, 80+i) }
		if out := w.must("forward", "list", api, "--json"); strings.TrimSpace(out) != "[]" {
			t.Errorf("list at first: %s", out)
		}
		rows := w.rows("forward", "add", api, spec(0), spec(1), fmt.Sprintf("127.0.0.1:%d:53/udp", first+2))
		want := row{2, "tcp", "127.0.0.1", first + 1, "10.0.2.100", 81}
		if len(rows) != 3 || rows[1] != want {
			t.Fatalf("add: %+v, want %+v", rows, want)
		}
		if list := w.rows("forward", "list", api); fmt.Sprint(list) != fmt.Sprint(rows) {
			t.Errorf("list: %+v, added: %+v", list, rows)
		}
		checkListens(t, local(first))
		// All or none.
		w.refused(5, "(2 of 2)", "forward", "add", api, spec(3), fmt.Sprintf("%d:80", taken(t)))
		w.refused(4, "there is no forward 99", "forward", "remove", api, "1", "99")
		if n := len(w.rows("forward", "list", api)); n != 3 {
			t.Errorf("%d forwards after changes that failed", n)
		}
		w.must("forward", "remove", api, "1", spec(1))
		if out := w.must("forward", "list", api, "--quiet"); out != "3\n" {
			t.Errorf("ids after removal by id and by spec: %q", out)
		}
		set := w.rows("forward", "set", api, fmt.Sprintf("127.0.0.1:%d:53/udp", first+2), spec(1))
		if len(set) != 2 || set[0].ID != 3 {
			t.Errorf("set: %+v", set)
		}
		w.must("forward", "set", api)
		if out := w.must("forward", "list", api); out != "" {
			t.Errorf("list after set to nothing: %q", out)
		}
	})
}

// TestForeignRefuses: invalid input does not reach slirp4netns; the cleanup checks that it is still
// running.
func TestForeignRefuses(t *testing.T) { asCaller(t, testForeignRefuses) }

func testForeignRefuses(t *testing.T) {
	w := newWorld(t)
	api := "--api-socket=" + slirp4netns(t)
	for _, c := range []struct {
		code int
		spec string
	}{
		{2, "8080:80/"},
		{2, "8080:80/sctp"},
		{2, "8080:80/tcp,"},
		{2, "70000:80"},
		{2, "8080:70000"},
		{2, "8080:0"},
		{2, "8080:-5"},
		{2, "-5:80"},
		{2, "8080.5:80"},
		{2, "8080:10.0.3.100:80"},
		{2, "8080:0.0.0.0:80"},
		{2, "127.0.0.1.1:8080:80"},
		{2, ""},
		{2, `{"execute":"add_hostfwd"}`},
		{3, "[::1]:8080:80"},
		{3, "8080:80/tcp6"},
		{3, "8080:127.0.0.1:80"},
		{3, "192.0.2.1:8080:80"},
	} {
		w.refused(c.code, "", "forward", "add", api, "--", c.spec)
	}
	w.refused(2, "ids start at 1", "forward", "remove", api, "--", "-1")
	w.refused(2, "", "forward", "remove", api, "99999999999999999999")
	w.refused(2, "no port spec", "forward", "add", api)
	w.refused(2, "no id or port spec", "forward", "remove", api)
	w.refused(2, "no instance named", "forward", "add")
	w.refused(2, "--api-socket exclude each other", "forward", "list", api, "web")
	w.refused(2, "--format", "forward", "list", api, "--format", "{{.Nothing}}")
	if out := w.must("forward", "list", api); out != "" {
		t.Errorf("something was added: %s", out)
	}
}

// TestForeignMany lists more forwards than fit into any buffer.
func TestForeignMany(t *testing.T) { asCaller(t, testForeignMany) }

func testForeignMany(t *testing.T) {
	const n = 1100
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < n+100 {
		lacking(t, "needs a hard limit of %d open files, and it is %d", n+100, limit.Max)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil { // slirp4netns inherits it
		t.Fatal(err)
	}
	w := newWorld(t)
	api := "--api-socket=" + slirp4netns(t)
	first := freeRange(t, n)
	w.must("forward", "add", api, fmt.Sprintf("127.0.0.1:%d-%d:%d-%d", first, first+n-1, first, first+n-1))
	list := w.rows("forward", "list", api)
	if len(list) != n {
		t.Fatalf("%d forwards listed", len(list))
	}
	if last := list[n-1]; last.ID != n || last.HostPort != first+n-1 {
		t.Errorf("the last one: %+v", last)
	}
}

// fakeAPI serves an API socket that replies with the result of answer; nil: no reply, and the
// connection stays open.
func fakeAPI(t *testing.T, answer func(request string) []byte) (socket string) {
	t.Helper()
	socket = filepath.Join(tempDir(t), "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			n, _ := c.Read(buf)
			if text := answer(string(buf[:n])); text != nil {
				_, _ = c.Write(text)
				c.Close()
			} else {
				t.Cleanup(func() { c.Close() })
			}
		}
	}()
	return socket
}

// TestForeignOddities covers behaviour that the real slirp4netns can't be made to show.
func TestForeignOddities(t *testing.T) { asCaller(t, testForeignOddities) }

func testForeignOddities(t *testing.T) {
	w := newWorld(t)
	entry := map[string]any{"id": 7, "proto": "tcp", "host_addr": "0.0.0.0", "host_port": 8080, "guest_addr": "10.0.2.100", "guest_port": 80}
	documented, err := json.Marshal(map[string]any{"return": map[string]any{"entries": []any{entry}}})
	if err != nil {
		t.Fatal(err)
	}
	list := w.rows("forward", "list", "--api-socket", fakeAPI(t, func(string) []byte { return documented }))
	if want := (row{7, "tcp", "0.0.0.0", 8080, "10.0.2.100", 80}); len(list) != 1 || list[0] != want {
		t.Errorf("the documented shape: %+v", list)
	}
	silent := fakeAPI(t, func(string) []byte { return nil })
	for _, args := range [][]string{{"list"}, {"add", "8080:80"}, {"remove", "1"}, {"set", "8080:80"}} {
		args = append([]string{"forward", args[0], "--timeout=200ms", "--api-socket=" + silent}, args[1:]...)
		w.refused(6, "did not answer in time", args...)
	}
	early := fakeAPI(t, func(string) []byte { return []byte{} })
	w.refused(1, "no reply", "forward", "list", "--api-socket", early)
	nonsense := fakeAPI(t, func(string) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") })
	w.refused(1, "is it slirp4netns?", "forward", "list", "--api-socket", nonsense)
	w.refused(4, "no such file", "forward", "list", "--api-socket", filepath.Join(w.dir, "none"))
}
