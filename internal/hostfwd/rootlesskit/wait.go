package rootlesskit

import (
	"context"
	"errors"
	"time"
)

// waitListening waits until the child half answers on its socket, which takes about a
// millisecond.
func (h *Handler) waitListening(ctx context.Context, done <-chan struct{}) error {
	for {
		c, err := h.connect(ctx)
		if err == nil {
			return c.Close()
		}
		select {
		case <-done:
			return errors.New("the helper in the namespace has exited")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
