package hostfwd

import (
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParseProcNet(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Log("the test data is from a little-endian machine; the addresses come out swapped")
	}
	for _, tt := range []struct {
		file string
		want []string // address state inode
	}{
		{"testdata/proc_net_tcp", []string{"127.0.0.1:8080 a 83161", "0.0.0.0:22 a 412", "10.0.2.100:22 1 98123"}},
		{"testdata/proc_net_tcp6", []string{"[::]:22 a 414", "[::1]:8080 a 83170", "[::ffff:127.0.0.1]:9000 a 83200"}},
		{"testdata/proc_net_udp", []string{"127.0.0.1:53 7 5512"}},
	} {
		f, err := os.Open(tt.file)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for s := range parseProcNet(f) {
			got = append(got, s.Local.String()+" "+strconv.FormatUint(uint64(s.State), 16)+" "+strconv.FormatUint(s.Inode, 10))
		}
		f.Close()
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.file, got, tt.want)
		}
	}
}

func TestBlocks(t *testing.T) {
	for _, tt := range []struct {
		line, spec string
		want       bool
	}{
		{"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7", "127.0.0.1:8080:80", true},
		{"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7", "0.0.0.0:8080:80", true},
		{"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7", "127.0.0.2:8080:80", false},
		{"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7", "127.0.0.1:8081:80", false},
		{"0: 0100007F:1F90 00000000:0000 01 0:0 0:0 0 0 0 7", "127.0.0.1:8080:80", false},
		{"0: 0100007F:1F90 00000000:0000 07 0:0 0:0 0 0 0 7", "127.0.0.1:8080:80/udp", true},
		{"0: 00000000000000000000000000000000:1F90 0:0 0A 0:0 0:0 0 0 0 7", "127.0.0.1:8080:80", true},
		{"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7", "[::]:8080:80", true},
		{"0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 7", "[::]:8080:80/tcp6", false},
	} {
		s, ok := parseProcNetLine(tt.line)
		if !ok {
			t.Fatal(tt.line)
		}
		if got := s.blocks(forwards(t, tt.spec)[0]); got != tt.want {
			t.Errorf("%s, %s: got %v", tt.line, tt.spec, got)
		}
	}
}

func FuzzParseProcNet(f *testing.F) {
	for _, name := range []string{"testdata/proc_net_tcp", "testdata/proc_net_tcp6", "testdata/proc_net_udp"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("0: 0100007F:1F90 0 0A 0 0 0 0 0 7\n: : : : : : : : : :")
	f.Fuzz(func(t *testing.T, in string) {
		n := 0
		for s := range parseProcNet(strings.NewReader(in)) {
			if !s.Local.Addr().IsValid() {
				t.Fatalf("%q: %v", in, s)
			}
			n++
		}
		if n > strings.Count(in, "\n")+1 {
			t.Fatalf("%d sockets of %q", n, in)
		}
	})
}
