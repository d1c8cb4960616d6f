package nscommand

import (
	"slices"
	"strings"
	"testing"
)

func TestParseSubIDs(t *testing.T) {
	const file = `# a comment, and an empty line

root:100000:65536
user:200000:65536
  user:300000:10
1000:400000:1
user:500000:0
other:user:1
users:1:1
short:1
`
	for _, c := range []struct {
		name, uid string
		want      []subIDs
	}{
		{"user", "1000", []subIDs{{200000, 65536}, {300000, 10}, {400000, 1}}},
		{"1000", "1000", []subIDs{{400000, 1}}},
		{"root", "0", []subIDs{{100000, 65536}}},
		{"nobody", "65534", nil},
		{"short", "1", nil},
	} {
		got, err := parseSubIDs(strings.NewReader(file), c.name, c.uid)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	for _, line := range []string{"user:x:1", "user:1:x", "user:-1:1", "user:1:4294967296", "user::1"} {
		if got, err := parseSubIDs(strings.NewReader("\n"+line), "user", "1"); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v, %v", line, got, err)
		}
	}
}

func FuzzParseSubIDs(f *testing.F) {
	f.Add("user:100000:65536\n", "user", "1000")
	f.Add("1000:1:1\n#x\n:::\n", "", "1000")
	f.Fuzz(func(t *testing.T, text, name, uid string) {
		got, err := parseSubIDs(strings.NewReader(text), name, uid)
		if err != nil {
			return
		}
		for _, r := range got {
			if r.count == 0 || r.first > 1<<32-1 || r.count > 1<<32-1 {
				t.Errorf("%q: %v", text, got)
			}
		}
	})
}
