package supervisor

import "github.com/slirpctl/slirpctl/internal/nettune"

// tune sets what makes TCP through slirp4netns quicker, while that starts. COMMAND's first
// process does so by itself; another's namespace is entered, on the few hosts where there is
// something to set.
func (s *supervisor) tune() {
	if s.tuned || s.cmd != nil || !nettune.Needed() {
		return
	}
	s.tuned = true
	if err := nettune.Enter(s.tgt.Netns, s.entry); err != nil {
		s.log.Debugf("TCP settings of the namespace: %v", err)
	}
}
