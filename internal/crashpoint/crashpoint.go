//go:build !crashpoints

// Package crashpoint marks the steps at which tests kill slirpctl, to check that each of them leaves a
// state that the next command understands. Without the build tag crashpoints it does nothing.
package crashpoint

// Here marks a step.
func Here(string) {}
