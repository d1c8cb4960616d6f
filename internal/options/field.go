package options

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/egress"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// field parses the text of a key into its place in [Merged] and formats it. set gets the
// elements of a list, or exactly one text.
type field struct {
	set func(m *Merged, texts []string) error
	get func(m *Merged) string
}

// valueField holds one value, which is set only if its text parses.
func valueField[T any](at func(*Merged) *T, parse func(string) (T, error), format func(T) string) field {
	return field{
		set: func(m *Merged, texts []string) error {
			v, err := parse(texts[0])
			if err == nil {
				*at(m) = v
			}
			return err
		},
		get: func(m *Merged) string { return format(*at(m)) },
	}
}

func boolField(at func(*Merged) *bool) field { return valueField(at, parseBool, strconv.FormatBool) }

// textField holds a string type that parse checks.
func textField[T ~string](at func(*Merged) *T, parse func(string) (T, error)) field {
	return valueField(at, parse, func(v T) string { return string(v) })
}

// enumField holds one of values.
func enumField[T ~string](at func(*Merged) *T, values ...string) field {
	return textField(at, func(s string) (T, error) { return parseEnum[T](s, values) })
}

func intField(at func(*Merged) *int, low, high int) field {
	return valueField(at, func(s string) (int, error) { return parseInt(s, low, high) }, strconv.Itoa)
}

// fdField holds a file descriptor, -1 for none. 0, 1 and 2 are allowed, as in slirp4netns: a wrapper may pass
// a pipe as standard input.
func fdField(at func(*Merged) *int) field {
	parse := func(s string) (int, error) {
		if s == "" {
			return -1, nil
		}
		return parseInt(s, 0, maxFD)
	}
	return valueField(at, parse, func(fd int) string {
		if fd < 0 {
			return ""
		}
		return strconv.Itoa(fd)
	})
}

func durationField(at func(*Merged) *time.Duration, low time.Duration) field {
	return valueField(at, func(s string) (time.Duration, error) { return parseDuration(s, low) }, time.Duration.String)
}

func outboundField(at func(*Merged) *Outbound, family string) field {
	return valueField(at, func(s string) (Outbound, error) { return parseOutbound(s, family) }, Outbound.String)
}

func publishField() field {
	return field{
		set: func(m *Merged, texts []string) error {
			var auto AutoPublish
			specs, err := parseEach(texts, func(t string) (spec hostfwd.Spec, err error) {
				hostIP, isAuto, err := parseAuto(t)
				if isAuto {
					auto.HostIP = hostIP
					return spec, err
				}
				return hostfwd.ParseSpec(t)
			})
			if err != nil {
				return err
			}
			m.PublishAuto = auto
			m.Publish = nil
			for _, spec := range specs {
				if spec.Count > 0 { // not auto
					m.Publish = append(m.Publish, spec)
				}
			}
			return nil
		},
		get: func(m *Merged) string {
			texts := join(m.Publish, ",")
			if m.PublishAuto.On() {
				return strings.TrimSuffix(m.PublishAuto.String()+","+texts, ",")
			}
			return texts
		},
	}
}

// listField holds a list. Each of its texts may be several elements, separated by commas, and each element several values.
func listField[T fmt.Stringer](at func(*Merged) *[]T, parse func(string) ([]T, error)) field {
	return field{
		set: func(m *Merged, texts []string) error {
			var elements []string
			for _, t := range texts {
				elements = append(elements, splitList(t)...)
			}
			lists, err := parseEach(elements, parse)
			if err == nil {
				*at(m) = slices.Concat(lists...)
			}
			return err
		},
		get: func(m *Merged) string { return join(*at(m), ",") },
	}
}

// rulesField holds the rules of one action.
func rulesField(action egress.Action) field {
	of := func(m *Merged, own bool) (rules []egress.Rule) {
		for _, r := range m.Egress.Rules {
			if (r.Action == action) == own {
				rules = append(rules, r)
			}
		}
		return rules
	}
	return field{
		set: func(m *Merged, texts []string) error {
			rules, err := parseEach(joinPorts(texts), func(t string) (egress.Rule, error) { return egress.ParseRule(action, t) })
			if err == nil {
				m.Egress.Rules = append(of(m, false), rules...)
			}
			return err
		},
		get: func(m *Merged) string { return join(of(m, true), " ") },
	}
}

// parseEach parses the elements of a list. Error: [*elementError].
func parseEach[T any](texts []string, parse func(string) (T, error)) (list []T, err error) {
	for _, t := range texts {
		v, err := parse(t)
		if err != nil {
			return nil, &elementError{t, err}
		}
		list = append(list, v)
	}
	return list, nil
}

func join[T fmt.Stringer](list []T, sep string) string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return strings.Join(texts, sep)
}

// elementError reports which element of a list was refused.
type elementError struct {
	text string
	err  error
}

func (e *elementError) Error() string { return e.err.Error() }
func (e *elementError) Unwrap() error { return e.err }
