package nscommand

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	mobyuser "github.com/moby/sys/user"
)

func TestSubIDs(t *testing.T) {
	const file = `# a comment, and an empty line

root:100000:65536
user:200000:65536
  user:300000:10
1000:400000:1
user:500000:0
user:x:1
user:1:x
user:-1:1
user:1:4294967296
user:4294967296:1
user:99999999999999999999:99999999999999999999
user::1
user:7
#user:1:1
`
	user := func(first, count int64) mobyuser.SubID {
		return mobyuser.SubID{Name: "user", SubID: first, Count: count}
	}
	root, byNumber := mobyuser.SubID{Name: "root", SubID: 100000, Count: 65536}, mobyuser.SubID{Name: "1000", SubID: 400000, Count: 1}
	for _, c := range []struct {
		owners []string
		want   []mobyuser.SubID
	}{
		{[]string{"user", "1000"}, []mobyuser.SubID{user(200000, 65536), user(300000, 10), byNumber}},
		{[]string{"1000", "1000"}, []mobyuser.SubID{byNumber}},
		{[]string{"root", "0"}, []mobyuser.SubID{root}},
		{[]string{"nobody", "65534"}, nil},
		{nil, []mobyuser.SubID{root, user(200000, 65536), user(300000, 10), byNumber}},
	} {
		got, err := SubIDs(strings.NewReader(file), c.owners...)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.owners, got, err, c.want)
		}
	}
}

func TestKeptMap(t *testing.T) {
	for _, c := range []struct {
		id    int
		table string
		want  string
	}{
		{1000, "0 1000 1\n", "[{1000 0 1}]"},
		{1000, "0 1000 1\n1 100000 65536\n", "[{1000 0 1} {0 1 1000} {1001 1001 64536}]"},
		{1000, "0 1000 1\n1 100000 10\n11 200000 5\n", "[{1000 0 1} {0 1 15}]"},
		{1000, "0 1000 1\n1 100000 1000\n", "[{1000 0 1} {0 1 1000}]"},
		{1, "0 1 1\n1 100000 10\n", "[{1 0 1} {0 1 1} {2 2 9}]"},
	} {
		if got := fmt.Sprint(keptMap(c.id, mappedIDs([]byte(c.table)))); got != c.want {
			t.Errorf("%d in %q: %s, want %s", c.id, c.table, got, c.want)
		}
	}
}
