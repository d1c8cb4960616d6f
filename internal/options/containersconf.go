package options

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// containersConf returns the highest layer's setting for reading containers.conf.
func containersConf(layers []assignment) assignment {
	var last assignment
	for _, a := range layers {
		if a.key.Name == "containers_conf" {
			last = a
		}
	}
	return last
}

// containersLayer reads network_cmd_path, network_cmd_options, helper_binaries_dir and no_pivot_root
// of the [engine] table, from the files that want selects. As with Podman, a later file's value
// replaces an earlier one's, and {append=true} at the end of a list makes this and later lists append to it.
func (s Sources) containersLayer(want assignment, env environment) ([]assignment, error) {
	if want.key == nil || len(want.texts) != 1 {
		return nil, nil
	}
	var paths []string
	var named []string // these must exist
	switch text := want.texts[0]; text {
	case "", "false":
		return nil, nil // "" is rejected by merge
	case "true":
		paths, named = s.containersPaths(env)
	default:
		paths, named = []string{text}, []string{text}
	}
	var engine engineTable
	for _, path := range paths {
		data, err := s.read(path)
		if err != nil {
			if absent(err) && !slices.Contains(named, path) {
				continue
			}
			e := unreadable(want.errorf(""), err)
			if path != want.texts[0] {
				e.Reason = path + " " + e.Reason
			}
			return nil, e
		}
		if err := engine.read(path, data); err != nil {
			return nil, err
		}
	}
	return engine.assignments(s.path)
}

// containersPaths returns where Podman looks for containers.conf, the lowest precedence first: the
// distribution's, the administrator's with its drop-ins, and the user's with its own, also for root.
// CONTAINERS_CONF replaces all of them; CONTAINERS_CONF_OVERRIDE always comes last
// (containers.conf(5)).
func (s Sources) containersPaths(env environment) (paths, named []string) {
	if path := env["CONTAINERS_CONF"]; path != "" {
		paths, named = append(paths, path), append(named, path)
	} else {
		paths = append(paths, "/usr/share/containers/containers.conf")
		dirs := []string{"/etc/containers"}
		if home := env.configHome(); home != "" {
			dirs = append(dirs, filepath.Join(home, "containers"))
		}
		for _, dir := range dirs {
			path := filepath.Join(dir, "containers.conf")
			paths = append(paths, path)
			entries, _ := os.ReadDir(s.path(path + ".d")) // sorted; usually missing
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".conf") && !e.IsDir() {
					paths = append(paths, filepath.Join(path+".d", e.Name()))
				}
			}
		}
	}
	if path := env["CONTAINERS_CONF_OVERRIDE"]; path != "" {
		paths, named = append(paths, path), append(named, path)
	}
	return paths, named
}

// engineTable holds the keys that are read from containers.conf.
type engineTable struct {
	path        engineText // network_cmd_path
	options     engineList // network_cmd_options
	helperDirs  engineList // helper_binaries_dir
	noPivotRoot string     // the file that says no_pivot_root = true, or ""
}

// engineText is a text and the file it comes from.
type engineText struct{ text, source string }

// engineList is a list that later files replace, or append to after {append=true}.
type engineList struct {
	elements  []engineText
	appending bool
}

// read adds the file at path. Other tables and keys of Podman are ignored.
func (t *engineTable) read(path string, data []byte) error {
	tree, err := decode(path, "toml", data)
	if err != nil {
		return err
	}
	wrong := func(key, reason string) error {
		return &Error{Source: path + lineOf(data, key), Key: key, Reason: "wrong type: not " + reason}
	}
	value, ok := tree["engine"]
	if !ok {
		return nil
	}
	engine, ok := value.(map[string]any)
	if !ok {
		return wrong("engine", "a table")
	}
	if v, ok := engine["network_cmd_path"]; ok {
		text, ok := v.(string)
		if !ok {
			return wrong("network_cmd_path", "text")
		}
		t.path = engineText{text, path}
	}
	if v, ok := engine["no_pivot_root"]; ok {
		on, ok := v.(bool)
		if !ok {
			return wrong("no_pivot_root", "true or false")
		}
		if t.noPivotRoot = ""; on {
			t.noPivotRoot = path
		}
	}
	if reason := t.options.read(path, engine["network_cmd_options"], "K=V"); reason != "" {
		return wrong("network_cmd_options", reason)
	}
	if reason := t.helperDirs.read(path, engine["helper_binaries_dir"], "directories"); reason != "" {
		return wrong("helper_binaries_dir", reason)
	}
	return nil
}

// read adds the value in the file at path, nil for none. It returns the type that was expected, or "".
func (l *engineList) read(path string, value any, of string) (wanted string) {
	if value == nil {
		return ""
	}
	list, ok := value.([]any)
	if !ok {
		return "a list"
	}
	var texts []engineText
	for _, element := range list {
		switch e := element.(type) {
		case string:
			texts = append(texts, engineText{e, path})
		case map[string]any:
			on, ok := e["append"].(bool)
			if !ok {
				return "a list of " + of
			}
			l.appending = on
		default:
			return "a list of " + of
		}
	}
	if !l.appending {
		l.elements = nil
	}
	l.elements = append(l.elements, texts...)
	return ""
}

// assignments returns the table's values. root is prepended to the directories that are searched.
func (t *engineTable) assignments(root func(string) string) ([]assignment, error) {
	var as []assignment
	binary, spelled := t.path, "network_cmd_path"
	if binary.text == "" {
		binary, spelled = t.helper("slirp4netns", root), "helper_binaries_dir"
	}
	if binary.text != "" {
		as = append(as, assignment{
			key: lookup("slirp4netns-path"), texts: []string{binary.text},
			source: binary.source, spelled: spelled,
		})
	}
	if t.noPivotRoot != "" {
		as = append(as, assignment{
			key: lookup("sandbox"), texts: []string{string(Off)},
			source: t.noPivotRoot, spelled: noPivotRoot,
		})
	}
	for _, o := range t.options.elements {
		a, err := podmanOption(o.text, o.source)
		if err != nil {
			return nil, err
		}
		as = append(as, a)
	}
	return as, nil
}

const noPivotRoot = "no_pivot_root"

// helper searches for a program in helper_binaries_dir, as Podman does before it searches PATH.
func (t *engineTable) helper(name string, root func(string) string) engineText {
	for _, dir := range t.helperDirs.elements {
		path := filepath.Join(dir.text, name)
		if !filepath.IsAbs(path) {
			continue
		}
		if info, err := os.Stat(root(path)); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return engineText{path, dir.source}
		}
	}
	return engineText{}
}
