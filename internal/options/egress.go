package options

import (
	"errors"
	"net/url"
	"strings"

	"github.com/slirpctl/slirpctl/internal/egress"
)

// joinPorts puts together again what a list with commas between its rules took apart: 443 in
// "example.org:80,443".
func joinPorts(texts []string) (rules []string) {
	for _, t := range texts {
		ports, _, _ := strings.Cut(t, "/")
		if len(rules) > 0 && ports != "" && strings.Trim(ports, "0123456789-") == "" {
			rules[len(rules)-1] += "," + t
			continue
		}
		rules = append(rules, t)
	}
	return rules
}

// completeEgress reads the policy file, and settles the mode: rules that nothing heeds would be none.
func completeEgress(m *Merged, won map[*Key]assignment, read func(string) ([]byte, error)) error {
	mode, said := won[lookup("egress")]
	if m.Egress.File != "" {
		a := won[lookup("egress-policy")]
		p, err := egress.ReadPolicy(m.Egress.File, read)
		if err != nil {
			return a.errorf(err.Error())
		}
		m.Egress.Rules = append(m.Egress.Rules, p.Rules...)
		if !said {
			m.Egress.Mode = p.Mode
		}
	}
	if m.Egress.Mode != egress.Open {
		return nil
	}
	if m.Egress.File == "" && len(m.Egress.Rules) == 0 {
		if (m.Egress.Record != "" || m.Egress.Upstream != "") && !said {
			m.Egress.Mode = egress.Log
		}
		return nil
	}
	if said {
		e := mode.errorf("there are egress rules, which open does not heed")
		e.Help = "use --egress log or --egress deny"
		return e
	}
	m.Egress.Mode = egress.Enforce
	return nil
}

// addAnnotatedRules adds what a container's annotations say about egress. They can only narrow: what leaves must
// be allowed by the rules of the other sources and by these.
func addAnnotatedRules(m *Merged, annotations map[string]string) error {
	for _, source := range []struct {
		name   string
		action egress.Action
	}{{AnnotationAllow, egress.Allow}, {AnnotationDeny, egress.Deny}} {
		text, ok := annotations[source.name]
		if !ok {
			continue
		}
		for _, t := range joinPorts(splitList(text)) {
			r, err := egress.ParseRule(source.action, t)
			if err != nil {
				return &Error{Source: "annotation " + source.name, Value: t, Reason: err.Error(), Err: err}
			}
			m.Egress.Narrow = append(m.Egress.Narrow, r)
		}
		if source.action == egress.Deny && annotations[AnnotationAllow] == "" {
			m.Egress.Narrow = append(m.Egress.Narrow, egress.Everything()...)
		}
		m.Egress.Narrowed = true
		if m.IPv6 || m.PortHandler == HandlerSlirp4netns {
			return &Error{Source: "annotation " + source.name, Value: text, Reason: "egress rules go neither with --ipv6 nor with --port-handler slirp4netns"}
		}
	}
	if m.Egress.Narrowed && m.Egress.Mode == egress.Open {
		m.Egress.Mode, m.Egress.Rules = egress.Enforce, egress.Everything()
	}
	return nil
}

// parseProxy checks the URL of a proxy.
func parseProxy(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "socks5" || u.Port() == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return "", errors.New("not http://HOST:PORT or socks5://HOST:PORT")
	}
	return s, nil
}
