package procfs

import (
	"os"
	"slices"
	"strconv"
	"testing"
)

// FuzzParseStat: /proc/PID/stat, whose second field may hold anything.
func FuzzParseStat(f *testing.F) {
	if data, err := os.ReadFile("/proc/self/stat"); err == nil {
		f.Add(data)
	}
	f.Add([]byte("1 (a) b) (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21\n"))
	f.Add([]byte("1 () Z"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseStat(data); err != nil && s != (Stat{}) {
			t.Errorf("%q: %v, and yet %+v", data, err, s)
		}
	})
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21"
	for _, comm := range []string{"(sh)", "(a b)", "(x) R 1 2)", "(\n)", "())"} {
		s, err := ParseStat([]byte("17 " + comm + rest))
		if want := (Stat{'S', 1, 11 + 12 + 13 + 14, 4242}); err != nil || s != want {
			t.Errorf("%q: %+v %v", comm, s, err)
		}
	}
	for _, text := range []string{"", "17", "17 (sh)", "17 (sh) S 1", "17 (sh) SS" + rest[2:]} {
		if _, err := ParseStat([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestOwnProcess(t *testing.T) {
	pid := os.Getpid()
	if s, err := ReadStat(pid); err != nil || s.Parent != os.Getppid() || s.Start == 0 {
		t.Errorf("%+v %v", s, err)
	}
	if got := Status(pid, "Tgid"); !slices.Equal(got, []string{strconv.Itoa(pid)}) {
		t.Errorf("Tgid: %q", got)
	}
	if got := Status(pid, "Tgi"); got != nil {
		t.Errorf("Tgi: %q", got)
	}
	p, err := os.StartProcess("/proc/self/exe", []string{"child", "-test.run=^$"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = p.Wait() }()
	if got := Children(pid); !slices.Contains(got, p.Pid) {
		t.Errorf("children %v, want %d among them", got, p.Pid)
	}
}
