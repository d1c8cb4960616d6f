package fault

import (
	"errors"
	"fmt"
	"testing"
)

func TestKindAndHint(t *testing.T) {
	lost, bare := New(NotFound, "lost", "look"), New(Usage, "bare", "")
	for _, tc := range []struct {
		err  error
		kind Kind
		hint string
	}{
		{lost, NotFound, "look"},
		{fmt.Errorf("%q: %w", "x", lost), NotFound, "look"},
		{errors.Join(bare, lost), Usage, "look"},
		{fmt.Errorf("%w: %w", bare, errors.New("why")), Usage, ""},
	} {
		if !errors.Is(tc.err, tc.kind) || errors.Is(tc.err, Conflict) || Hint(tc.err) != tc.hint {
			t.Errorf("%v: hint %q", tc.err, Hint(tc.err))
		}
	}
	if !errors.Is(fmt.Errorf("x: %w", lost), lost) || errors.Is(lost, New(NotFound, "lost", "look")) {
		t.Error("errors of New are not told apart")
	}
	if Hint(nil) != "" || Hint(errors.New("x")) != "" {
		t.Error("a hint out of nothing")
	}
}
