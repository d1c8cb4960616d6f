package control

import (
	"context"
	"sync"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
)

// Query returns the present state of each instance, asked of its supervisor; where that does not
// answer, what the state file says; and where there is none, a dead one. Instances that are
// still starting or have ended meanwhile are left out.
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

// QueryTraffic returns what the instances' taps have carried, by name, as far as they answer.
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
