package options

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

// The annotations of an OCI container that slirpctl reads.
const (
	AnnotationPrefix  = "io.slirpctl."
	AnnotationPublish = AnnotationPrefix + "publish" // port specs, separated by commas
	AnnotationAllow   = AnnotationPrefix + "allow"   // egress rules that must allow besides the hook's
	AnnotationDeny    = AnnotationPrefix + "deny"    // egress rules
	AnnotationOptions = AnnotationPrefix + "options" // K=V, separated by commas, in Podman's or slirpctl's spelling
)

// annotationRefusals lists the keys that an annotation can't set, and why. The author of a
// container's annotations need not be the one who runs it: engines copy them from images, pods and
// API requests into a bundle whose hooks another user has chosen. So an annotation configures only
// the container's own network. Whatever opens the host to the container, weakens the confinement of
// slirp4netns, runs a program, writes a file, or changes how long the runtime waits must be in
// the hook's args, which take precedence over annotations.
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
	"user":                "it is for up -- COMMAND",
	"wait-listen":         "the container starts only after the hook",
	"dry-run":             "it decides whether anything is started",
	"network":             "write its options without it",
	"option":              "write the options without it",
	"annotation-ports":    "it decides what annotations may publish",
	"egress":              "it could loosen what the hook allows",
	"allow":               "use the annotation " + AnnotationAllow,
	"deny":                "use the annotation " + AnnotationDeny,
	"egress-policy":       "it is a path of the host",
	"egress-record":       "it is a path of the host",
	"upstream-proxy":      "the host decides which way traffic leaves",
}

var knownAnnotations = []string{AnnotationPublish, AnnotationOptions, AnnotationAllow, AnnotationDeny}

// Limits for annotations: the user who runs the hook expands their text and keeps their
// forwards.
const (
	maxAnnotation   = 64 << 10 // bytes
	maxAnnotatedFwd = 1024     // forwards
)

// annotationKey reports whether io.slirpctl.options may set a key.
func annotationKey(k Key) bool {
	return k.Scope == ScopeUp && annotationRefusals[k.Name] == "" && k.Name != "publish"
}

// annotationLayer returns the options in a container's annotations, except its ports, which are added
// to those of every source instead of replacing them.
func annotationLayer(annotations map[string]string) ([]assignment, error) {
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if strings.HasPrefix(name, AnnotationPrefix) && !slices.Contains(knownAnnotations, name) {
			return nil, &Error{
				Source: "annotation " + name, Value: annotations[name], Reason: "unknown annotation",
				Help: didYouMean(name, knownAnnotations),
			}
		}
		if n := len(annotations[name]); strings.HasPrefix(name, AnnotationPrefix) && n > maxAnnotation {
			return nil, &Error{Source: "annotation " + name, Reason: fmt.Sprintf("%d bytes long; the limit is %d", n, maxAnnotation)}
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

// annotationOption parses K=V, where K is Podman's name of an option or slirpctl's.
func annotationOption(item string) (assignment, error) {
	const source = "annotation " + AnnotationOptions
	name, value, found := strings.Cut(item, "=")
	k := lookup(name)
	if k == nil {
		k = podmanKey(name)
	}
	if k != nil && !annotationKey(*k) {
		reason, refused := annotationRefusals[k.Name]
		e := &Error{Source: source, Key: name, Value: value, Reason: "can't be set by an annotation", Help: "put --" + k.Name + " into the hook's args"}
		switch {
		case refused:
			e.Reason += ": " + reason
		case k.Name == "publish":
			e.Help = "use the annotation " + AnnotationPublish
		}
		return assignment{}, e
	}
	switch {
	case !found:
		return assignment{}, &Error{Source: source, Value: item, Reason: "an option without =", Help: "write K=V"}
	case k == nil:
		var known []string
		for _, k := range table {
			if annotationKey(k) {
				known = append(known, k.Name)
				if k.Podman != "" && k.Podman != k.Name {
					known = append(known, k.Podman)
				}
			}
		}
		slices.Sort(known)
		return assignment{}, &Error{Source: source, Key: name, Value: value, Reason: "unknown option", Help: didYouMean(name, known)}
	}
	return assignment{key: k, texts: []string{value}, source: source, spelled: name}, nil
}

// addAnnotatedPorts adds the ports of io.slirpctl.publish to those in m, except exact duplicates.
// Only unprivileged host ports are published, also for root, and only those in AnnotationPorts, if
// given.
func addAnnotatedPorts(m *Merged, annotations map[string]string, unprivileged PortRange) error {
	texts := splitList(annotations[AnnotationPublish])
	if len(texts) == 0 {
		return nil
	}
	var add Merged
	a := assignment{key: lookup("publish"), texts: texts, source: "annotation " + AnnotationPublish}
	if err := a.set(&add); err != nil {
		return err
	}
	room := maxAnnotatedFwd - total(add.Publish)
	if room < 0 {
		return &Error{Source: a.source, Reason: fmt.Sprintf("more than %d forwards", maxAnnotatedFwd), Help: "put --publish into the hook's args"}
	}
	allowed := unprivileged
	if m.AnnotationPorts != (PortRange{}) {
		allowed.First = max(allowed.First, m.AnnotationPorts.First)
		allowed.Last = m.AnnotationPorts.Last
	}
	if allowed.First > allowed.Last {
		return &Error{Source: a.source, Reason: "annotations may publish no host port: " + m.AnnotationPorts.String() + " of --annotation-ports are privileged"}
	}
	if !m.PublishAuto.On() && add.PublishAuto.On() {
		m.PublishAuto = AutoPublish{HostIP: add.PublishAuto.HostIP, Ports: allowed, Max: room}
	}
	have := map[string]bool{}
	for _, spec := range m.Publish {
		have[spec.String()] = true
	}
	for _, spec := range add.Publish {
		if have[spec.String()] {
			continue
		}
		have[spec.String()] = true
		for _, spec := range inRange(spec, m.AnnotationPorts, allowed) {
			last := max(int(spec.HostPortEnd), int(spec.HostPort)+spec.Count-1)
			if spec.HostPort != 0 && (spec.HostPort < allowed.First || last > int(allowed.Last)) {
				return &Error{
					Source: a.source, Value: spec.String(), Help: "put --publish " + spec.String() + " into the hook's args",
					Reason: "annotations may publish the host ports " + allowed.String() + " only",
				}
			}
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

// inRange makes a spec with any free host port use one of allowed, if annotations are restricted to
// a range.
func inRange(spec hostfwd.Spec, given, allowed PortRange) []hostfwd.Spec {
	if spec.HostPort != 0 || given == (PortRange{}) {
		return []hostfwd.Spec{spec}
	}
	list := make([]hostfwd.Spec, spec.Count)
	for i := range list {
		list[i] = spec
		list[i].Count = 1
		list[i].GuestPort += uint16(i)
		list[i].HostPort, list[i].HostPortEnd = allowed.First, allowed.Last
	}
	return list
}
