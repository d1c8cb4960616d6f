//go:build !crashpoints

// Package crashpoint marks the steps at which the tests kill slirpctl, to see that every one of
// them leaves a state that the next command understands. Without the build tag crashpoints it
// is nothing.
package crashpoint

// Here marks a step.
func Here(string) {}
