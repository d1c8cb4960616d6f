package options

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// containersConf returns what the layers say about reading containers.conf.
func containersConf(layers []assignment) assignment {
	var last assignment
	for _, a := range layers {
		if a.key.Name == "containers_conf" {
			last = a
		}
	}
	return last
}

// containersLayer reads network_cmd_path and network_cmd_options of the [engine] table, from the
// files that want asks for. As with Podman, a later file's value replaces an earlier one's, and
// {append=true} at the end of a list makes this and later lists add to it.
func (s Sources) containersLayer(want assignment, env environment) ([]assignment, error) {
	if want.key == nil || len(want.texts) != 1 {
		return nil, nil
	}
	var paths []string
	var named []string // these must exist
	switch text := want.texts[0]; text {
	case "", "false":
		return nil, nil // "" is refused when it is merged
	case "true":
		paths, named = s.containersPaths(env)
	default:
		paths, named = []string{text}, []string{text}
	}
	var engine engineTable
	for _, path := range paths {
		data, err := readFile(s.path(path))
		if err != nil {
			if absent(err) && !slices.Contains(named, path) {
				continue
			}
			e := want.errorf(path + " can't be read: " + cause(err))
			e.Err = err
			if path == want.texts[0] {
				e.Reason = "can't be read: " + cause(err)
			}
			return nil, e
		}
		if err := engine.read(path, data); err != nil {
			return nil, err
		}
	}
	return engine.assignments()
}

// containersPaths returns where Podman looks for containers.conf, the lowest first: the distribution's,
// the administrator's with its drop-ins and, unless root asks, the user's with its own.
// CONTAINERS_CONF replaces all of them, CONTAINERS_CONF_OVERRIDE comes last in any case
// (containers.conf(5)).
func (s Sources) containersPaths(env environment) (paths, named []string) {
	if path := env["CONTAINERS_CONF"]; path != "" {
		paths, named = append(paths, path), append(named, path)
	} else {
		paths = append(paths, "/usr/share/containers/containers.conf")
		dirs := []string{"/etc/containers"}
		if home := env.configHome(); s.Rootless && home != "" {
			dirs = append(dirs, filepath.Join(home, "containers"))
		}
		for _, dir := range dirs {
			path := filepath.Join(dir, "containers.conf")
			paths = append(paths, path)
			entries, _ := os.ReadDir(s.path(path + ".d")) // sorted; absent as a rule
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

// engineTable is what is read of containers.conf.
type engineTable struct {
	path       string // network_cmd_path
	pathSource string
	options    []engineOption
	appending  bool
}

type engineOption struct{ text, source string }

// read adds the file at path. Podman's other tables and keys are its own business.
func (t *engineTable) read(path string, data []byte) error {
	tree, derr := decode("toml", data)
	if derr != nil {
		return &Error{Source: path + derr.line, Reason: "not TOML: " + derr.reason, Err: derr.err}
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
		t.path, t.pathSource = text, path
	}
	v, ok := engine["network_cmd_options"]
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		return wrong("network_cmd_options", "a list")
	}
	var options []engineOption
	for _, element := range list {
		switch e := element.(type) {
		case string:
			options = append(options, engineOption{e, path})
		case map[string]any:
			on, ok := e["append"].(bool)
			if !ok {
				return wrong("network_cmd_options", "a list of K=V")
			}
			t.appending = on
		default:
			return wrong("network_cmd_options", "a list of K=V")
		}
	}
	if !t.appending {
		t.options = nil
	}
	t.options = append(t.options, options...)
	return nil
}

func (t *engineTable) assignments() ([]assignment, error) {
	var as []assignment
	if t.path != "" {
		as = append(as, assignment{
			key: lookup("slirp4netns-path"), texts: []string{t.path},
			source: t.pathSource, spelled: "network_cmd_path",
		})
	}
	for _, o := range t.options {
		a, err := podmanOption(o.text, o.source)
		if err != nil {
			return nil, err
		}
		as = append(as, a)
	}
	return as, nil
}
