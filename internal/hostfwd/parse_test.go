package hostfwd

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func ip(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func TestParseSpec(t *testing.T) {
	one := func(host string, hp int, guest string, gp int, protos ...Proto) Spec {
		if protos == nil {
			protos = []Proto{TCP}
		}
		return Spec{HostIP: ip(host), HostPort: uint16(hp), GuestIP: ip(guest), GuestPort: uint16(gp), Count: 1, Protos: protos}
	}
	upTo := func(s Spec, end uint16) Spec { s.HostPortEnd = end; return s }
	many := func(s Spec, n int) Spec { s.Count = n; return s }
	for _, tt := range []struct {
		in   string
		want Spec
		str  string
	}{
		{"80", one("", 0, "", 80), "0:80/tcp"},
		{"80/udp", one("", 0, "", 80, UDP), "0:80/udp"},
		{"80-82", many(one("", 0, "", 80), 3), "0:80-82/tcp"},
		{":80", one("", 0, "", 80), "0:80/tcp"},
		{"::80", one("", 0, "", 80), "0:80/tcp"},
		{"0:80", one("", 0, "", 80), "0:80/tcp"},
		{"0:53/tcp,udp", one("", 0, "", 53, TCP, UDP), "0:53/tcp,udp"},
		{"8080:80", one("", 8080, "", 80), "8080:80/tcp"},
		{":8080:80", one("", 8080, "", 80), "8080:80/tcp"},
		{"127.0.0.1::80", one("127.0.0.1", 0, "", 80), "127.0.0.1:0:80/tcp"},
		{"127.0.0.1:0:80", one("127.0.0.1", 0, "", 80), "127.0.0.1:0:80/tcp"},
		{"127.0.0.1:8080:80/UDP", one("127.0.0.1", 8080, "", 80, UDP), "127.0.0.1:8080:80/udp"},
		{"127.0.0.1:8080:10.0.2.100:80/tcp", one("127.0.0.1", 8080, "10.0.2.100", 80), "127.0.0.1:8080:10.0.2.100:80/tcp"},
		{"127.0.0.1::10.0.2.100:80", one("127.0.0.1", 0, "10.0.2.100", 80), "127.0.0.1:0:10.0.2.100:80/tcp"},
		{"8080:10.0.2.100:80", one("", 8080, "10.0.2.100", 80), "8080:10.0.2.100:80/tcp"},
		{":10.0.2.100:80", one("", 0, "10.0.2.100", 80), "0:10.0.2.100:80/tcp"},
		{":8080:10.0.2.100:80", one("", 8080, "10.0.2.100", 80), "8080:10.0.2.100:80/tcp"},
		{"8080:127.0.0.1:80", one("", 8080, "127.0.0.1", 80), "8080:127.0.0.1:80/tcp"},
		{"8080-8090:80-90/tcp,udp", many(one("", 8080, "", 80, TCP, UDP), 11), "8080-8090:80-90/tcp,udp"},
		{"8080-8080:80", one("", 8080, "", 80), "8080:80/tcp"},
		{"0.0.0.0:1-65535:1-65535", many(one("0.0.0.0", 1, "", 1), 65535), "0.0.0.0:1-65535:1-65535/tcp"},
		{"[::1]:8080:80", one("::1", 8080, "", 80), "[::1]:8080:80/tcp"},
		{"[::1]::80", one("::1", 0, "", 80), "[::1]:0:80/tcp"},
		{"[::]:8080:[fd00::5]:80/tcp6,udp6", one("::", 8080, "fd00::5", 80, TCP6, UDP6), "[::]:8080:[fd00::5]:80/tcp6,udp6"},
		{"[fe80::1%eth0.5]:8080:80", one("fe80::1%eth0.5", 8080, "", 80), "[fe80::1%eth0.5]:8080:80/tcp"},
		{"[::ffff:127.0.0.1]:8080:80/tcp4", one("127.0.0.1", 8080, "", 80, TCP4), "127.0.0.1:8080:80/tcp4"},
		{"[127.0.0.1]:8080:80", one("127.0.0.1", 8080, "", 80), "127.0.0.1:8080:80/tcp"},
		{"[127.0.0.1]::[10.0.2.100]:80", one("127.0.0.1", 0, "10.0.2.100", 80), "127.0.0.1:0:10.0.2.100:80/tcp"},
		{"8000-8010:80", upTo(one("", 8000, "", 80), 8010), "8000-8010:80/tcp"},
		{"127.0.0.1:8000-8010:10.0.2.100:80/tcp,udp", upTo(one("127.0.0.1", 8000, "10.0.2.100", 80, TCP, UDP), 8010), "127.0.0.1:8000-8010:10.0.2.100:80/tcp,udp"},
		{"8000-8010:80-80", upTo(one("", 8000, "", 80), 8010), "8000-8010:80/tcp"},
		{"1-65535:80", upTo(one("", 1, "", 80), 65535), "1-65535:80/tcp"},
		{"8080:80/tcp4,tcp6", one("", 8080, "", 80, TCP4, TCP6), "8080:80/tcp4,tcp6"},
		{"08080:080", one("", 8080, "", 80), "8080:80/tcp"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseSpec(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if got.String() != tt.str {
				t.Errorf("String() = %q, want %q", got.String(), tt.str)
			}
		})
	}
}

func TestParseSpecErrors(t *testing.T) {
	for _, tt := range []struct{ in, part, reason string }{
		{"", "", "is empty"},
		{"8080: 80", " ", "spaces"},
		{"80\n", "\n", "spaces"},
		{":", "", "guest port is missing"},
		{"8080:", "", "guest port is missing"},
		{"/tcp", "", "guest port is missing"},
		{"127.0.0.1", "127.0.0.1", "guest port is missing"},
		{"127.0.0.1:80", "127.0.0.1", "127.0.0.1::80"},
		{"127.0.0.1:10.0.2.100:80", "127.0.0.1:10.0.2.100", "host port between"},
		{"8080:80/sctp", "sctp", "must be tcp"},
		{"8080:80/", "", "missing"},
		{"8080:80/tcp,", "", "missing"},
		{"8080:80/tcp,tcp", "tcp", "twice"},
		{"8080:80/tcp/udp", "tcp/udp", "must be tcp"},
		{"8080:80/tcp:90", "tcp:90", "must be tcp"},
		{"70000:80", "70000", "at most 65535"},
		{"8080:99999999999999999999", "99999999999999999999", "at most 65535"},
		{"-5:80", "-5", "negative"},
		{"8080:-5", "-5", "negative"},
		{"8080:0", "0", "1 to 65535"},
		{"80x", "80x", "guest port is missing"},
		{"8080:80x", "80x", "not a guest port"},
		{"8080:1.5", "1.5", "not a guest port"},
		{"8080-8090:80-81", "8080-8090", "equally long"},
		{"1.2.3.4]:8080:80", "1.2.3.4]", "not an IP address"},
		{"[1.2.3.4:8080:80", "[1.2.3.4:8080:80", "closing bracket"},
		{"[]:8080:80", "[]", "not an IP address"},
		{"8080:80-81", "8080", "equally long"},
		{"8090-8080:90-80", "90-80", "ends before"},
		{"0-5:80-85", "0-5", "start at port 0"},
		{"8080-:80", "8080-", "end of the range"},
		{"1-2-3:1-3", "2-3", "not a host port"},
		{"localhost:8080:80", "localhost", "not an IP address"},
		{"8080::80", "8080", "not an IP address"},
		{"127.0.0.1:8080::80", "", "guest address is empty"},
		{"127.0.0.01:8080:80", "127.0.0.01", "not an IP address"},
		{"::1:8080:80", "::1:8080:80", "brackets"},
		{"fe80::1:8080:80", "fe80::1:8080:80", "brackets"},
		{"fd00::5", "fd00::5", "brackets"},
		{"[::1:8080:80", "[::1:8080:80", "closing bracket"},
		{"[::1]x:8080:80", "[::1]x", "not an IP address"},
		{"[]:8080:80", "[]", "not an IP address"},
		{"8080:0.0.0.0:80", "0.0.0.0", "can't be the address of a guest"},
		{"8080:[fe80::1%tap0]:80", "[fe80::1%tap0]", "can't be the address of a guest"},
		{"1:2:3:4:5", "5", "too many colons"},
		{"127.0.0.1:8080:80/tcp6", "tcp6", "does not fit"},
		{"[::1]:8080:80/udp4", "udp4", "does not fit"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseSpec(tt.in)
			var se *SpecError
			if !errors.As(err, &se) {
				t.Fatalf("got %+v, %v", got, err)
			}
			if part := se.Part; part != tt.part || !strings.Contains(tt.in, part) || !strings.Contains(se.Reason, tt.reason) {
				t.Errorf("part %q, want %q; reason %q, want %q", part, tt.part, se.Reason, tt.reason)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestSpecForwards(t *testing.T) {
	s, err := ParseSpec("8080-8081:80-81/tcp,udp")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range s.Forwards() {
		got = append(got, f.String())
	}
	want := []string{"8080:80/tcp", "8080:80/udp", "8081:81/tcp", "8081:81/udp"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	s, _ = ParseSpec("80-81")
	for i, f := range s.Forwards() {
		if f.HostPort != 0 || f.GuestPort != uint16(80+i) || f.HostIP.IsValid() || f.GuestIP.IsValid() {
			t.Errorf("%d: %v", i, f)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{
		"80", "8080:80", "127.0.0.1::80", ":8080:80", "0:80", "8080-8090:80-90/tcp,udp", "[::1]:8080:80",
		"127.0.0.1:8080:10.0.2.100:80/tcp", "8080:[fd00::5]:80/tcp6", "[fe80::1%e/]:1:2", "::1:8080:80", "1-2-3:[", "/", "8080:80/tcp,",
		"[::ffff:1.2.3.4]:1:2", "8000-8010:80", "[1.2.3.4]:8000-8001:[::5]:80/udp",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSpec(in)
		if err != nil {
			var se *SpecError
			if !errors.As(err, &se) {
				t.Fatalf("%T", err)
			}
			if !strings.Contains(in, se.Part) {
				t.Fatalf("%q has no %q", in, se.Part)
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("not one line: %q", err)
			}
			return
		}
		back, err := ParseSpec(s.String())
		if err != nil {
			t.Fatalf("%q printed as %q: %v", in, s, err)
		}
		if !reflect.DeepEqual(s, back) {
			t.Fatalf("%q printed as %q, which is %+v", in, s, back)
		}
		fw := s.Forwards()[0]
		if b, err := ParseSpec(fw.String()); err != nil || b.Forwards()[0] != fw {
			t.Fatalf("%q: forward %v parses to %v, %v", in, fw, b, err)
		}
	})
}
