package supervisor

import "github.com/slirpctl/slirpctl/internal/nettune"

// tune sets the namespace's TCP settings that make slirp4netns faster, while it starts. COMMAND's init
// does so itself; other namespaces are entered, only on hosts where there is something to set.
func (s *supervisor) tune() {
	if s.tuned || s.cmd != nil || !nettune.Needed() {
		return
	}
	s.tuned = true
	if err := nettune.Enter(s.tgt.Netns, s.entry); err != nil {
		s.log.Debugf("TCP settings of the namespace: %v", err)
	}
}
