package options

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/slirpctl/slirpctl/internal/hostfwd"
)

func (w *world) annotate(kv ...string) *world {
	w.src.Annotations = map[string]string{}
	for i := 0; i < len(kv); i += 2 {
		w.src.Annotations[kv[i]] = kv[i+1]
	}
	return w
}

func TestAnnotationOptions(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"Podman's spelling", "mtu=1400,cidr=10.9.0.0/24,enable_ipv6=true,port_handler=direct"},
		{"our spelling", "mtu=1400, cidr=10.9.0.0/24, ipv6=true, port-handler=direct"},
		{"either dash", "mtu=1400,cidr=10.9.0.0/24,ipv6=true,port_handler=direct,tap_name=tap0"},
		{"Podman's network", "slirp4netns:mtu=1400,cidr=10.9.0.0/24,enable_ipv6=true,port_handler=direct"},
		{"the last one wins", "mtu=1300,mtu=1400,cidr=10.9.0.0/24,ipv6=true,port_handler=direct"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newWorld(t).annotate(AnnotationOptions, c.text).mustLoad()
			if m.MTU != 1400 || m.CIDR.String() != "10.9.0.0/24" || !m.IPv6 || m.PortHandler != HandlerDirect {
				t.Errorf("%+v", m.Options)
			}
			if got := m.Source("mtu"); got != "annotation io.slirpctl.options" {
				t.Errorf("source %q", got)
			}
		})
	}
}

// TestAnnotationPrecedence: annotations override the environment; Podman's strings and plain flags override annotations.
func TestAnnotationPrecedence(t *testing.T) {
	w := newWorld(t).env("SLIRPCTL_MTU=1300", "SLIRPCTL_TAP_NAME=env0").annotate(AnnotationOptions, "mtu=1400,cidr=10.9.0.0/24,tap-name=ann0")
	m := w.mustLoad("-o", "cidr=10.8.0.0/24", "--tap-name=flag0")
	if m.MTU != 1400 || m.CIDR.String() != "10.8.0.0/24" || m.TapName != "flag0" {
		t.Errorf("mtu %d, cidr %s, tap %s", m.MTU, m.CIDR, m.TapName)
	}
}

func TestAnnotationPublish(t *testing.T) {
	for _, c := range []struct {
		name, text, env string
		args            []string
		want            string
		auto            bool
	}{
		{name: "alone", text: "8080:80,8443:443", want: "8080:80 8443:443"},
		{name: "with protocols", text: "8080:80/tcp,udp,5353:53/udp", want: "8080:80/tcp,udp 5353:53/udp"},
		{name: "on top of flags", text: "8443:443", args: []string{"-p", "8080:80"}, want: "8080:80 8443:443"},
		{name: "on top of the environment", text: "8443:443", env: "8080:80", want: "8080:80 8443:443"},
		{name: "the same twice", text: "8080:80,8443:443", args: []string{"-p", "8080:80"}, want: "8080:80 8443:443"},
		{name: "auto", text: "auto", args: []string{"-p", "8080:80"}, want: "8080:80", auto: true},
		{name: "empty", text: " , ", want: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t).annotate(AnnotationPublish, c.text)
			if c.env != "" {
				w.env("SLIRPCTL_PUBLISH=" + c.env)
			}
			m := w.mustLoad(c.args...)
			var got, want []string
			for _, s := range m.Publish {
				got = append(got, s.String())
			}
			for _, spec := range strings.Fields(c.want) {
				only := newWorld(t).mustLoad("-p", spec)
				want = append(want, only.Publish[0].String())
			}
			if d := cmp.Diff(want, got); d != "" || m.PublishAuto.On() != c.auto {
				t.Errorf("auto %s, -want +got:\n%s", m.PublishAuto, d)
			}
		})
	}
}

