package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/slirpctl/slirpctl/internal/instance"
)

// jsonFields collects the names of a type's JSON fields, as in "ports[].hostIP".
func jsonFields(typ reflect.Type, prefix string, out map[string]bool) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct:
		jsonFields(typ.Elem(), strings.TrimSuffix(prefix, ".")+"[].", out)
	case typ.Kind() == reflect.Struct && strings.HasPrefix(typ.PkgPath(), module):
		for _, f := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.Anonymous || name == "" || name == "-" {
				continue
			}
			out[prefix+name] = true
			jsonFields(f.Type, prefix+name+".", out)
		}
	}
}

// TestJSONFieldsDocumented compares the fields of docs/json.md with those of the types, in both
// directions.
func TestJSONFieldsDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(repoRoot(t), "docs/json.md"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	jsonFields(reflect.TypeFor[instance.State](), "", have)
	jsonFields(reflect.TypeFor[watchedState](), "", have)
	delete(have, "traffic")
	delete(have, "ports[].name")        // only in lists of forwards
	delete(have, "ports[].hostPortEnd") // only in requests: a status has the port that was picked
	documented := map[string]bool{}
	instances, _, _ := strings.Cut(string(page), "## The others")
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Za-z0-9_.\\[\\]]+)` \\| (string|number|boolean|object|array)").FindAllStringSubmatch(instances, -1) {
		documented[m[1]] = true
	}
	for f := range have {
		if !documented[f] {
			t.Errorf("docs/json.md does not say what %q is", f)
		}
	}
	for f := range documented {
		if !have[f] {
			t.Errorf("docs/json.md has %q, which does not exist", f)
		}
	}
}

// TestRolesDocumented: docs/json.md lists all roles.
func TestRolesDocumented(t *testing.T) {
	l := newLab(t)
	st := l.up("--name", "x", "--", "sleep", "1000")
	var roles []string
	for _, p := range st.Processes {
		roles = append(roles, "`"+p.Role+"`")
	}
	page, err := os.ReadFile(filepath.Join(repoRoot(t), "docs/json.md"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)^\\| `processes\\[\\].role` .*").FindString(string(page))
	documented := regexp.MustCompile("`[a-z0-9]+`").FindAllString(line, -1)
	slices.Sort(roles)
	slices.Sort(documented)
	if !slices.Equal(roles, documented) {
		t.Errorf("%s: an instance with COMMAND has %s", line, roles)
	}
	l.must("down", "x")
}

// TestDocLinks: the target of every link between the pages exists, and every page is linked to.
func TestDocLinks(t *testing.T) {
	root := repoRoot(t)
	pages, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(string(data), -1) {
			link, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(link, "://") {
				continue
			}
			target := page
			if link != "" {
				target = filepath.Join(filepath.Dir(page), link)
			}
			text, err := os.ReadFile(target)
			if info, serr := os.Stat(target); serr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %s leads nowhere", filepath.Base(page), m[1])
				continue
			}
			if target != page {
				linked[target] = true
			}
			if anchor != "" && !hasHeading(string(text), anchor) {
				t.Errorf("%s: no heading for %s", filepath.Base(page), m[1])
			}
		}
	}
	for _, page := range pages {
		if !linked[page] {
			t.Errorf("nothing links to %s", filepath.Base(page))
		}
	}
}

func hasHeading(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			slug := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(title)), " ", "-")
			slug = regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(slug, "")
			if slug == anchor {
				return true
			}
		}
	}
	return false
}
