package supervisor

// recordEnd records how the instance ended, for those who wait for it; err is the result of [Run].
func (s *supervisor) recordEnd(err error) {
	status := 0
	switch {
	case s.inst == nil:
		return
	case s.exited != nil:
		status = *s.exited
	case err != nil:
		return
	}
	if err := s.inst.End(status); err != nil {
		s.log.Warnf("record the exit status: %v", err)
	}
}

// leavesRecord reports whether the instance leaves its logs and COMMAND's status: those of a detached COMMAND, unless
// somebody asked for its end.
func (s *supervisor) leavesRecord() bool {
	select {
	case <-s.down:
		return false
	default:
		return s.env.Session && s.exited != nil
	}
}
