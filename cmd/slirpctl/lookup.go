package main

import (
	"context"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// find returns the current state of a running instance.
func (a *app) find(ctx context.Context, name string) (*instance.State, error) {
	base, err := a.openBase()
	if err != nil {
		return nil, err
	}
	e, err := base.Find(ctx, name)
	if err != nil {
		return nil, err
	}
	return control.NewClient(e.Socket()).State(ctx)
}

// lookupValues returns the addresses of a running instance, for `ip --name`.
func (a *app) lookupValues(ctx context.Context, name string) (subnet.Values, error) {
	st, err := a.find(ctx, name)
	if err != nil {
		return subnet.Values{}, err
	}
	v := st.CIDR.Values()
	v.DNS = st.DNS
	if st.IPv6 != nil {
		v.IPv6 = subnet.NewValues6(st.IPv6.Guest)
	}
	return v, nil
}
