package mesh

import "time"

const (
	// restAfter is how long a mesh must have been idle before its nodes rest: every link is measured well by then.
	restAfter = 30 * time.Second
	// restSpread is how many times longer the ticks of linkstate are apart at rest: 0.48 s, and digests go around in one to two.
	restSpread = 4
)

// idle tells whether this node rests: nobody in the whole mesh has a client, as far as rows tell, this node has no sessions with
// peers, no frames have come or gone, and nobody has come or gone either, for restAfter. Then links that would be probed fast are
// probed slowly (a dead one is known after 2 s instead of 0.7), because an idle processor pays for every waking. The first
// client anywhere ends it: its node at its next tick, and by its row, which that is news for, the others within a second or two.
func (m *Mesh) idle(now time.Time) bool {
	if m.cfg.Busy == nil {
		return false
	}
	busy := m.cfg.Busy() || m.links.carry(now)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		busy = busy || p.health.Sessions > 0
	}
	if busy || m.busy.IsZero() {
		m.busy = now
	}
	return now.Sub(m.busy) >= restAfter
}

// carry tells whether frames of braids come or go on any link.
func (p *prober) carry(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		if l.live.moves(now) {
			return true
		}
	}
	return false
}

// spreadTicks is how many ticks of probeTick lie between two of linkstate: no sleep of beat is longer.
func (m *Mesh) spreadTicks() int {
	if m.resting {
		return restSpread * int(spreadEvery/probeTick)
	}
	return int(spreadEvery / probeTick)
}
