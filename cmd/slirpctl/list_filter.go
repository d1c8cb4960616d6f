package main

import (
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/options"
)

// instanceFilter is the parsed --filter of `list`: an instance must match one value of each key.
type instanceFilter map[string][]func(instance.State) bool

// filterKeys are the keys of --filter.
func filterKeys() []string { return []string{"name", "state", "target"} }

// instanceStates are the states that --filter accepts.
func instanceStates() []string {
	var names []string
	for _, s := range instance.Statuses() {
		names = append(names, string(s))
	}
	return names
}

func parseFilters(texts []string) (instanceFilter, error) {
	f := instanceFilter{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || value == "" || !slices.Contains(filterKeys(), key) {
			hint := "for example --filter name=web, --filter state=running or --filter target=4711"
			if near := options.Nearest(key, filterKeys()); ok && near != "" && near != key {
				hint = "did you mean " + near + "=?"
			}
			return nil, wrongUsage("--filter "+strconv.Quote(text)+": want name=, state= or target=, and a value", hint)
		}
		match := func(st instance.State) bool { return string(st.State) == value }
		switch key {
		case "name":
			re, err := regexp.Compile(value)
			if err != nil {
				return nil, usagef("--filter name=%s: not a regular expression: %v", value, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
			}
			match = func(st instance.State) bool { return re.MatchString(st.Name) }
		case "target":
			match = func(st instance.State) bool { return hasTarget(st, value) }
		case "state":
			if !slices.Contains(instanceStates(), value) {
				return nil, wrongUsage("--filter state="+value+": there is no such state", didYouMean(value, instanceStates(), "the states are "))
			}
		}
		f[key] = append(f[key], match)
	}
	return f, nil
}

// hasTarget reports whether value names the target of an instance: its PID, a part of its program or command line, its
// network namespace, or the beginning of its container's id.
func hasTarget(st instance.State, value string) bool {
	t := st.Target
	switch {
	case t.PID > 0 && strconv.Itoa(t.PID) == value,
		t.Netns != "" && (t.Netns == value || filepath.Base(t.Netns) == value),
		st.Container != nil && strings.HasPrefix(st.Container.ID, value):
		return true
	}
	if _, err := strconv.Atoi(value); err == nil {
		return false // a PID, not a part of one
	}
	return strings.Contains(t.Program, value) || strings.Contains(strings.Join(t.Command, " "), value)
}

func (f instanceFilter) apply(sts []instance.State) []instance.State {
	return slices.DeleteFunc(sts, func(st instance.State) bool {
		for _, any := range f {
			if !slices.ContainsFunc(any, func(match func(instance.State) bool) bool { return match(st) }) {
				return true
			}
		}
		return false
	})
}
