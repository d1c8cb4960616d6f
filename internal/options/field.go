package options

import (
	"strconv"
	"strings"
	"time"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// field parses the text of a key into its place in [Merged] and formats it. set gets the
// elements of a list, or exactly one text.
type field struct {
	set func(m *Merged, texts []string) error
	get func(m *Merged) string
}

func boolField(at func(*Merged) *bool) field {
	return field{
		set: func(m *Merged, texts []string) error { return assign(at(m), parseBool, texts) },
		get: func(m *Merged) string { return strconv.FormatBool(*at(m)) },
	}
}

// textField holds a string type that parse checks.
func textField[T ~string](at func(*Merged) *T, parse func(string) (T, error)) field {
	return field{
		set: func(m *Merged, texts []string) error { return assign(at(m), parse, texts) },
		get: func(m *Merged) string { return string(*at(m)) },
	}
}

// enumField holds one of values.
func enumField[T ~string](at func(*Merged) *T, values ...string) field {
	return textField(at, func(s string) (T, error) { return parseEnum[T](s, values) })
}

func intField(at func(*Merged) *int, low, high int) field {
	return field{
		set: func(m *Merged, texts []string) error {
			return assign(at(m), func(s string) (int, error) { return parseInt(s, low, high) }, texts)
		},
		get: func(m *Merged) string { return strconv.Itoa(*at(m)) },
	}
}

// fdField holds a file descriptor. 0, 1 and 2 are allowed, as in slirp4netns: a wrapper may pass
// a pipe as standard input.
func fdField(at func(*Merged) *int) field {
	f := intField(at, 0, maxFD)
	return field{
		set: func(m *Merged, texts []string) error {
			if texts[0] == "" {
				*at(m) = -1
				return nil
			}
			return f.set(m, texts)
		},
		get: func(m *Merged) string {
			if *at(m) < 0 {
				return ""
			}
			return f.get(m)
		},
	}
}

func durationField(at func(*Merged) *time.Duration, low time.Duration) field {
	return field{
		set: func(m *Merged, texts []string) error {
			return assign(at(m), func(s string) (time.Duration, error) { return parseDuration(s, low) }, texts)
		},
		get: func(m *Merged) string { return at(m).String() },
	}
}

func outboundField(at func(*Merged) *Outbound, family string) field {
	return field{
		set: func(m *Merged, texts []string) error {
			return assign(at(m), func(s string) (Outbound, error) { return parseOutbound(s, family) }, texts)
		},
		get: func(m *Merged) string { return at(m).String() },
	}
}

func publishField() field {
	return field{
		set: func(m *Merged, texts []string) error {
			var specs []hostfwd.Spec
			var auto AutoPublish
			for _, t := range texts {
				hostIP, isAuto, err := parseAuto(t)
				if err != nil {
					return &elementError{t, err}
				}
				if isAuto {
					auto.HostIP = hostIP
					continue
				}
				spec, err := hostfwd.ParseSpec(t)
				if err != nil {
					return &elementError{t, err}
				}
				specs = append(specs, spec)
			}
			m.Publish, m.PublishAuto = specs, auto
			return nil
		},
		get: func(m *Merged) string {
			var texts []string
			if m.PublishAuto.On() {
				texts = append(texts, m.PublishAuto.String())
			}
			for _, s := range m.Publish {
				texts = append(texts, s.String())
			}
			return strings.Join(texts, ",")
		},
	}
}

func portRangeField(at func(*Merged) *PortRange) field {
	return field{
		set: func(m *Merged, texts []string) error {
			if texts[0] == "" {
				*at(m) = PortRange{}
				return nil
			}
			return assign(at(m), parsePortRange, texts)
		},
		get: func(m *Merged) string {
			if *at(m) == (PortRange{}) {
				return ""
			}
			return at(m).String()
		},
	}
}

func autoExcludeField() field {
	return field{
		set: func(m *Merged, texts []string) error {
			var ranges []PortRange
			for _, list := range texts {
				for _, t := range splitList(list) {
					r, err := parsePortRange(t)
					if err != nil {
						return &elementError{t, err}
					}
					ranges = append(ranges, r)
				}
			}
			m.AutoExclude = ranges
			return nil
		},
		get: func(m *Merged) string {
			var texts []string
			for _, r := range m.AutoExclude {
				texts = append(texts, r.String())
			}
			return strings.Join(texts, ",")
		},
	}
}

// elementError reports which element of a list was refused.
type elementError struct {
	text string
	err  error
}

func (e *elementError) Error() string { return e.err.Error() }
func (e *elementError) Unwrap() error { return e.err }

// assign sets *to only if the one text parses.
func assign[T any](to *T, parse func(string) (T, error), texts []string) error {
	v, err := parse(texts[0])
	if err == nil {
		*to = v
	}
	return err
}