// TestAttackAnnotations: the author of annotations gets no access to the host.
func TestAttackAnnotations(t *testing.T) {
	for _, c := range []struct{ annotation, text, want, hint string }{
		{AnnotationOptions, "allow_host_loopback=true", "opens the host's own services", "hook's args"},
		{AnnotationOptions, "outbound_addr=eth0", "the host decides", "--outbound-addr"},
		{AnnotationOptions, "slirp4netns-path=/tmp/x", "a program that runs on the host", "hook's args"},
		{AnnotationOptions, "sandbox=false", "confined", "hook's args"},
		{AnnotationOptions, "seccomp=false", "confined", "hook's args"},
		{AnnotationOptions, "pid-file=/etc/passwd", "a file on the host", "hook's args"},
		{AnnotationOptions, "ready_fd=3", "the caller's", "hook's args"},
		{AnnotationOptions, "name=other", "container's id", "hook's args"},
		{AnnotationOptions, "timeout=1000h", "the runtime waits", "hook's args"},
		{AnnotationOptions, "state-dir=/tmp", "can't be set by an annotation", "hook's args"},
		{AnnotationOptions, "log-level=trace", "can't be set by an annotation", "hook's args"},
		{AnnotationOptions, "containers_conf=/tmp/x", "can't be set by an annotation", "hook's args"},
		{AnnotationOptions, "publish=80", "can't be set by an annotation", AnnotationPublish},
		{AnnotationOptions, "mtv=1400", "unknown option", "did you mean mtu?"},
		{AnnotationOptions, "enable_ipv8=true", "unknown option", "did you mean enable_ipv6?"},
		{AnnotationOptions, "mtu", "without =", "K=V"},
		{AnnotationOptions, "mtu=", "empty", ""},
		{AnnotationOptions, "mtu=12", "12", ""},
		{AnnotationPublish, "8080:80,nonsense", "nonsense", ""},
		{AnnotationOptions, "annotation-ports=1-65535", "what annotations may publish", "hook's args"},
		{AnnotationPublish, "auto:nonsense", "not an IP address", "auto:0.0.0.0"},
		{AnnotationPrefix + "publsh", "80", "unknown annotation", "did you mean io.slirpctl.publish?"},
	} {
		t.Run(c.annotation+" "+c.text, func(t *testing.T) {
			_, err := newWorld(t).annotate(c.annotation, c.text).load()
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v", err)
			}
			if !strings.HasPrefix(e.Error(), "annotation "+c.annotation) || !strings.Contains(e.Error(), c.want) || !strings.Contains(e.Help, c.hint) {
				t.Errorf("error %q, hint %q", e.Error(), e.Help)
			}
		})
	}
	// Each key is either allowed or has a reason for its refusal.
	for _, k := range table {
		if k.Scope == ScopeUp && k.Name != "publish" && annotationKey(k) == (annotationRefusals[k.Name] != "") {
			t.Errorf("%s: neither allowed nor refused", k.Name)
		}
	}
	// Annotations of other programs are ignored.
	newWorld(t).annotate("io.slirpctlx.publish", "x", "org.example", "y").mustLoad()
}

// TestAttackAnnotatedPorts: annotations publish few ports, only unprivileged ones, and only those of the
// hook's --annotation-ports, for any user of the hook and in any spelling.
func TestAttackAnnotatedPorts(t *testing.T) {
	everything := strings.Repeat("127.0.0.1:1025-65535:1025-65535/tcp,udp,", 1000)
	for _, c := range []struct{ text, ports, want string }{
		{"8080:80", "", "8080:80/tcp"},
		{"80:80", "", "1024-65535 only"},
		{"127.0.0.1:1023:80/udp", "", "1024-65535 only"},
		{"1020-1030:1020-1030", "", "1024-65535 only"},
		{"1020-1030:80", "", "1024-65535 only"},
		{"[::]:443:443/tcp6", "", "1024-65535 only"},
		{"80", "", "0:80/tcp"},
		{"80:80", "1-65535", "1024-65535 only"},
		{"20000:80,20100:81", "20000-20100", "20000:80/tcp,20100:81/tcp"},
		{"20101:80", "20000-20100", "20000-20100 only"},
		{"19999:80", "20000-20100", "20000-20100 only"},
		{"20000-20101:80", "20000-20100", "20000-20100 only"},
		{"20100-20101:80-81", "20000-20100", "20000-20100 only"},
		{"80", "20000-20100", "20000-20100:80/tcp"},
		{"0:80-81/tcp,udp", "20000-20100", "20000-20100:80/tcp,udp,20000-20100:81/tcp,udp"},
		{"80", "80-443", "80-443 of --annotation-ports are privileged"},
		{"2000-3023:2000-3023", "", "2000-3023:2000-3023/tcp"},
		{"2000-3024:2000-3024", "", "more than 1024 forwards"},
		{"2000-2999:2000-2999/tcp,udp", "", "more than 1024 forwards"},
		{"2000-2999:2000-2999,3000-3100:3000-3100", "", "more than 1024 forwards"},
		{everything[:5000], "", "more than 1024 forwards"},
		{everything + everything, "", "the limit is 65536"},
		{"8080:80/tcp" + strings.Repeat(",udp", 1<<16), "", "the limit is 65536"},
	} {
		args := []string{}
		if c.ports != "" {
			args = append(args, "--annotation-ports", c.ports)
		}
		m, err := newWorld(t).annotate(AnnotationPublish, c.text).load(args...)
		got := published(m, err)
		if ok := got == c.want || err != nil && strings.Contains(got, c.want); !ok {
			t.Errorf("%.60s with %q: %s, want %s", c.text, c.ports, got, c.want)
		}
	}
	auto := newWorld(t).annotate(AnnotationPublish, "auto:0.0.0.0,1500-1509:3000-3009").mustLoad("--annotation-ports", "900-2000").PublishAuto
	if want := (AutoPublish{netip.IPv4Unspecified(), PortRange{1024, 2000}, 1014}); auto != want {
		t.Errorf("auto: %+v, want %+v", auto, want)
	}
	auto = newWorld(t).annotate(AnnotationPublish, "auto:0.0.0.0").mustLoad("-p", "auto").PublishAuto
	if want := (AutoPublish{autoHostIP, PortRange{1024, 65535}, hostfwd.MaxForwards}); auto != want {
		t.Errorf("the hook's auto: %+v, want %+v", auto, want)
	}
}

