package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// clientHello returns what crypto/tls sends first.
func clientHello(t testing.TB, name string, protos ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	c := tls.Client(&helloConn{w: &out}, &tls.Config{ServerName: name, InsecureSkipVerify: name == "", NextProtos: protos})
	if err := c.Handshake(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return out.Bytes()
}

// helloConn takes what is written to it, and says nothing.
type helloConn struct {
	recorder
	w io.Writer
}

func (c *helloConn) Write(b []byte) (int, error) { return c.w.Write(b) }
func (*helloConn) Read([]byte) (int, error)      { return 0, io.EOF }

// split splits a TLS record into several of at most n bytes.
func split(hello []byte, n int) []byte {
	var out []byte
	for body := hello[5:]; len(body) > 0; {
		k := min(n, len(body))
		out = append(append(out, hello[0], hello[1], hello[2], byte(k>>8), byte(k)), body[:k]...)
		body = body[k:]
	}
	return out
}

func TestClientHello(t *testing.T) {
	check := checkFor("www.example", 443)
	good := clientHello(t, "www.example")
	for name, hello := range map[string][]byte{
		"plain": good, "case": clientHello(t, "WWW.Example"), "ALPN": clientHello(t, "www.example", "h2", "http/1.1"),
		"records of 100": split(good, 100), "records of 1": split(good, 1),
		"large": clientHello(t, "www.example", strings.Split(strings.Repeat("a-protocol-of-a-long-name ", 500), " ")[:500]...),
	} {
		for how, r := range map[string]io.Reader{
			"whole": bytes.NewReader(hello), "byte by byte": iotest.OneByteReader(bytes.NewReader(hello)),
			"with data": bytes.NewReader(append(bytes.Clone(hello), "early"...)),
		} {
			head, err := check(r)
			if err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
				continue
			}
			// What was read goes on, and what was not is still there.
			rest, _ := io.ReadAll(r)
			if got := append(head, rest...); !bytes.HasPrefix(got, hello) || how == "with data" && !bytes.HasSuffix(got, []byte("early")) {
				t.Errorf("%s, %s: other bytes go on", name, how)
			}
		}
	}
	other := clientHello(t, "evil.example")
	for name, hello := range map[string][]byte{
		"no name": clientHello(t, ""), "another": other, "another, split": split(other, 7),
		"a suffix": clientHello(t, "www.example.evil.test"), "a prefix": clientHello(t, "www.exampl"), "below": clientHello(t, "a.www.example"),
		"trailing dot": bytes.Replace(good, []byte("www.example"), []byte("www.exampl."), 1),
		"NUL":          bytes.Replace(good, []byte("www.example"), []byte("www.exampl\x00"), 1),
		"an address":   bytes.Replace(good, []byte("www.example"), []byte("192.0.2.100"), 1),
		"cut":          good[:len(good)-1], "empty": {}, "HTTP": []byte("GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"),
		"SSLv2":    []byte("\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10www.example"),
		"an alert": []byte("\x15\x03\x01\x00\x02\x01\x00"),
		"endless":  bytes.Repeat([]byte("\x16\x03\x01\x00\x01\x01"), mostHead),
		"padding":  append([]byte("\x16\x03\x01\x40\x00\x01\x00\xff\xff"), make([]byte, 2*mostHead)...),
	} {
		if head, err := check(bytes.NewReader(hello)); err == nil {
			t.Errorf("%s: %d bytes go on", name, len(head))
		} else if !strings.Contains(err.Error(), "www.example was asked for") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if checkFor("www.example", 8443) != nil {
		t.Error("other ports are looked into")
	}
}

func TestRequestHost(t *testing.T) {
	check := checkFor("www.example", 80)
	for _, head := range []string{
		"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n",
		"GET / HTTP/1.1\nHost: www.example\n\n",
		"POST / HTTP/1.1\r\nA: b\r\nhOST:WWW.Example:80\r\nContent-Length: 4\r\n\r\nbody",
		"POST / HTTP/1.1\r\nHost: www.example.\r\nContent-Length: 20\r\n\r\nHost: evil.example\r\n",
		"GET http://www.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: www.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example\r\nCookie: " + strings.Repeat("x", 20000) + "\r\n\r\n",
	} {
		for _, r := range []io.Reader{strings.NewReader(head), iotest.OneByteReader(strings.NewReader(head))} {
			got, err := check(r)
			rest, _ := io.ReadAll(r)
			if err != nil || string(got)+string(rest) != head {
				t.Errorf("%.60q: %v, %q goes on", head, err, got)
			}
		}
	}
	for _, head := range []string{
		"", "GET / HTTP/1.1\r\n\r\n", "GET /\r\n", "GET / HTTP/1.0\r\n\r\n", "nonsense\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example\r\n", // no end
		// Two hosts, of which servers take the one or the other.
		"GET / HTTP/1.1\r\nHost: www.example\r\nHost: evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: evil.example\r\nHost: www.example\r\n\r\n",
		"GET http://www.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"GET http://evil.example/ HTTP/1.1\r\nHost: www.example\r\n\r\n",
		"GET http://www.example/ HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example\r\nHost : evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example\r\n Host: evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example\r\n\tevil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\rHost: evil.example\r\nHost: www.example\r\n\r\n",
		"GET / HTTP/1.1\rHost: evil.example\r\nHost: www.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example, evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example@evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: www.example\x00.evil.example\r\n\r\n",
		"CONNECT evil.example:443 HTTP/1.1\r\nHost: www.example\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET / HTTP/1.1\r\nCookie: " + strings.Repeat("x", mostHead) + "\r\nHost: www.example\r\n\r\n",
	} {
		if got, err := check(strings.NewReader(head)); err == nil {
			t.Errorf("%.100q: goes on: %q", head, got)
		}
	}
	if _, err := check(strings.NewReader(string(clientHello(t, "www.example")))); err == nil {
		t.Error("TLS on port 80 goes on")
	}
}

// FuzzClientHello: a hello passes only where the name is in it, and no more is read than the bound.
func FuzzClientHello(f *testing.F) {
	good := clientHello(f, "www.example")
	f.Add(good)
	f.Add(split(good, 50))
	f.Add(clientHello(f, "evil.example"))
	f.Fuzz(func(t *testing.T, hello []byte) {
		head, err := checkFor("www.example", 443)(bytes.NewReader(hello))
		if err != nil {
			return
		}
		var joined []byte // without the heads of its records
		for rest := head; len(rest) > 5; {
			n := min(len(rest), 5+(int(rest[3])<<8|int(rest[4])))
			joined, rest = append(joined, rest[5:n]...), rest[n:]
		}
		if !bytes.Contains(bytes.ToLower(joined), []byte("www.example")) || len(head) > mostHead || !bytes.HasPrefix(hello, head) {
			t.Fatalf("passes: %x", head)
		}
	})
}

// FuzzRequestHost: a head passes only if it names one host, and no line of it could be read as another's.
func FuzzRequestHost(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"))
	f.Add([]byte("GET http://www.example/ HTTP/1.1\r\nHost: www.example:80\r\nA: b\r\n c\r\n\r\nbody"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: www.example\r\nHost: evil.example\r\n\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		head, err := checkFor("www.example", 80)(bytes.NewReader(data))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(data, head) || len(head) > mostHead {
			t.Fatalf("other bytes go on: %q", head)
		}
		upTo, _, found := bytes.Cut(bytes.ReplaceAll(head, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
		if !found {
			t.Fatalf("no end of the head: %q", head)
		}
		hosts := 0
		for line := range strings.FieldsFuncSeq(string(upTo), func(c rune) bool { return c == '\n' || c == '\r' }) {
			name, value, _ := strings.Cut(line, ":")
			if !strings.EqualFold(strings.TrimSpace(name), "host") {
				continue
			}
			hosts++
			value = strings.ToLower(strings.TrimSpace(value))
			if value = strings.TrimSuffix(value[:max(0, min(len(value), 12))], ":"); strings.TrimSuffix(value, ".") != "www.example" {
				t.Fatalf("passes: %q", head)
			}
		}
		if hosts != 1 {
			t.Fatalf("%d hosts: %q", hosts, head)
		}
	})
}
