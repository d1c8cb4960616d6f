// Command demo is `make demo`: it serves a page on the host's loopback, starts a shell in its own
// network namespace through `slirpctl up`, and has a program inside show its interface, route and
// name server, and fetch that page through slirp4netns. It exists so that one command demonstrates
// slirpctl, even on a machine without internet access.
//
// Usage: demo SLIRPCTL. The demo also is the program inside: demo fetch URL.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

// gateway is the host as seen from inside: the second address of slirp4netns's default network.
const gateway = "10.0.2.2"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit status.
func run(args []string, stdout, stderr io.Writer) int {
	var err error
	switch {
	case len(args) == 2 && args[0] == "fetch":
		err = fetch(stdout, args[1])
	case len(args) == 1:
		err = demo(stdout, stderr, args[0])
	default:
		fmt.Fprintln(stderr, "usage: demo SLIRPCTL | demo fetch URL")
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo: error:", err)
		return 1
	}
	return 0
}

// fetch prints the response of the server at url, within 10 seconds.
func fetch(w io.Writer, url string) error {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	_, err = io.Copy(w, resp.Body)
	return err
}

// demo serves the page and runs slirpctl until the program inside has read it.
func demo(stdout, stderr io.Writer, slirpctl string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	served := make(chan struct{}, 1)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "Hello from %s, which only this host can reach.\n", listener.Addr())
			select {
			case served <- struct{}{}:
			default:
			}
		}),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	defer func() {
		server.Close()
		<-done
	}()

	_, port, _ := strings.Cut(listener.Addr().String(), ":")
	url := "http://" + gateway + ":" + port + "/"
	// Show each line before it runs, like a shell's set -x.
	lines := []string{"ip -br addr", "ip route", "cat /etc/resolv.conf", "fetch " + url}
	script := `fetch() { "$0" fetch "$1"; }` + "\n"
	for _, line := range lines {
		script += "echo; echo '# " + line + "'; " + line + " || exit\n"
	}

	fmt.Fprintf(stdout, "$ slirpctl up --allow-host-loopback -- sh\n")
	// Ctrl-C reaches slirpctl from the terminal, and it ends by itself; wait for that.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	cmd := exec.Command(slirpctl, "up", "--allow-host-loopback", "--", "sh", "-c", script, self)
	// A temporary state directory: the demo leaves nothing on the machine.
	state, err := os.MkdirTemp("", "demo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(state)
	cmd.Env = append(os.Environ(), "SLIRPCTL_STATE_DIR="+state)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	err = cmd.Run()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		return fmt.Errorf("slirpctl up: %w", err)
	}
	select {
	case <-served:
	default:
		return errors.New("the program inside ended without fetching the page")
	}
	fmt.Fprintln(stdout, "\nIt works: that program ran in a network namespace of its own.")
	return nil
}
