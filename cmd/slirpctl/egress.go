package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/control"
	"github.com/slirpctl/slirpctl/internal/egress"
)

func newEgressCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "egress",
		Short: "Show and change whom an instance may talk to, and show whom it talked to",
		Long: `Show and change whom an instance may talk to, and show whom it talked to. The
instance was started with --egress, --allow, --deny or --egress-policy.

A RULE is TARGET[:PORTS][/PROTO]. TARGET is a host name, *.SUFFIX (at any depth,
not SUFFIX itself), an address, a CIDR or * ; PORTS are numbers and ranges with
commas between, or * [80,443]; PROTO is tcp, udp or icmp [tcp]. --deny wins over
--allow.`,
	}
	cmd.AddCommand(newEgressListCmd(a), newEgressChangeCmd(a, false), newEgressRemoveCmd(a), newEgressChangeCmd(a, true),
		newEgressCheckCmd(a), newEgressLogCmd(a), newEgressRecordCmd(a))
	return cmd
}

func newEgressListCmd(a *app) *cobra.Command {
	var output printer
	cmd := &cobra.Command{
		Use:     "list [flags] NAME",
		Aliases: []string{"ls"},
		Short:   "Show the egress rules of an instance",
		Args:    takes("NAME"), ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.controlClient(ctx, args[0])
			if err != nil {
				return err
			}
			list, err := c.Rules(ctx)
			if err != nil {
				return err
			}
			return printRules(&output, list)
		},
	}
	a.addTimeout(cmd)
	addPrinter[egress.Entry](cmd, &output, "array")
	return cmd
}

func printRules(p *printer, list []egress.Entry) error {
	return p.table(list, func() *table {
		if len(list) == 0 {
			return nil
		}
		t := newTable("ID", "ACTION", "RULE")
		for _, e := range list {
			t.add(plain(strconv.Itoa(e.ID)), plain(e.Action.String()), plain(e.Text))
		}
		return t
	})
}

// newEgressChangeCmd returns the command add or, with set, the command set.
func newEgressChangeCmd(a *app, set bool) *cobra.Command {
	var output printer
	var deny []string
	var file string
	cmd := &cobra.Command{
		Use:   "add [flags] NAME [RULE...]",
		Short: "Add egress rules, all or none",
		Long: `Add egress rules to allow, and with --deny to deny; all or none. Connections
that are no longer allowed are reset at once.`,
		Example: `  slirpctl egress add web pypi.org '*.pythonhosted.org'
  slirpctl egress add web --deny tracker.example`,
		ValidArgsFunction: a.completeInstances(1),
	}
	if set {
		cmd.Use, cmd.Short = "set [flags] NAME [RULE...]", "Make the egress rules exactly these"
		cmd.Long = `Make the egress rules exactly these. A rule that stays keeps its id. Connections
that are no longer allowed are reset at once. Without any RULE, nothing may
leave.`
		cmd.Example = `  slirpctl egress set web --policy policy.yaml`
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return wrongUsage("no instance named", "give its NAME, which slirpctl list shows")
		}
		rules, err := parseRules(args[1:], deny, file)
		if err != nil {
			return err
		}
		if len(rules) == 0 && !set {
			return wrongUsage("no egress rule given", "usage: "+cmd.UseLine())
		}
		ctx := cmd.Context()
		c, err := a.controlClient(ctx, args[0])
		if err != nil {
			return err
		}
		change := c.AddRules
		if set {
			change = c.SetRules
		}
		list, err := change(ctx, rules)
		if err != nil {
			return err
		}
		return printRules(&output, list)
	}
	cmd.Flags().StringArrayVar(&deny, "deny", nil, "deny what `RULE` names, whatever is allowed; repeatable")
	cmd.Flags().StringVar(&file, "policy", "", "read rules from the policy `FILE` too")
	a.addTimeout(cmd)
	addPrinter[egress.Entry](cmd, &output, "array")
	return cmd
}

func parseRules(allow, deny []string, file string) ([]egress.Rule, error) {
	var rules []egress.Rule
	for action, texts := range map[egress.Action][]string{egress.Allow: allow, egress.Deny: deny} {
		for _, t := range texts {
			r, err := egress.ParseRule(action, t)
			if err != nil {
				return nil, err
			}
			rules = append(rules, r)
		}
	}
	if file != "" {
		p, err := egress.ReadPolicy(file, nil)
		if err != nil {
			return nil, err
		}
		rules = append(rules, p.Rules...)
	}
	return rules, nil
}

func newEgressRemoveCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "remove [flags] NAME ID|RULE...",
		Aliases: []string{"rm"}, SuggestFor: []string{"delete", "del"},
		Short: "Remove egress rules, all or none",
		Long: `Remove egress rules by id or as egress list prints them; if one is not there, none
is removed. Connections that are no longer allowed are reset at once.`,
		Example:           `  slirpctl egress remove web 3 pypi.org`,
		ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return wrongUsage("neither id nor egress rule given", "usage: "+cmd.UseLine())
			}
			ctx := cmd.Context()
			c, err := a.controlClient(ctx, args[0])
			if err != nil {
				return err
			}
			ids, err := ruleIDs(ctx, c, args[1:])
			if err != nil {
				return err
			}
			return c.RemoveRules(ctx, ids)
		},
	}
	a.addTimeout(cmd)
	return cmd
}

// ruleIDs finds the ids of rules that are given by id or as text; as text, allow and deny rules both.
func ruleIDs(ctx context.Context, c *control.Client, which []string) (ids []int, err error) {
	var list []egress.Entry
	for _, w := range which {
		if id, err := strconv.Atoi(w); err == nil {
			ids = append(ids, id)
			continue
		}
		if list == nil {
			if list, err = c.Rules(ctx); err != nil {
				return nil, err
			}
		}
		found := false
		for _, action := range []egress.Action{egress.Allow, egress.Deny} {
			r, err := egress.ParseRule(action, w)
			if err != nil {
				return nil, err
			}
			for _, e := range list {
				if e.Action == action && e.Text == r.String() {
					ids, found = append(ids, e.ID), true
				}
			}
		}
		if !found {
			return nil, egress.NotFound(w)
		}
	}
	return ids, nil
}

func newEgressCheckCmd(a *app) *cobra.Command {
	var output printer
	cmd := &cobra.Command{
		Use:   "check [flags] NAME HOST:PORT[/PROTO]",
		Short: "Say whether a host may be reached, and by which rule",
		Long: `Say whether a host may be reached, and by which rule. Nothing is sent and no name
is resolved. The exit status is 0 if it may be, 1 if not.`,
		Example: `  slirpctl egress check web pypi.org:443`,
		Args:    takes("NAME", "HOST:PORT[/PROTO]"), ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := egress.ParseFlow(args[1]); err != nil {
				return err
			}
			ctx := cmd.Context()
			c, err := a.controlClient(ctx, args[0])
			if err != nil {
				return err
			}
			v, err := c.CheckEgress(ctx, args[1])
			if err != nil {
				return err
			}
			if err := output.print(v, func() (string, error) { return verdictText(v) + "\n", nil }); err != nil {
				return err
			}
			if !v.Allowed {
				return statusError(exitFailure)
			}
			return nil
		},
	}
	a.addTimeout(cmd)
	addPrinter[control.Verdict](cmd, &output, "object")
	return cmd
}

func verdictText(v control.Verdict) string {
	text := egress.Denied
	if v.Allowed {
		text = egress.Allowed
	}
	if v.Rule != nil {
		text += fmt.Sprintf(" by rule %d: %s %s", v.Rule.ID, v.Rule.Action, v.Rule.Text)
	}
	if v.Reason != "" {
		text += ": " + v.Reason
	}
	return text
}

func newEgressLogCmd(a *app) *cobra.Command {
	o := &egressLog{}
	cmd := &cobra.Command{
		Use:   "log [flags] NAME",
		Short: "Show whom an instance talked to",
		Long: `Show whom an instance talked to: a line for each connection that has ended, each flow
of datagrams that is idle, and each name that could not be looked up.`,
		Example: `  slirpctl egress log -f --denied web`,
		Args:    takes("NAME"), ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			base, err := a.openBase()
			if err != nil {
				return err
			}
			e, err := base.Find(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			o.w = a.out
			return e.CopyEgressLog(cmd.Context(), o, o.follow)
		},
	}
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "follow new lines until the instance ends")
	cmd.Flags().BoolVar(&o.denied, "denied", false, "show only what was denied, or would have been")
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON objects, one a line, as they are in the log")
	return cmd
}

func newEgressRecordCmd(a *app) *cobra.Command {
	var generalize bool
	cmd := &cobra.Command{
		Use:   "record [flags] NAME",
		Short: "Print a policy that allows what has passed so far",
		Long: `Print the smallest policy file that would have allowed what has passed since the
instance was started: by name where a name was asked for.`,
		Example: `  slirpctl egress record web > policy.yaml`,
		Args:    takes("NAME"), ValidArgsFunction: a.completeInstances(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.controlClient(ctx, args[0])
			if err != nil {
				return err
			}
			rules, complete, err := c.EgressPolicy(ctx, generalize)
			if err != nil {
				return err
			}
			return egress.WritePolicy(a.out, rules, complete)
		},
	}
	cmd.Flags().BoolVar(&generalize, "generalize", false, "allow *.PARENT where several names have the same parent")
	a.addTimeout(cmd)
	return cmd
}
