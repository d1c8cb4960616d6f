package main

import "github.com/slirpctl/slirpctl/internal/fault"

// wrongUsage says that the command line or the configuration is wrong, and what to do about it.
func wrongUsage(msg, hint string) error { return fault.New(fault.Usage, msg, hint) }

// usagef is the same without a hint.
func usagef(format string, a ...any) error { return fault.Errorf(fault.Usage, "", format, a...) }
