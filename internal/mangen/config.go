package mangen

import (
	"fmt"
	"strings"
	"time"

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
	text := strings.ReplaceAll(k.Usage, "`", "")
	if first, _, _ := strings.Cut(text, " "); strings.ContainsAny(first, "_=") || first == "slirpctl" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// confPage returns slirpctl.conf.5.
func confPage() string {
	var keys strings.Builder
	for _, k := range fileKeys() {
		value := string(k.Kind)
		if len(k.Values) > 0 {
			value = "one of " + strings.Join(k.Values, ", ")
		}
		if k.Default != "" {
			value += "; default " + k.Default
		}
		fmt.Fprintf(&keys, "**%s**\n: %s. %s. Environment: %s.\n\n", k.Name, markdownText(usage(k)), markdownText(strings.ToUpper(value[:1])+value[1:]), markdownText(k.Env()))
	}
	text := strings.Replace(section("slirpctl.conf.5"), "\nKEYS\n", "\n"+keys.String(), 1)
	return fmt.Sprintf(".TH SLIRPCTL.CONF 5 %q slirpctl \"File Formats\"\n", date.Format(time.DateOnly)) + roff(text)
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
	for _, k := range fileKeys() {
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
