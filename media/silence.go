package media

import (
	"context"
	"time"
)

// A node that dies says nothing, and the session to it lasts ten seconds more. Its publishers are elsewhere long before, but it cannot
// tell those who take their streams from it. So a watch whose source falls silent looks for a later claim, and keeps the source
// meanwhile: it may be a publisher that pauses.
const (
	// silenceTick is how often it is looked which sources are silent, and how long one is before its watch looks first.
	silenceTick = time.Second
	// silenceLooks bounds how often a watch looks while its source is silent: for longer than a session to a dead node lasts.
	silenceLooks = 15
)

// listen has watches look for another source when theirs is silent, until ctx ends.
func (h *Hub) listen(ctx context.Context) {
	tick := time.NewTicker(silenceTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.Lock()
		for _, w := range h.watches {
			if s := w.current; s != nil && s.link != nil && s.silent() {
				poke(s.quiet)
			}
		}
		h.mu.Unlock()
	}
}

// silent says whether no packet came since it was asked last, for as long as that is worth a look. Caller holds Hub.mu.
func (s *supply) silent() bool {
	var sum uint64
	for v := range s.newest {
		sum += uint64(s.newest[v].Load())
	}
	if flowed := s.flowed.Load(); sum != s.heard || flowed != s.heardOf {
		s.heard, s.heardOf, s.still = sum, flowed, 0
		return false
	}
	s.still++
	return s.still <= silenceLooks
}
