package gotemplate

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"text/template"
	"time"
)

type port struct {
	Host  uint16
	Guest uint16
	Proto string
}

type status string

type inner struct{ Guest netip.Addr }

type data struct {
	Name    string
	State   status
	Ports   []port
	Any     any
	Nothing any
	Six     *inner
	None    *inner
	When    time.Time
	Labels  map[string]int
	Count   int
	Big     uint64
	Ratio   float64
	On      bool
	hidden  int
	inner
}

func sample() data {
	return data{
		Name: "web", State: "running", Ports: []port{{8080, 80, "tcp"}, {5353, 53, "udp"}, {1, 2, "tcp"}},
		Any: []string{"a", "b"}, Six: &inner{netip.MustParseAddr("fd00::1")},
		When: time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC), Labels: map[string]int{"b": 2, "a": 1},
		Count: 3, Big: 7, Ratio: 1.5, On: true, hidden: 1, inner: inner{netip.MustParseAddr("10.0.2.100")},
	}
}

var templates = []string{
	"", "plain", "{{.Name}}", "a {{- .Name -}} b", "{{.Guest}} {{.Six.Guest}}", "{{.When}}", "{{.Six}}", "{{.Nothing}}", "{{.None}}", "{{.}}",
	`{{if .On}}on{{else}}off{{end}}`, `{{if not .On}}on{{else if eq .State "running"}}r{{else}}off{{end}}`,
	`{{with .Six}}{{.Guest}}{{end}}{{with .None}}{{.Guest}}{{else}}none{{end}}`,
	`{{range .Ports}}{{.Host}}:{{.Guest}}/{{.Proto}} {{end}}`,
	`{{range $i, $p := .Ports}}{{if $i}},{{end}}{{$p.Host}}{{end}}`, `{{range $p := .Ports}}{{$p.Host}}{{$.Name}}{{end}}`,
	`{{range .Ports}}{{if eq .Proto "udp"}}{{continue}}{{end}}{{.Host}}{{end}}`, `{{range .Ports}}{{if eq .Proto "udp"}}{{break}}{{end}}{{.Host}}{{end}}`,
	`{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}`, `{{range .Nothing}}x{{else}}empty{{end}}`, `{{range .Any}}{{.}}{{end}}`, `{{range 3}}{{.}}{{end}}`, `{{range $i := 2}}{{$i}}{{end}}`,
	`{{$x := 1}}{{if true}}{{$x = 2}}{{$y := 3}}{{$y}}{{end}}{{$x}}`, `{{(index .Ports 0).Host}}`, `{{len .Ports}} {{len .Name}} {{len .Labels}} {{len .Any}}`,
	`{{index .Labels "a"}} {{index .Labels "no"}} {{index .Any 1}} {{index .Name 0}}`, `{{slice .Name 1}} {{slice .Name 0 2}} {{len (slice .Ports 1 3)}}`,
	`{{printf "%s-%d %v" .Name .Count .Guest}}`, `{{.Name | printf "%q"}}`, `{{print 1 "a" .Nothing}}`, `{{println .Name}}`, `{{printf "%x" .Big}}`,
	`{{and .On .Name}} {{or .Nothing .Name}} {{and 0 .Missing}} {{or 1 .Missing}} {{.Name | and true}}`, `{{not 0}} {{not .Name}}`,
	`{{eq 1 1}} {{eq .Count 1 2 3}} {{ne .Name "x"}} {{lt 1 2}} {{le 2 2}} {{gt .Ratio 1.0}} {{ge "b" "a"}} {{eq .Count .Big}} {{lt -1 .Big}} {{gt .Big .Count}} {{eq true .On}}`,
	`{{define "p"}}<{{.Host}}>{{end}}{{range .Ports}}{{template "p" .}}{{end}}`, `{{block "b" .Name}}{{.}}{{end}}`, `{{template "none"}}`, `{{define "r"}}{{template "r"}}{{end}}{{template "r"}}`,
	`{{1}} {{1.5}} {{1e3}} {{'a'}} {{0x10}} {{true}} {{"s"}} {{nil}}`, `{{/* no */}}x`, "{{`raw`}}", `{{1_000}}`, `{{99999999999999999999}}`, `{{1.0}}`,
	`{{.Missing}}`, `{{.hidden}}`, `{{.None.Guest}}`, `{{.Name.X}}`, `{{.Nothing.X}}`, `{{.Labels.a}}`, `{{range .Name}}{{end}}`, `{{range .Ratio}}{{end}}`, `{{len 3}}`, `{{index .Ports 9}}`, `{{index .Ports "a"}}`, `{{index 1 1}}`,
	`{{slice .Name 9}}`, `{{slice 1}}`, `{{slice .Name 2 1}}`, `{{lt 1 "a"}}`, `{{lt .Six .Six}}`, `{{eq .Ports .Ports}}`, `{{eq 1}}`, `{{not}}`, `{{and}}`, `{{printf 1}}`, `{{.Name 1}}`, `{{1 | .Name}}`, `{{eq .Guest .Guest}}`, `{{eq .Guest "x"}}`, `{{eq .Nothing nil}}`,
	`{{.Name`, `{{nofunc 1}}`, `{{end}}`, `{{$x}}`, `{{if}}{{end}}`, `{{break}}`, `{{with $a := .Name}}{{$a}}{{end}}`, `{{if $a := .Count}}{{$a}}{{end}}`, `{{with .None}}a{{else with .Six}}{{.Guest}}{{end}}`,
	`{{range $i, $e := .Ports}}{{else}}{{end}}`, `{{range .Labels}}{{.}}{{end}}`, `{{$.Six.Guest}}`, `{{(.Six).Guest}}`, `{{(len .Name) | printf "%03d"}}`, `{{true | and .On | not}}`,
}

