package control

import (
	"context"
	"net/http"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/fault"
)

// Egress is what decides about what leaves an instance's namespace.
type Egress struct {
	Rules *egress.Set
	// Changed is called after a change of Rules, which holds at once for connections that are open, too.
	Changed func()
	// Check decides about a flow that is none.
	Check func(egress.Flow) egress.Verdict
	// Policy returns the rules that would have allowed what has passed; see [egress.Recorder.Policy].
	Policy func(generalize bool) (rules []egress.Rule, complete bool)
}

// changed reports a change of the rules, unless err is its failure.
func (e *Egress) changed(out any, err error) (any, error) {
	if err == nil {
		e.Changed()
	}
	return out, err
}

// errNoEgress: the instance was started without egress rules.
var errNoEgress = fault.New(fault.Unsupported, "the instance has no egress rules, and nothing between it and the network",
	"start it with --egress log, or with --allow")

// rule is a rule as it travels.
type rule struct {
	Action egress.Action `json:"action"`
	Rule   string        `json:"rule"`
}

func toRules(in []rule) ([]egress.Rule, error) {
	out := make([]egress.Rule, len(in))
	for i, r := range in {
		var err error
		if out[i], err = egress.ParseRule(r.Action, r.Rule); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func fromRules(in []egress.Rule) []rule {
	out := make([]rule, len(in))
	for i, r := range in {
		out[i] = rule{r.Action, r.String()}
	}
	return out
}

// policy is the rules that would have allowed what has passed.
type policy struct {
	Rules    []rule `json:"rules"`
	Complete bool   `json:"complete"`
}

// Verdict is the answer to a check.
type Verdict struct {
	Allowed bool          `json:"allowed"`
	Rule    *egress.Entry `json:"rule,omitempty"`
	Reason  string        `json:"reason,omitempty"`
}

func addEgressRoutes(handle func(string, route), b Backend) {
	with := func(f func(e *Egress, r *http.Request) (any, error)) route {
		return func(r *http.Request) (any, error) {
			e := b.Egress()
			if e == nil {
				return nil, errNoEgress
			}
			return f(e, r)
		}
	}
	change := func(f func(*Egress, []egress.Rule) (any, error)) route {
		return with(taking(func(e *Egress, in []rule) (any, error) {
			rules, err := toRules(in)
			if err != nil {
				return nil, err
			}
			return e.changed(f(e, rules))
		}))
	}
	const path = prefix + "/egress"
	handle("GET "+path, with(func(e *Egress, _ *http.Request) (any, error) { return e.Rules.Rules(), nil }))
	handle("POST "+path, change(func(e *Egress, rules []egress.Rule) (any, error) { return e.Rules.Add(rules...) }))
	handle("PUT "+path, change(func(e *Egress, rules []egress.Rule) (any, error) {
		err := e.Rules.Replace(rules...)
		return e.Rules.Rules(), err
	}))
	handle("DELETE "+path, with(taking(func(e *Egress, ids []int) (any, error) {
		return e.changed(struct{}{}, e.Rules.Remove(ids...))
	})))
	handle("POST "+path+"/check", with(taking(func(e *Egress, target string) (any, error) {
		f, err := egress.ParseFlow(target)
		if err != nil {
			return nil, err
		}
		return Verdict(e.Check(f)), nil
	})))
	handle("POST "+path+"/policy", with(taking(func(e *Egress, generalize bool) (any, error) {
		rules, complete := e.Policy(generalize)
		return policy{fromRules(rules), complete}, nil
	})))
}

// taking passes the request's body on to f.
func taking[T any](f func(e *Egress, in T) (any, error)) func(*Egress, *http.Request) (any, error) {
	return func(e *Egress, r *http.Request) (any, error) {
		in, err := decode[T](r)
		if err != nil {
			return nil, err
		}
		return f(e, in)
	}
}

// Rules returns the egress rules by id.
func (c *Client) Rules(ctx context.Context) ([]egress.Entry, error) {
	return get[[]egress.Entry](ctx, c, "GET", "/egress", nil)
}

// AddRules adds egress rules, all or nothing.
func (c *Client) AddRules(ctx context.Context, rules []egress.Rule) ([]egress.Entry, error) {
	return get[[]egress.Entry](ctx, c, "POST", "/egress", fromRules(rules))
}

// SetRules makes the egress rules exactly these.
func (c *Client) SetRules(ctx context.Context, rules []egress.Rule) ([]egress.Entry, error) {
	return get[[]egress.Entry](ctx, c, "PUT", "/egress", fromRules(rules))
}

// RemoveRules removes egress rules by id, all or nothing.
func (c *Client) RemoveRules(ctx context.Context, ids []int) error {
	return c.do(ctx, "DELETE", "/egress", ids, nil)
}

// CheckEgress asks whether HOST:PORT[/PROTO] may be reached; no name is resolved for it.
func (c *Client) CheckEgress(ctx context.Context, target string) (Verdict, error) {
	return get[Verdict](ctx, c, "POST", "/egress/check", target)
}

// EgressPolicy returns the rules that would have allowed what has passed; see [egress.Recorder.Policy].
func (c *Client) EgressPolicy(ctx context.Context, generalize bool) (rules []egress.Rule, complete bool, err error) {
	p, err := get[policy](ctx, c, "POST", "/egress/policy", generalize)
	if err != nil {
		return nil, false, err
	}
	rules, err = toRules(p.Rules)
	return rules, p.Complete, err
}
