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
	hooks, old, err := c.list("hooks", kind)
	if err != nil {
		return err
	}
	raw, err := marshal(h)
	if err != nil {
		return err
	}
	isOurs := func(e json.RawMessage) bool { return ours(e, h.Args[1]) }
	at := slices.IndexFunc(old, isOurs)
	if at < 0 {
		at = len(old)
	}
	all := slices.Insert(slices.DeleteFunc(slices.Clone(old), isOurs), at, raw)
	return c.set(hooks, "hooks", kind, all, old)
}

// AddNetworkNamespace gives the container a new network namespace, unless it has an entry for one
// already. Errors are of the kind [fault.Usage].
func (c *Config) AddNetworkNamespace() error {
	linux, list, err := c.list("linux", "namespaces")
	if err != nil {
		return err
	}
	for _, e := range list {
		var ns specs.LinuxNamespace
		if err := json.Unmarshal(e, &ns); err != nil {
			return badConfig(c.path, "linux: namespaces: "+jsonReason(err), err)
		}
		if ns.Type == specs.NetworkNamespace {
			return nil
		}
	}
	return c.set(linux, "linux", "namespaces", append(list, json.RawMessage(`{"type":"network"}`)), list)
}

// mountOptions are those of a read-only file. The last three keep the bind mount possible in a
// user namespace, where flags of the underlying file system can't be removed (mount_namespaces(7)).
var mountOptions = []string{"bind", "ro", "nosuid", "nodev", "noexec"}

const resolvConf = "/etc/resolv.conf"

// MountResolvConf mounts the file source at /etc/resolv.conf, unless the container mounts something
// there. It reports whether source is mounted there now. Errors are of the kind [fault.Usage].
func (c *Config) MountResolvConf(source string) (bool, error) {
	raw, err := c.member("mounts")
	if err != nil {
		return false, err
	}
	list, err := elements(raw)
	if err != nil {
		return false, badConfig(c.path, "mounts: not a list", err)
	}
	for _, e := range list {
		var m specs.Mount
		if err := json.Unmarshal(e, &m); err != nil {
			return false, badConfig(c.path, "mounts: "+jsonReason(err), err)
		}
		if path.Join("/", m.Destination) == resolvConf {
			return filepath.Clean(m.Source) == filepath.Clean(source), nil
		}
	}
	e, err := marshal(specs.Mount{Destination: resolvConf, Type: "bind", Source: source, Options: mountOptions})
	if err != nil {
		return false, err
	}
	return true, c.setTop("mounts", array(append(list, e)))
}

// list returns a top-level object, {} if there is none, and the elements of a list in it.
func (c *Config) list(outer, inner string) (obj json.RawMessage, list []json.RawMessage, err error) {
	if obj, err = c.member(outer); err != nil {
		return nil, nil, err
	}
	if obj == nil {
		obj = json.RawMessage("{}")
	}
	raw, err := value(obj, inner)
	if err != nil {
		return nil, nil, badConfig(c.path, outer+": "+err.Error(), err)
	}
	if list, err = elements(raw); err != nil {
		return nil, nil, badConfig(c.path, outer+": "+inner+": not a list", err)
	}
	return obj, list, nil
}

// member returns a top-level member's value; nil if it is missing or null.
func (c *Config) member(key string) (json.RawMessage, error) {
	v, err := value(c.text, key)
	if err != nil {
		return nil, badConfig(c.path, err.Error(), err)
	}
	if bytes.Equal(v, []byte("null")) {
		return nil, nil
	}
	return v, nil
}

// set sets the member inner of the top-level object outer, whose text is obj, to list, unless list
// equals old.
func (c *Config) set(obj json.RawMessage, outer, inner string, list, old []json.RawMessage) error {
	if slices.EqualFunc(list, old, sameValue) {
		return nil
	}
	obj, err := c.setMember(obj, inner, array(list), 1)
	if err != nil {
		return badConfig(c.path, outer+": "+err.Error(), err)
	}
	// obj is formatted already.
	members, err := members(c.text)
	for _, m := range slices.Backward(members) {
		if m.key == outer {
			c.text = splice(c.text, m.start, m.end, obj)
			return nil
		}
	}
	if err != nil {
		return badConfig(c.path, err.Error(), err)
	}
	return c.setTop(outer, obj)
}

func (c *Config) setTop(key string, v json.RawMessage) error {
	text, err := c.setMember(c.text, key, v, 0)
	if err != nil {
		return badConfig(c.path, err.Error(), err)
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
