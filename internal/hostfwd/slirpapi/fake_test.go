package slirpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

func asErr[T error](err error, target *T) bool { return errors.As(err, target) }

func isRefused(err error) bool     { var e *RefusedError; return errors.As(err, &e) }
func isUnreachable(err error) bool { return errors.Is(err, fault.NotFound) }
func isReply(err error) bool {
	return err != nil && (strings.HasPrefix(err.Error(), "no reply from slirp4netns") || strings.HasPrefix(err.Error(), "unexpected reply, is it slirp4netns?"))
}

// fakeServer answers each connection with serve, for behaviour that the real slirp4netns can't be
// made to show. It returns the socket's path.
func fakeServer(t *testing.T, serve func(c *net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.UnixConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return path
}

// answer reads the request as slirp4netns does, in one read, and sends reply.
func answer(t *testing.T, reply string) string {
	return fakeServer(t, func(c *net.UnixConn) {
		b := make([]byte, 4096)
		if n, err := c.Read(b); err != nil || n == 4096 {
			t.Errorf("request of %d bytes, %v", n, err)
		}
		if n, err := c.Read(b); err != io.EOF {
			t.Errorf("after the request: %d bytes, %v", n, err)
		}
		io.WriteString(c, reply)
	})
}

func network(cidr string) (netip.Prefix, netip.Addr) {
	n := subnet.Default()
	if cidr != "" {
		n, _ = subnet.Parse(cidr)
	}
	return n.CIDR(), n.Guest()
}

func TestDocumentedShape(t *testing.T) {
	c := &Client{Path: answer(t, `{"return":{"entries":[{"id":3,"proto":"udp","host_addr":"0.0.0.0","host_port":53,"guest_addr":"10.0.2.100","guest_port":53}]}}`)}
	got, err := c.List(t.Context())
	want := hostfwd.Status{ID: 3, Forward: hostfwd.Forward{
		Proto: "udp", HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: 53, GuestIP: netip.MustParseAddr("10.0.2.100"), GuestPort: 53,
	}}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestRequestBytes(t *testing.T) {
	var got []string
	var mu sync.Mutex
	path := fakeServer(t, func(c *net.UnixConn) {
		b, _ := io.ReadAll(c)
		mu.Lock()
		got = append(got, string(b))
		mu.Unlock()
		io.WriteString(c, `{"return":{"id":1}}`)
	})
	c := &Client{Path: path}
	c.Add(t.Context(), hostfwd.Forward{Proto: "tcp", HostPort: 8080, GuestPort: 80})
	c.Add(t.Context(), hostfwd.Forward{Proto: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 1, GuestIP: netip.MustParseAddr("10.0.2.7"), GuestPort: 2})
	c.Remove(t.Context(), 7)
	c.List(t.Context())
	mu.Lock()
	defer mu.Unlock()
	want := `{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":8080,"guest_port":80}}
{"execute":"add_hostfwd","arguments":{"proto":"udp","host_addr":"127.0.0.1","host_port":1,"guest_addr":"10.0.2.7","guest_port":2}}
{"execute":"remove_hostfwd","arguments":{"id":7}}
{"execute":"list_hostfwd"}`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("sent\n%s\nwant\n%s", s, want)
	}
}

func TestNeverAnswers(t *testing.T) {
	end := make(chan struct{})
	path := fakeServer(t, func(c *net.UnixConn) { <-end })
	defer close(end)

	c := &Client{Path: path}
	for _, c.Timeout = range []time.Duration{50 * time.Millisecond, time.Millisecond, 20 * time.Microsecond, 1} { // also while it connects
		_, err := c.List(t.Context())
		if !errors.Is(err, fault.Timeout) || !errors.Is(err, context.DeadlineExceeded) || fault.Hint(err) == "" {
			t.Errorf("its own time, %s: %v", c.Timeout, err)
		}
	}
	c.Timeout = 0
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.List(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the context's time: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	f := &Foreign{Client: Client{Path: path, Timeout: 50 * time.Millisecond}, Network: network}
	if _, err := f.Add(t.Context(), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("foreign: %v", err)
	}
}

// slirp4netns stops answering in the middle of a batch: the rollback does not wait for each
// forward.
func TestStopsAnswering(t *testing.T) {
	end := make(chan struct{})
	defer close(end)
	var mu sync.Mutex
	requests := 0
	path := fakeServer(t, func(c *net.UnixConn) {
		mu.Lock()
		requests++
		n := requests
		mu.Unlock()
		if n > 50 {
			<-end
			return
		}
		io.ReadAll(c)
		fmt.Fprintf(c, `{"return":{"id":%d}}`, n)
	})
	m := hostfwd.NewManager(NewHandler(Config{Path: path, Timeout: 3 * time.Second}), hostfwd.Config{Guest: netip.MustParseAddr("10.0.2.100")})
	_, err := m.Add(t.Context(), forwards(t, "20000-20099:1-100"))
	var ae *hostfwd.AddError
	if !asErr(err, &ae) || ae.Index != 50 || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if requests != 52 { // 50 answered, the one that failed, and one of the rollback
		t.Errorf("%d requests", requests)
	}
}

func TestBadReplies(t *testing.T) {
	for name, reply := range map[string]string{
		"nothing":           "",
		"cut":               `{"return":{"id":`,
		"garbage":           "SSH-2.0-OpenSSH_9.2\r\n",
		"wrong type":        `{"return":[1]}`,
		"empty object":      `{}`,
		"null":              `null`,
		"binary":            "\x00\xff\x00",
		"two":               `{"return":{}}{"return":{}}`,
		"no id":             `{"return":{"id":0}}`,
		"return of nothing": `{"return":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := &Client{Path: answer(t, reply)}
			if id, err := c.Add(t.Context(), hostfwd.Forward{Proto: "tcp", HostPort: 1, GuestPort: 1}); !isReply(err) {
				t.Errorf("add: %d, %v", id, err)
			}
			if list, err := c.List(t.Context()); !isReply(err) {
				t.Errorf("list: %v, %v", list, err)
			}
		})
	}
	c := &Client{Path: answer(t, `{"error":{"desc":"bad request: so it is"}}`)}
	if err := c.Remove(t.Context(), 1); !isRefused(err) || !strings.Contains(err.Error(), "so it is") {
		t.Errorf("got %v", err)
	}
	for name, entry := range map[string]string{
		"address": `"host_addr":"nowhere","host_port":1,"guest_addr":"10.0.2.100","guest_port":1`,
		"IPv6":    `"host_addr":"::","host_port":1,"guest_addr":"10.0.2.100","guest_port":1`,
		"port":    `"host_addr":"0.0.0.0","host_port":1e300,"guest_addr":"10.0.2.100","guest_port":1`,
	} {
		if list, err := parseList([]byte(`{"entries":[{"id":1,"proto":"tcp",` + entry + `}]}`)); !isReply(err) {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

func TestClosesEarly(t *testing.T) {
	path := fakeServer(t, func(c *net.UnixConn) {}) // unread data: the client sees a reset or end of file
	for range 20 {
		if _, err := (&Client{Path: path}).List(t.Context()); !isReply(err) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestHugeReply(t *testing.T) {
	path := fakeServer(t, func(c *net.UnixConn) {
		chunk := bytes.Repeat([]byte(" "), 1<<20)
		for {
			if _, err := c.Write(chunk); err != nil {
				return // the client has closed the connection
			}
		}
	})
	if _, err := (&Client{Path: path, Timeout: time.Minute}).List(t.Context()); !isReply(err) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func TestLongList(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"entries":[`)
	for i := range 1100 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":%d,"proto":"tcp","host_addr":"0.0.0.0","host_port":%d,"guest_addr":"10.0.2.100","guest_port":80}`, i+1, 20000+i)
	}
	b.WriteString(`]}`)
	f := &Foreign{Client: Client{Path: answer(t, b.String())}, Network: network}
	list, err := f.List(t.Context())
	if err != nil || len(list) != 1100 || list[1099].HostPort != 21099 {
		t.Errorf("%d, %v", len(list), err)
	}
	// The process behind it is not slirp4netns: its network is unknown.
	if _, err := f.Set(t.Context(), nil); !errors.Is(err, ErrNetworkUnknown) {
		t.Errorf("set: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir + "/none", "@abstract", dir + strings.Repeat("/long", 30)} {
		if _, err := (&Client{Path: path}).List(t.Context()); !isUnreachable(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A refusal that no trial bind explains: a privilege that slirp4netns lacks, or else its own text.
func TestRefusedWithoutReason(t *testing.T) {
	path := fakeServer(t, func(c *net.UnixConn) {
		if b, _ := io.ReadAll(c); bytes.Contains(b, []byte("add")) {
			io.WriteString(c, `{"error":{"desc":"bad request: add_hostfwd: slirp_add_hostfwd failed"}}`)
			return
		}
		io.WriteString(c, `{"entries":[]}`)
	})
	h := NewHandler(Config{Path: path})
	if _, err := h.Open(t.Context(), forwards(t, "127.0.0.1:7:10.0.2.100:80")[0]); !errors.Is(err, syscall.EACCES) || !errors.Is(err, fault.Unsupported) {
		t.Errorf("port 7: %v", err)
	}
	for _, spec := range []string{fmt.Sprintf("127.0.0.1:%d:10.0.2.100:80", freePort(t)), "127.0.0.1:0:10.0.2.100:80"} {
		if _, err := h.Open(t.Context(), forwards(t, spec)[0]); !isRefused(err) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// If the network is unknown, the default guest is left to slirp4netns.
func TestForeignUnknownNetwork(t *testing.T) {
	var mu sync.Mutex
	added := ""
	path := fakeServer(t, func(c *net.UnixConn) {
		b, _ := io.ReadAll(c)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case bytes.Contains(b, []byte("add")):
			added = string(b)
			io.WriteString(c, `{"return":{"id":4}}`)
		case added == "":
			io.WriteString(c, `{"entries":[]}`)
		default:
			io.WriteString(c, `{"entries":[{"id":4,"proto":"tcp","host_addr":"0.0.0.0","host_port":8080,"guest_addr":"10.44.0.100","guest_port":80}]}`)
		}
	})
	f := &Foreign{Client: Client{Path: path}, Network: network}
	list, err := f.Add(t.Context(), forwards(t, "8080:80"))
	if err != nil || len(list) != 1 || list[0].ID != 4 || list[0].GuestIP != netip.MustParseAddr("10.44.0.100") {
		t.Errorf("got %v, %v", list, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(added, "guest_addr") {
		t.Errorf("sent %s", added)
	}
}

func TestCidrOf(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"slirp4netns -c 1 tap0", "10.0.2.0/24"},
		{"/usr/bin/slirp4netns --cidr=10.1.0.0/16 1 tap0", "10.1.0.0/16"},
		{"slirp4netns --cidr 10.1.0.0/16 1 tap0", "10.1.0.0/16"},
		{"slirp4netns --ci=10.1.0.0/16 --cidr=10.2.0.0/16 1", "10.2.0.0/16"},
		{"slirp4netns --cidr", "10.0.2.0/24"},
		{"slirp4netns --cidr=junk 1", "invalid Prefix"},
		{"nginx --cidr=10.1.0.0/16", "invalid Prefix"},
		{"", "invalid Prefix"},
	} {
		got := "invalid Prefix"
		if cidr, ok := cidrOf(strings.Split(tt.line, " ")); ok {
			n, _ := network(cidr)
			got = n.String()
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.line, got, tt.want)
		}
	}
}

func TestLoopbackWarning(t *testing.T) {
	for spec, want := range map[string]bool{
		"53:53/udp": true, "127.0.0.1:53:53/udp": true, "53:53": false, "192.0.2.1:53:53/udp": false, "53:53/tcp,udp": true,
	} {
		var fresh []hostfwd.Status
		for i, f := range forwards(t, spec) {
			fresh = append(fresh, hostfwd.Status{ID: i + 1, Forward: f})
		}
		if got := len(Warnings(fresh, fresh, true)) > 0; got != want || len(Warnings(fresh, fresh, false)) > 0 {
			t.Errorf("%s: %v", spec, got)
		}
	}
}

func TestSameGuestWarning(t *testing.T) {
	for _, tt := range []struct {
		have, fresh string
		want        string
	}{
		{"127.0.0.1:8080:80", "127.0.0.1:8081:80", "hang"},
		{"127.0.0.1:53:53/udp", "127.0.0.2:53:53/udp", "used last"},
		{"127.0.0.1:53:53/udp", "127.0.0.1:53:53/tcp", ""},
		{"127.0.0.1:8080:80", "127.0.0.1:8081:81", ""},
		{"127.0.0.1:8080:10.0.2.7:80", "127.0.0.1:8081:10.0.2.8:80", ""},
		{"127.0.0.1:8080:80/tcp4", "127.0.0.1:8081:80/tcp", "hang"},
	} {
		have := hostfwd.Status{ID: 1, Forward: forwards(t, tt.have)[0]}
		fresh := hostfwd.Status{ID: 2, Forward: forwards(t, tt.fresh)[0]}
		got := strings.Join(Warnings([]hostfwd.Status{have, fresh}, []hostfwd.Status{fresh}, false), "")
		if (got != "") != (tt.want != "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s and %s: %q", tt.have, tt.fresh, got)
		}
	}
}

func FuzzParseReply(f *testing.F) {
	for _, s := range []string{
		`{"return":{"id":1}}`, `{"return":{}}`, `{"error":{"desc":"bad request: x"}}`, `{"entries":[]}`, `{"return":{"entries":[]}}`,
		`{"entries":[{"id":1,"proto":"tcp","host_addr":"0.0.0.0","host_port":70000,"guest_addr":"10.0.2.100","guest_port":-80.5}]}`,
		`{"entries":null,"return":null,"error":null}`, `{"return":{"entries":{}}}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if id, err := parseAdd(data); err == nil && id < 1 {
			t.Errorf("id %d", id)
		} else if err != nil && !isReply(err) && !isRefused(err) {
			t.Errorf("%T", err)
		}
		if err := parseRemove(data); err != nil && !isReply(err) && !isRefused(err) {
			t.Errorf("%T", err)
		}
		entries, err := parseList(data)
		if err != nil && !isReply(err) && !isRefused(err) {
			t.Errorf("%T", err)
		}
		for _, e := range entries {
			if f := e.Forward; e.ID < 1 || !f.Proto.Valid() || !f.HostIP.Is4() || !f.GuestIP.Is4() {
				t.Errorf("%+v", e)
			}
		}
	})
}
