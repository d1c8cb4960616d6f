package options

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/trust"
)

const (
	systemDir   = "/etc/slirpctl"
	maxFileSize = 1 << 20 // bytes; a larger file is a mistake, such as /dev/zero
)

// extensions maps the extensions of configuration files to formats.
var extensions = []struct{ ext, format string }{{"yaml", "yaml"}, {"yml", "yaml"}, {"toml", "toml"}, {"json", "json"}}

func (s Sources) systemLayer() ([]assignment, error) { return s.dirLayer(systemDir) }

// userLayer reads the file that --config or SLIRPCTL_CONFIG names, or else the one in the user's
// configuration directory.
func (s Sources) userLayer(flags *pflag.FlagSet, env environment) ([]assignment, error) {
	if f := flags.Lookup(flagConfig); f != nil && f.Changed {
		return s.namedLayer(f.Value.String(), "flag --"+flagConfig)
	}
	if path := env[envConfig]; path != "" {
		return s.namedLayer(path, "environment "+envConfig)
	}
	if dir := env.configHome(); dir != "" {
		return s.dirLayer(filepath.Join(dir, "slirpctl"))
	}
	return nil, nil
}

// configHome returns $XDG_CONFIG_HOME or the default of the XDG base directory specification;
// "" without a home directory. A relative path counts as not set, as the specification says.
func (env environment) configHome() string {
	if dir := env["XDG_CONFIG_HOME"]; filepath.IsAbs(dir) {
		return dir
	}
	if home := env["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".config")
	}
	return ""
}

// namedLayer reads a file that the user asked for, which must exist.
func (s Sources) namedLayer(path, source string) ([]assignment, error) {
	if path == "" {
		return nil, &Error{Source: source, Reason: "names no file"}
	}
	format := "yaml" // JSON is YAML, and /dev/null is empty in any format
	if ext := strings.TrimPrefix(filepath.Ext(path), "."); ext != "" {
		i := slices.IndexFunc(extensions, func(e struct{ ext, format string }) bool { return e.ext == strings.ToLower(ext) })
		if i < 0 {
			return nil, &Error{Source: source, Value: path, Reason: "unknown format", Help: "the name must end in .yaml, .yml, .toml or .json"}
		}
		format = extensions[i].format
	}
	data, err := s.read(path)
	if err != nil {
		return nil, unreadable(&Error{Source: source, Value: path}, err)
	}
	return parseFile(path, format, data)
}

// dirLayer reads the one file config.EXT in dir, if there is one.
func (s Sources) dirLayer(dir string) ([]assignment, error) {
	found, format := "", ""
	for _, e := range extensions {
		path := filepath.Join(dir, "config."+e.ext)
		if _, err := os.Lstat(s.path(path)); err != nil { // a dangling link counts as present, and is an error
			if absent(err) {
				continue
			}
			return nil, unreadable(&Error{Source: path}, err)
		}
		if found != "" {
			return nil, &Error{Source: path, Reason: "there is " + found + " too", Help: "keep one of them"}
		}
		found, format = path, e.format
	}
	if found == "" {
		return nil, nil
	}
	if info, err := os.Stat(s.path(found)); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, &Error{Source: found, Reason: "can't be read: is a named pipe"} // opening it would wait for a writer
	}
	data, err := s.read(found)
	if err != nil {
		return nil, unreadable(&Error{Source: found}, err)
	}
	return parseFile(found, format, data)
}

// absent reports whether err of a stat means that the file doesn't exist. A directory that may not be
// searched (another user's HOME, after su) counts as empty.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR)
}

// read returns the content of a file that root may trust ([trust.Check]). Each file is read once:
// another [Load] from the same sources gets the same content, even of a pipe.
func (s Sources) read(path string) ([]byte, error) {
	if data, ok := s.seen[path]; ok {
		return data, nil
	}
	real := s.path(path)
	if err := trust.Check(real); err != nil {
		return nil, err
	}
	data, err := readFile(real)
	if err == nil && s.seen != nil {
		s.seen[path] = data
	}
	return data, err
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("larger than %d bytes", maxFileSize)
	}
	return data, nil
}

