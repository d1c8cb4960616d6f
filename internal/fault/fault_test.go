package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
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

func TestCauseAndChecks(t *testing.T) {
	cause := &Error{Msg: "the port is taken", Help: "another", Err: fs.ErrExist}
	outer := Errorf(Conflict, "", "forward: %w", cause)
	if outer.Error() != "forward: the port is taken" || !errors.Is(outer, fs.ErrExist) || Hint(outer) != "another" || Of(outer) != Conflict {
		t.Errorf("%v, %q, %v", outer, Hint(outer), Of(outer))
	}
	asks := fmt.Errorf("x: %w", &Error{Err: &Error{Err: cause, Checks: []string{"a", "b"}}})
	if got := Checks(asks); len(got) != 2 || got[0] != "a" {
		t.Errorf("checks %q", got)
	}
	if got := Checks(fmt.Errorf("%w: %w", cause, asks)); len(got) != 2 {
		t.Errorf("behind another: %q", got)
	}
	for _, err := range []error{nil, cause, outer} {
		if got := Checks(err); got != nil {
			t.Errorf("%v: checks %q", err, got)
		}
	}
	for err, want := range map[error]Kind{
		syscall.EADDRINUSE: Conflict, os.ErrDeadlineExceeded: Timeout, context.DeadlineExceeded: Timeout, syscall.EAGAIN: 0,
		fmt.Errorf("%w: %w", New(Unsupported, "u", ""), syscall.EAGAIN): 0,
	} {
		if got := Of(err); got != want {
			t.Errorf("%v: kind %d, want %d", err, got, want)
		}
	}
	if Of(nil) != 0 || Of(cause) != 0 || Of(errors.Join(New(Conflict, "c", ""), New(Usage, "u", ""))) != Usage {
		t.Error("the wrong kind")
	}
}

func TestIsShortage(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("dial: %w", syscall.EMFILE): true, syscall.ENFILE: true, syscall.ENOBUFS: true, syscall.ENOMEM: true,
		syscall.ECONNREFUSED: false, syscall.EAGAIN: false, nil: false,
	} {
		if got := IsShortage(err); got != want {
			t.Errorf("IsShortage(%v) is %v", err, got)
		}
	}
}
