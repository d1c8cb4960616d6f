package control

import (
	"context"
	"sync"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// Query returns the state of each instance: the supervisor's answer; if it does not answer, the
// state file; and without one, a state of [instance.Dead]. Instances that are still starting or have
// stopped are left out.
func Query(ctx context.Context, entries []instance.Entry) []instance.State {
	got := make([]*instance.State, len(entries))
	var wg sync.WaitGroup
	limit := make(chan struct{}, 16)
	for i, e := range entries {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			got[i] = queryOne(ctx, e)
		})
	}
	wg.Wait()
	out := []instance.State{}
	for _, st := range got {
		if st != nil {
			out = append(out, *st)
		}
	}
	return out
}

// QueryTraffic returns the traffic counters of the instances that answer, by name.
func QueryTraffic(ctx context.Context, sts []instance.State) map[string]instance.Traffic {
	out := map[string]instance.Traffic{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, st := range sts {
		wg.Go(func() {
			if t, err := NewClient(st.ControlSocket).Traffic(ctx); err == nil {
				mu.Lock()
				defer mu.Unlock()
				out[st.Name] = t
			}
		})
	}
	wg.Wait()
	return out
}

func queryOne(ctx context.Context, e instance.Entry) *instance.State {
	if e.State != nil && e.State.State == instance.Exited {
		return e.State
	}
	if st, err := NewClient(e.Socket()).State(ctx); err == nil {
		return st
	}
	if !e.Alive() || e.Starting() {
		return nil
	}
	if e.State != nil {
		return e.State
	}
	return &instance.State{Name: e.Name, State: instance.Dead, StateDir: e.Dir, ControlSocket: e.Socket(), Ports: []hostfwd.Status{}}
}
