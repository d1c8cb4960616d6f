package options

import (
	"maps"
	"slices"
	"strings"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// The annotations of an OCI container that slirpctl reads.
const (
	AnnotationPrefix  = "io.slirpctl."
	AnnotationPublish = AnnotationPrefix + "publish" // port specs, separated by commas
	AnnotationOptions = AnnotationPrefix + "options" // K=V, separated by commas, in Podman's spelling or our own
)

// annotationRefusals says which keys an annotation can't set. Who writes a container's
// annotations need not be who runs it: engines copy them from images, pods and API requests
// into a bundle whose hooks somebody else has chosen. So an annotation shapes the container's own
// network and no more. What opens the host to the container, weakens the confinement of
// slirp4netns, runs a program, writes a file, or changes how the runtime is kept waiting is for
// the hook's args, which win over annotations.
var annotationRefusals = map[string]string{
	"allow-host-loopback": "it opens the host's own services to the container",
	"outbound-addr":       "the host decides which of its addresses traffic leaves by",
	"outbound-addr6":      "the host decides which of its addresses traffic leaves by",
	"sandbox":             "it decides how slirp4netns is confined",
	"seccomp":             "it decides how slirp4netns is confined",
	"slirp4netns-path":    "it names a program that runs on the host",
	"pid-file":            "it names a file on the host",
	"name":                "the instance is named by the container's id",
	"detach":              "a hook always detaches",
	"ready-fd":            "descriptors are the caller's",
	"exit-fd":             "descriptors are the caller's",
	"timeout":             "it decides how long the runtime waits",
	"wait-netns":          "it decides how long the runtime waits",
	"map-users":           "it is for up -- COMMAND",
	"network":             "write its options without it",
	"option":              "write the options without it",
}

// annotationKeys are the keys that io.slirpctl.options may set.
func annotationKey(k Key) bool {
	return k.Scope == ScopeUp && annotationRefusals[k.Name] == "" && k.Name != "publish"
}

// annotationLayer returns what a container's annotations say, except its ports, which are added
// to those of every source instead of taking their place.
func annotationLayer(annotations map[string]string) ([]assignment, error) {
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if strings.HasPrefix(name, AnnotationPrefix) && name != AnnotationPublish && name != AnnotationOptions {
			return nil, &Error{
				Source: "annotation " + name, Value: annotations[name], Reason: "unknown annotation",
				Hint: didYouMean(name, []string{AnnotationPublish, AnnotationOptions}),
			}
		}
	}
	text := strings.TrimSpace(annotations[AnnotationOptions])
	if rest, ok := strings.CutPrefix(text, "slirp4netns:"); ok {
		text = rest
	}
	var as []assignment
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		a, err := annotationOption(item)
		if err != nil {
			return nil, err
		}
		as = append(as, a)
	}
	return as, nil
}

// annotationOption parses K=V, where K is Podman's name of an option or ours.
func annotationOption(item string) (assignment, error) {
	const source = "annotation " + AnnotationOptions
	name, value, found := strings.Cut(item, "=")
	k := lookup(name)
	if k == nil {
		for i := range table {
			if table[i].Podman != "" && table[i].Podman == name {
				k = &table[i]
			}
		}
	}
	if k != nil && !annotationKey(*k) {
		reason, refused := annotationRefusals[k.Name]
		e := &Error{Source: source, Key: name, Value: value, Reason: "can't be set by an annotation", Hint: "put --" + k.Name + " into the hook's args"}
		switch {
		case refused:
			e.Reason += ": " + reason
		case k.Name == "publish":
			e.Hint = "use the annotation " + AnnotationPublish
		}
		return assignment{}, e
	}
	switch {
	case !found:
		return assignment{}, &Error{Source: source, Value: item, Reason: "an option without =", Hint: "write K=V"}
	case k == nil:
		known := append(names(func(k Key) string {
			if !annotationKey(k) {
				return ""
			}
			return k.Name
		}), names(func(k Key) string {
			if !annotationKey(k) {
				return ""
			}
			return k.Podman
		})...)
		slices.Sort(known)
		return assignment{}, &Error{Source: source, Key: name, Value: value, Reason: "unknown option", Hint: didYouMean(name, slices.Compact(known))}
	}
	return assignment{key: k, texts: []string{value}, source: source, spelled: name}, nil
}

// addAnnotatedPorts adds the ports of io.slirpctl.publish to those that m has already. One that is
// there word for word is not added again.
func addAnnotatedPorts(m *Merged, annotations map[string]string) error {
	texts := splitList(annotations[AnnotationPublish])
	if len(texts) == 0 {
		return nil
	}
	var add Merged
	a := assignment{key: lookup("publish"), texts: texts, source: "annotation " + AnnotationPublish}
	if err := a.set(&add); err != nil {
		return err
	}
	m.PublishAuto = m.PublishAuto || add.PublishAuto
	for _, spec := range add.Publish {
		if !slices.ContainsFunc(m.Publish, func(have hostfwd.Spec) bool { return have.String() == spec.String() }) {
			m.Publish = append(m.Publish, spec)
		}
	}
	for i := range m.Values {
		if m.Values[i].Key == "publish" {
			m.Values[i].Value = a.key.field.get(m)
			if m.Values[i].Source == SourceDefault {
				m.Values[i].Source = a.source
			} else {
				m.Values[i].Source += " and " + a.source
			}
		}
	}
	return nil
}
