package nscommand

import (
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