// unreadable completes e, which names the file, with the reason why it can't be read.
func unreadable(e *Error, err error) *Error {
	e.Reason, e.Err = "can't be read: "+cause(err), err
	if t, ok := err.(*trust.Error); ok {
		e.Reason, e.Help = "not safe for root: "+t.Reason, t.Hint()
	}
	return e
}

// cause returns err without the path, which the caller adds.
func cause(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// parseFile parses a file's content into assignments, sorted by key.
func parseFile(path, format string, data []byte) ([]assignment, error) {
	tree, err := decode(path, format, data)
	if err != nil {
		return nil, err
	}
	var as []assignment
	seen := map[*Key]string{}
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		source := path + lineOf(data, name)
		k := lookup(name)
		if k == nil {
			return nil, &Error{Source: source, Key: name, Reason: "unknown key", Help: didYouMean(name, names(fileName))}
		}
		if k.Scope == ScopeFlagOnly {
			return nil, &Error{Source: source, Key: name, Reason: "can only be set by a flag", Help: "write each option under its own key"}
		}
		if twin, ok := seen[k]; ok {
			return nil, &Error{Source: source, Key: name, Reason: "the same key as " + twin, Help: "keep one of them"}
		}
		seen[k] = name
		texts, reason := fileTexts(k, tree[name])
		if reason != "" {
			e := &Error{Source: source, Key: name, Reason: reason}
			switch tree[name].(type) {
			case int, int64, uint64, float64, bool:
				if k.Kind == KindText {
					e.Help = "put it in quotes"
				}
			}
			return nil, e
		}
		as = append(as, assignment{key: k, texts: texts, source: path, line: strings.TrimPrefix(source, path), spelled: name})
	}
	return as, nil
}

// fileTexts returns the value of a file's key as text, or what is wrong with its type.
func fileTexts(k *Key, value any) (texts []string, wrong string) {
	list, ok := value.([]any)
	switch {
	case ok && k.Kind != KindList:
		return nil, "wrong type: a list where there must be " + k.wants()
	case ok:
		for i, v := range list {
			text, is := fileText(k, v)
			if is != "" {
				return nil, fmt.Sprintf("wrong type: element %d is %s", i+1, is)
			}
			texts = append(texts, text)
		}
		return texts, ""
	}
	text, is := fileText(k, value)
	if is != "" {
		return nil, "wrong type: " + is + " where there must be " + k.wants()
	}
	if k.Kind == KindList {
		return splitList(text), ""
	}
	return []string{text}, ""
}

// fileText returns a single value as the text that a flag would have, or a description of its type.
func fileText(k *Key, value any) (text, is string) {
	numeric := k.Kind == KindInt || k.Kind == KindList || k.Kind == KindDuration
	switch v := value.(type) {
	case string:
		return v, ""
	case bool:
		if k.Kind == KindBool || slices.Contains(k.Values, "true") || k.Name == "containers_conf" {
			return strconv.FormatBool(v), ""
		}
		return "", strconv.FormatBool(v)
	case int, int64, uint64:
		if numeric { // converted to text, 007 would lose its zeros
			return fmt.Sprint(v), ""
		}
		return "", fmt.Sprint(v)
	case float64: // any number in JSON
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 && numeric {
			return strconv.FormatInt(int64(v), 10), ""
		}
		return "", "the number " + strconv.FormatFloat(v, 'g', -1, 64)
	case nil:
		return "", "nothing"
	case []any:
		return "", "a list"
	case map[string]any, map[any]any:
		return "", "a table"
	default:
		return "", "a date"
	}
}

// lineOf returns ":N" for the first line of data that begins with the key name, or "". It searches
// the text, so that one function works for every format.
func lineOf(data []byte, name string) string {
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.ToLower(strings.TrimLeft(line, " \t{,\"'-"))
		rest, ok := strings.CutPrefix(line, strings.ToLower(name))
		if ok && strings.IndexAny(strings.TrimLeft(rest, " \t\"'"), ":=.") == 0 {
			return ":" + strconv.Itoa(n)
		}
		if strings.HasPrefix(line, "["+strings.ToLower(name)+"]") {
			return ":" + strconv.Itoa(n)
		}
	}
	return ""
}
