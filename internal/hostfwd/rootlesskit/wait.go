package rootlesskit

import (
	"context"
	"errors"
	"net"
	"time"
)

// waitListening waits until the child half answers at its socket, which takes about a
// millisecond.
func waitListening(ctx context.Context, path string, done <-chan struct{}) error {
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return c.Close()
		}
		select {
		case <-done:
			return errors.New("the helper in the namespace has ended")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
