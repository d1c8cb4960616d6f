package selftest

import (
	"context"
	"encoding/json"
	"os"
	"time"
)

// Command is the hidden argument that runs slirpctl as the command inside the namespace.
const Command = "__self-test"

// The ports of the servers inside, where all ports are free.
const (
	guestEchoPort = 7
	guestDNSPort  = 53
)

// task is a task for the guest, one line of JSON on its standard input.
type task struct {
	Kind    kind          `json:"kind"`
	Addr    string        `json:"addr"`
	Timeout time.Duration `json:"timeout"`
}

// outcome is the result of a task, one line on the guest's standard output. The first one, before any task,
// reports that the servers listen.
type outcome struct {
	Error string `json:"error"` // "" on success
}

func newOutcome(err error) outcome {
	if err == nil {
		return outcome{}
	}
	return outcome{err.Error()}
}

// Guest is the main function of the command inside: it runs servers, and does tasks until its
// standard input ends. It returns the exit status.
func Guest() int {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	s, err := serve("", guestEchoPort, guestDNSPort)
	if out.Encode(newOutcome(err)) != nil || err != nil {
		return 1
	}
	defer s.close()
	for {
		var t task
		if err := in.Decode(&t); err != nil {
			return 0
		}
		ctx, cancel := context.WithTimeout(context.Background(), t.Timeout)
		err := exchange(ctx, t.Kind, t.Addr)
		cancel()
		if out.Encode(newOutcome(err)) != nil {
			return 1
		}
	}
}
