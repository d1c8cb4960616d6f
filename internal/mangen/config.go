package mangen

import (
	"fmt"
	"strings"

	"github.com/slirpctl/slirpctl/internal/options"
)

// fileKeys are the keys that a configuration file takes.
func fileKeys() []options.Key {
	var keys []options.Key
	for _, k := range options.Keys() {
		if k.Scope != options.ScopeFlagOnly {
			keys = append(keys, k)
		}
	}
	return keys
}

func usage(k options.Key) string {
	return upperFirst(strings.ReplaceAll(k.Usage, "`", ""))
}

func confPage() string {
	var b strings.Builder
	header(&b, "slirpctl.conf", 5, "File Formats")
	b.WriteString(section("slirpctl.conf.5.head"))
	b.WriteString(".SH KEYS\n")
	for _, k := range fileKeys() {
		fmt.Fprintf(&b, ".TP\n.B %s\n%s.\n", esc(k.Name), esc(usage(k)))
		fmt.Fprintf(&b, "%s", esc(upperFirst(wants(k))))
		if k.Default != "" {
			fmt.Fprintf(&b, "; default %s", esc(k.Default))
		}
		fmt.Fprintf(&b, ". Environment: %s.\n", esc(k.Env()))
	}
	b.WriteString(section("slirpctl.conf.5"))
	return b.String()
}

func wants(k options.Key) string {
	if len(k.Values) > 0 {
		return "one of " + strings.Join(k.Values, ", ")
	}
	return string(k.Kind)
}

// Marks around what [ConfigTable] makes within docs/config.md.
const (
	TableBegin = "<!-- keys: generated -->\n"
	TableEnd   = "<!-- keys: end -->\n"
)

// ConfigTable returns the keys as a table of Markdown.
func ConfigTable() string {
	var b strings.Builder
	b.WriteString("| key | environment | Podman's name | default | meaning |\n|---|---|---|---|---|\n")
	for _, k := range options.Keys() {
		if k.Scope == options.ScopeFlagOnly {
			continue
		}
		word := func(s string) string {
			if s == "" {
				return ""
			}
			return "`" + strings.ReplaceAll(s, "|", "\\|") + "`"
		}
		meaning := strings.ReplaceAll(usage(k), "|", "\\|")
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", k.Name, k.Env(), word(k.Podman), word(k.Default), meaning)
	}
	return b.String()
}
