package oci

import (
	"bytes"
	"encoding/json"
	"path"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/slirpctl/slirpctl/internal/fault"
)

// MaxConfig is the maximum size of a config.json, in bytes.
const MaxConfig = 16 << 20

// badConfig returns the error for the config.json at path; cause may be nil.
func badConfig(path, reason string, cause error) error {
	return &fault.Error{Kind: fault.Usage, Msg: path + ": " + reason, Err: cause}
}

// Config is a config.json as text: members that slirpctl doesn't know keep their bytes.
type Config struct {
	path string
	text []byte
	layout
}

// ParseConfig checks that data is a JSON object. path is used in errors. Errors are of the kind [fault.Usage].
func ParseConfig(path string, data []byte) (*Config, error) {
	body := bytes.Trim(data, " \t\r\n") // white space in JSON
	var v json.RawMessage
	if err := json.Unmarshal(body, &v); err != nil {
		return nil, badConfig(path, jsonReason(err), err)
	}
	if body[0] != '{' {
		return nil, badConfig(path, "not a JSON object", nil)
	}
	return &Config{path, data, layoutOf(body)}, nil
}

// Bytes returns the text.
func (c *Config) Bytes() []byte { return c.text }

// Annotations returns the container's annotations. Errors are of the kind [fault.Usage].
func (c *Config) Annotations() (map[string]string, error) {
	var doc struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(c.text, &doc); err != nil {
		return nil, badConfig(c.path, jsonReason(err), err)
	}
	return doc.Annotations, nil
}

// The hooks that slirpctl uses.
const (
	CreateRuntime = "createRuntime" // namespaces exist, the program isn't started; runs in the runtime's namespaces
	Poststop      = "poststop"      // the container is deleted
)

// ours reports whether a hook was made by an earlier [Config.SetHook], with any flags and any path
// of slirpctl.
func ours(raw json.RawMessage, command string) bool {
	var h specs.Hook
	if json.Unmarshal(raw, &h) != nil || len(h.Args) < 3 {
		return false
	}
	return path.Base(h.Args[0]) == "slirpctl" && h.Args[1] == command && h.Args[2] == "--oci-state"
}

// SetHook sets slirpctl's hook of that kind: in place of an earlier one, else after all other hooks.
// h.Args must begin with slirpctl, its command and --oci-state. Errors are of the kind [fault.Usage].
func (c *Config) SetHook(kind string, h specs.Hook) error {
	raw, err := marshal(h)
	if err != nil {
		return err
	}
	isOurs := func(e json.RawMessage) bool { return ours(e, h.Args[1]) }
	return c.edit("hooks", kind, func(list []json.RawMessage) ([]json.RawMessage, error) {
		at := slices.IndexFunc(list, isOurs)
		if at < 0 {
			at = len(list)
		}
		return slices.Insert(slices.DeleteFunc(list, isOurs), at, raw), nil
	})
}

// AddNetworkNamespace gives the container a new network namespace, unless it has an entry for one
// already. Errors are of the kind [fault.Usage].
func (c *Config) AddNetworkNamespace() error {
	return c.edit("linux", "namespaces", func(list []json.RawMessage) ([]json.RawMessage, error) {
		for _, e := range list {
			var ns specs.LinuxNamespace
			if err := json.Unmarshal(e, &ns); err != nil {
				return nil, err
			}
			if ns.Type == specs.NetworkNamespace {
				return list, nil
			}
		}
		return append(list, json.RawMessage(`{"type":"network"}`)), nil
	})
}

// mountOptions are those of a read-only file. The last three keep the bind mount possible in a
// user namespace, where flags of the underlying file system can't be removed (mount_namespaces(7)).
var mountOptions = []string{"bind", "ro", "nosuid", "nodev", "noexec"}

const resolvConf = "/etc/resolv.conf"

// MountResolvConf mounts the file source at /etc/resolv.conf, unless the container mounts something
// there. It reports whether source is mounted there now. Errors are of the kind [fault.Usage].
func (c *Config) MountResolvConf(source string) (mounted bool, err error) {
	ours, err := marshal(specs.Mount{Destination: resolvConf, Type: "bind", Source: source, Options: mountOptions})
	if err != nil {
		return false, err
	}
	err = c.edit("", "mounts", func(list []json.RawMessage) ([]json.RawMessage, error) {
		for _, e := range list {
			var m specs.Mount
			if err := json.Unmarshal(e, &m); err != nil {
				return nil, err
			}
			if path.Join("/", m.Destination) == resolvConf {
				mounted = filepath.Clean(m.Source) == filepath.Clean(source)
				return list, nil
			}
		}
		mounted = true
		return append(list, ours), nil
	})
	return mounted, err
}

// edit replaces a list by what change makes of it: inner of the top-level object outer or, if that is "", at the top
// level. What is missing or null counts as empty.
func (c *Config) edit(outer, inner string, change func([]json.RawMessage) ([]json.RawMessage, error)) error {
	where := inner
	bad := func(err error) error { return badConfig(c.path, where+": "+jsonReason(err), err) }
	obj, depth := json.RawMessage(c.text), 0
	if outer != "" {
		var err error
		if obj, err = value(c.text, outer); err != nil {
			return bad(err)
		}
		if obj == nil || bytes.Equal(obj, []byte("null")) {
			obj = json.RawMessage("{}")
		}
		depth, where = 1, outer
	}
	raw, err := value(obj, inner)
	if err != nil {
		return bad(err)
	}
	if outer != "" {
		where = outer + ": " + inner
	}
	var old []json.RawMessage
	if raw != nil && json.Unmarshal(raw, &old) != nil {
		return badConfig(c.path, where+": not a list", nil)
	}
	list, err := change(slices.Clone(old))
	if err != nil {
		return bad(err)
	}
	if slices.EqualFunc(list, old, sameValue) {
		return nil
	}
	text, err := c.setMember(obj, inner, c.format(array(list), depth+1), depth)
	if err == nil && outer != "" {
		text, err = c.setMember(c.text, outer, text, 0)
	}
	if err != nil {
		return bad(err)
	}
	c.text = text
	return nil
}

// sameValue compares two JSON texts, ignoring white space.
func sameValue(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// marshal is json.Marshal without escaping <, > and &.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// array joins elements without reformatting them, as json.Marshal would.
func array(list []json.RawMessage) json.RawMessage {
	b := []byte("[")
	for i, e := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e...)
	}
	return append(b, ']')
}
