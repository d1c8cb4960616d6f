package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFetch(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, "hello\n")
	}))
	defer server.Close()
	var out bytes.Buffer
	if status := run([]string{"fetch", server.URL + "/"}, &out, &out); status != 0 || out.String() != "hello\n" {
		t.Errorf("status %d, output %q", status, out.String())
	}
	if status := run([]string{"fetch", server.URL + "/nothing"}, &out, &out); status != 1 {
		t.Errorf("a missing page gives status %d, want 1", status)
	}
}

// TestDemoNoFetch uses a slirpctl that does nothing: the demo must not claim success.
func TestDemoNoFetch(t *testing.T) {
	fake := filepath.Join(t.TempDir(), "slirpctl")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if status := run([]string{fake}, &out, &out); status != 1 {
		t.Errorf("status %d, want 1", status)
	}
	if !strings.Contains(out.String(), "without fetching the page") {
		t.Errorf("output %q", out.String())
	}
}

func TestUsage(t *testing.T) {
	var out bytes.Buffer
	if status := run(nil, &out, &out); status != 2 {
		t.Errorf("status %d, want 2", status)
	}
}