func both(t *testing.T, text string, v any) (ours, theirs string, ourErr, theirErr error) {
	t.Helper()
	var a, b strings.Builder
	tmpl, ourErr := Parse(text)
	if ourErr == nil {
		ourErr = tmpl.Execute(&a, v)
	}
	std, theirErr := template.New("format").Option("missingkey=error").Parse(text)
	if theirErr == nil {
		theirErr = std.Execute(&b, v)
	}
	return a.String(), b.String(), ourErr, theirErr
}

// TestAsTextTemplate compares with the original: the same text, and an error exactly where it
// has one.
func TestAsTextTemplate(t *testing.T) {
	for _, text := range templates {
		ours, theirs, ourErr, theirErr := both(t, text, sample())
		if (ourErr == nil) != (theirErr == nil) {
			t.Errorf("%s: error %v, text/template's %v", text, ourErr, theirErr)
		} else if ourErr == nil && ours != theirs {
			t.Errorf("%s: %q, text/template's %q", text, ours, theirs)
		}
	}
}

func TestJSON(t *testing.T) {
	tmpl, err := Parse(`{{json .Ports}} {{.Six | json}} {{json .Nothing}}`)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := tmpl.Execute(&b, sample()); err != nil {
		t.Fatal(err)
	}
	ports, _ := json.Marshal(sample().Ports)
	six, _ := json.Marshal(sample().Six)
	if want := string(ports) + " " + string(six) + " null"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// TestErrorsHelp: a wrong field is answered with those that are there.
func TestErrorsHelp(t *testing.T) {
	tmpl, err := Parse("{{range .Ports}}\n{{.Hots}}{{end}}")
	if err != nil {
		t.Fatal(err)
	}
	err = tmpl.Execute(new(strings.Builder), sample())
	if err == nil || !strings.Contains(err.Error(), "no field Hots, only Host, Guest, Proto") || !strings.Contains(err.Error(), "format:2:") {
		t.Errorf("error %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriteError(t *testing.T) {
	tmpl, err := Parse("x")
	if err != nil {
		t.Fatal(err)
	}
	if err := tmpl.Execute(brokenWriter{}, nil); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("error %v", err)
	}
}

// FuzzAsTextTemplate: never a panic, and never another text than the original's.
func FuzzAsTextTemplate(f *testing.F) {
	for _, text := range templates {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, n := range []string{"html", "js", "urlquery", "call", "json", "%p", "printf"} {
			if strings.Contains(text, n) || len(text) > 300 {
				return
			}
		}
		ours, theirs, ourErr, theirErr := both(t, text, sample())
		if ourErr == nil && theirErr == nil && ours != theirs {
			t.Errorf("%q, text/template's %q", ours, theirs)
		}
	})
}
