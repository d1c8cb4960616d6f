package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/slirpctl/slirpctl/internal/fault"
	"github.com/slirpctl/slirpctl/internal/hostfwd"
	"github.com/slirpctl/slirpctl/internal/instance"
	"github.com/slirpctl/slirpctl/internal/options"
	"github.com/slirpctl/slirpctl/internal/probe"
	"github.com/slirpctl/slirpctl/internal/subnet"
)

// printed are the types that templates get.
var printed = []reflect.Type{
	reflect.TypeFor[instance.State](), reflect.TypeFor[watchedState](), reflect.TypeFor[hostfwd.Status](),
	reflect.TypeFor[subnet.Values](), reflect.TypeFor[options.Value](), reflect.TypeFor[probe.Report](), reflect.TypeFor[versionInfo](),
}

func templateSample() instance.State {
	return instance.State{
		Name: "web", State: instance.Running, SlirpPID: 7, Guest: netip.MustParseAddr("10.0.2.100"), StartedAt: time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC),
		Target: instance.TargetState{PID: 4, Command: []string{"sleep", "1"}}, Slirp: instance.SlirpState{Version: "1.3"},
		Ports: []hostfwd.Status{{ID: 1, Forward: hostfwd.Forward{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080}}, {ID: 2, Forward: hostfwd.Forward{HostPort: 8081}}},
	}
}

// printTo prints as a command does with --format or --json.
func printTo[T any](w io.Writer, v any, args ...string) error {
	var p printer
	cmd := &cobra.Command{SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
		return p.print(v, func() (string, error) { return "for people\n", nil })
	}}
	addPrinter[T](cmd, &p, "array")
	cmd.SetOut(w)
	cmd.SetArgs(append([]string{}, args...))
	return cmd.Execute()
}

func TestTemplates(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"{{.Name}} {{.name}}", "web web\n"},
		{"{{.slirp4netnsPid}} {{.SlirpPID}} {{.slirp4netns.version}}", "7 7 1.3\n"},
		{"{{.guest}}|{{.DNS}}|{{.cidr}}|{{.startedAt}}", "10.0.2.100|||2026-04-01T12:00:00Z\n"},
		{"{{range .ports}}{{.hostPort}} {{end}}", "8080 8081 \n"},
		{"{{range $i, $p := .Ports}}{{$i}}{{$p.hostPort}}{{$.name}} {{end}}", "08080web 18081web \n"},
		{"{{(index .ports 1).hostPort}}", "8081\n"},
		{"{{with .target}}{{.pid}}{{json .command}}{{end}}", `4["sleep","1"]` + "\n"},
		{"{{with $t := .target}}{{$t.pid}}{{end}}", "4\n"},
		{"{{if .ipv6}}{{.ipv6.guest}}{{else}}none{{end}}", "none\n"},
		{`{{define "p"}}{{.hostPort}};{{end}}{{range .ports}}{{template "p" .}}{{end}}`, "8080;8081;\n"},
		{`{{$x := .target}}{{if true}}{{$x = .slirp4netns}}{{end}}{{$x.version}}`, "1.3\n"},
		{"{{.StartedAt.Year}} {{.startedAt.Format \"15:04\"}} {{.Guest.Is4}}", "2026 12:00 true\n"},
		{`{{printf "%-5s|" .name}}{{len .ports}}{{eq .state "running"}}`, "web  |2true\n"},
		{"{{.name}}\n", "web\n"},
		{"{{/* no */}}", "\n"},
	} {
		var out bytes.Buffer
		if err := printTo[instance.State](&out, templateSample(), "--format", tc.text); err != nil || out.String() != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.text, out.String(), err, tc.want)
		}
	}
}