// published returns the published ports, or the error.
func published(m Merged, err error) string {
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, s := range m.Publish {
		list = append(list, s.String())
	}
	return strings.Join(list, ",")
}

func TestAutoPublish(t *testing.T) {
	for text, want := range map[string]string{
		"auto": "127.0.0.1", "auto:0.0.0.0": "0.0.0.0", "auto:[::]": "::", "auto:::1": "::1", "auto:[::ffff:10.0.0.1]": "10.0.0.1",
		"auto:": "", "auto:eth0": "", "auto:0.0.0.0:80": "", "auto:[::": "", "Auto": "", "automatic": "",
	} {
		m, err := newWorld(t).load("-p", text)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s is accepted: %+v", text, m.PublishAuto)
		case want != "" && (err != nil || m.PublishAuto.HostIP.String() != want):
			t.Errorf("%s: %+v, %v", text, m.PublishAuto, err)
		case want != "":
			again := newWorld(t).mustLoad("-p", value(t, m, "publish").Value)
			if again.PublishAuto != m.PublishAuto {
				t.Errorf("%s prints as %s", text, m.PublishAuto)
			}
		}
	}
}

func TestGiven(t *testing.T) {
	parse := func(args ...string) *pflag.FlagSet {
		fs := pflag.NewFlagSet("up", pflag.ContinueOnError)
		AddFlags(fs)
		AddGeneralFlags(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		return fs
	}
	fs := parse("-p", "8080:80", "--ipv6", "-o", "mtu=1", "--network", "slirp4netns:cidr=10.0.0.0/8", "-o", "mtu=2", "-p", "80", "--state-dir", "/x", "--config=/c")
	want := []string{
		"--publish=8080:80", "--publish=80", "--ipv6=true", "--state-dir=/x", "--config=/c",
		"--option=mtu=1", "--network=slirp4netns:cidr=10.0.0.0/8", "--option=mtu=2",
	}
	if d := cmp.Diff(want, Given(fs)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff(want, Given(parse(want...))); d != "" {
		t.Errorf("given again, -want +got:\n%s", d)
	}
	if d := cmp.Diff([]string{"--state-dir=/x", "--config=/c"}, GivenGeneral(fs)); d != "" {
		t.Errorf("general, -want +got:\n%s", d)
	}
	if got := Given(parse()); got != nil {
		t.Errorf("nothing given: %q", got)
	}
	env := []string{"SLIRPCTL_MTU=1", "SLIRPCTL_TEST_USER=x", "PATH=/", "SLIRPCTL_CONFIG=/c"}
	if d := cmp.Diff([]string{"SLIRPCTL_MTU=1", "SLIRPCTL_CONFIG=/c"}, Environ(env)); d != "" {
		t.Errorf("environment, -want +got:\n%s", d)
	}
}

func FuzzAnnotations(f *testing.F) {
	for _, seed := range []string{"mtu=1400", "slirp4netns:cidr=10.0.0.0/8,mtu=68", "a=b,,=,x", "auto-exclude=1-2,name=x", "8080:80/tcp,udp", "auto"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, options, publish string) {
		m, err := newWorld(t).annotate(AnnotationOptions, options, AnnotationPublish, publish).load()
		sound(t, m, err)
		if err == nil && (m.AllowHostLoopback || m.Slirp4netnsPath != "" || m.Sandbox != Auto || m.Seccomp != Auto || m.PIDFile != "" || m.Name != "" || m.StateDir != "") {
			t.Errorf("annotations set %+v", m)
		}
	})
}