// TestTemplatesChecked: type errors in templates are reported before there is any data.
func TestTemplatesChecked(t *testing.T) {
	for _, tc := range []struct{ text, want, hint string }{
		{"{{.slirpPid}}", "no field slirpPid", "did you mean SlirpPID?"},
		{"{{.Nmae}}", "no field Nmae", "did you mean name?"},
		{"{{.target.nam}}", "no field nam", "the fields are pid, program, netns, userns, command"},
		{"{{range .Ports}}{{.hostport}}{{end}}", "no field hostport", "did you mean hostPort?"},
		{"{{range $p := .ports}}{{$p.Host}}{{end}}", "no field Host", "did you mean hostIP?"},
		{"{{(index .ports 0).proto.x}}", "no field x", "that value has no fields"},
		{"{{if .name}}{{else}}{{.nmae}}{{end}}", "no field nmae", "did you mean name?"},
		{"{{.name", "line 1: unclosed action", ""},
		{"{{nosuch 1}}", `line 1: function "nosuch" not defined`, ""},
		{"nothing", `unknown format "nothing"`, "the formats are table, json, and Go templates such as '{{.Name}}'"},
		{"tabel", `unknown format "tabel"`, "did you mean table?"},
		{"", `unknown format ""`, "the formats are"},
	} {
		var out bytes.Buffer
		err := printTo[instance.State](&out, nil, "--format", tc.text)
		if out.Len() > 0 {
			t.Errorf("%q: printed %q", tc.text, out.String())
		}
		if !errors.Is(err, fault.Usage) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(fault.Hint(err), tc.hint) {
			t.Errorf("%q: %v (%q), want %q and %q", tc.text, err, fault.Hint(err), tc.want, tc.hint)
		}
	}
}

func TestTemplateFails(t *testing.T) {
	for text, want := range map[string]string{
		"{{.name}}{{index .ports 9}}": "--format: at <index .Ports 9>: index: index out of range: 9",
		"{{.ipv6.guest}}":             "--format: at <.IPv6.Guest>: nil pointer evaluating *instance.IPv6State.Guest",
	} {
		var out bytes.Buffer
		err := printTo[instance.State](&out, []instance.State{templateSample()}, "--format", text)
		if !errors.Is(err, fault.Usage) || err.Error() != want || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q", text, err, out.String())
		}
	}
	if err := printTo[instance.State](fullDisk{}, templateSample(), "--format", "{{.name}}"); !errors.Is(err, io.ErrShortWrite) || errors.Is(err, fault.Usage) {
		t.Errorf("a full disk: %v", err)
	}
}

func TestPrinter(t *testing.T) {
	rows := []versionInfo{{"1", "go", "<a>"}, {"2", "go", "b"}}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "for people\n"},
		{[]string{"--format", "table"}, "for people\n"},
		{[]string{"--json"}, "[\n  {\n    \"version\": \"1\",\n    \"go\": \"go\",\n    \"arch\": \"<a>\"\n  },"},
		{[]string{"--format", "json"}, "[\n  {\n    \"version\": \"1\","},
		{[]string{"--format", "json", "--json"}, "[\n  {\n    \"version\": \"1\","},
		{[]string{"--format", "{{.version}}{{if eq .arch \"b\"}}\n{{end}}"}, "1\n2\n"},
		{[]string{"--json", "--format", "table"}, ""},
		{[]string{"--json", "--format", "{{.version}}"}, ""},
	} {
		var out bytes.Buffer
		err := printTo[versionInfo](&out, rows, tc.args...)
		if (err != nil) != (tc.want == "") || !strings.HasPrefix(out.String(), tc.want) {
			t.Errorf("%q: %q, %v", tc.args, out.String(), err)
		}
	}
}

// TestTemplateNames: each JSON name corresponds to a Go name, also if a template doesn't know the
// type; and every field has one.
func TestTemplateNames(t *testing.T) {
	for _, typ := range printed {
		goNames := map[string]string{}
		seen := map[reflect.Type]bool{}
		var walk func(reflect.Type)
		walk = func(typ reflect.Type) {
			for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			if typ.Kind() != reflect.Struct || seen[typ] {
				return
			}
			seen[typ] = true
			for _, f := range reflect.VisibleFields(typ) {
				if !f.IsExported() || f.Anonymous {
					continue
				}
				name := jsonName(f)
				if name[0] < 'a' || name[0] > 'z' {
					t.Errorf("%s.%s has no JSON name", typ, f.Name)
				}
				if had := goNames[name]; had != "" && had != f.Name {
					t.Errorf("%s: %s is %s and %s", typ, name, had, f.Name)
				}
				goNames[name] = f.Name
				walk(f.Type)
			}
		}
		walk(typ)
	}
}
