package media

import (
	"context"
	"time"
)

// A publisher moves to another node by publishing there what it still publishes here. Nobody loses a packet by it:
//
//	new ingress   looks its stream up, finds the older claim, tells that node of its own
//	old ingress   tells all who take the stream from it: "moved"; goes on until they have left
//	others        subscribe at the new ingress, take from both until it flows, leave the old one
//
// A node of an older version knows no "moved": it finds the new ingress when the old publication ends.
const (
	// announceTries are the lookups for older claims, announceRetry apart: one may miss a directory that does not answer.
	announceTries = 3
	announceRetry = time.Second
	// leastHandover is how long a publication that has a successor goes on when nobody takes it: its publisher may still be
	// connecting to the other node.
	leastHandover = 3 * time.Second
	// handoverPoll is how often it is looked whether a handover is over.
	handoverPoll = 100 * time.Millisecond
	// bothFlow is how long a source is kept once all that came from it comes from the next one, and it has brought what lies before
	// that: its node may be the later of the two. startFlow, if only a part does: a track may be silent.
	bothFlow, startFlow = time.Second, 5 * time.Second
	// catchUpMost is how many packets a source may be behind the next one's first.
	catchUpMost = 1024
)

// newer says whether a registration is a later claim to its stream than another claim of that generation and origin.
func (r Registration) newer(generation uint64, origin string) bool {
	return r.Generation > generation || r.Generation == generation && r.Origin > origin
}

// announce tells nodes with an older claim to the stream of this one.
func (p *Publication) announce(ctx context.Context) {
	h := p.hub
	for try := range announceTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return
			case <-p.done:
				return
			case <-time.After(announceRetry):
			}
		}
		found, err := h.lookup(ctx, p.key.room())
		if err != nil {
			continue
		}
		own := p.registration(sane(h.cfg.Load()))
		for _, r := range found.regs {
			if r.Stream != p.key.Stream || r.Node == h.cfg.Self || !own.newer(r.Generation, r.Origin) {
				continue
			}
			limit, cancel := context.WithTimeout(ctx, directoryTimeout)
			if _, err := h.ask(limit, r.Node, dirRequest{Put: []Registration{own}}, p.key.room()); err != nil {
				h.log.Debug("the stream's older ingress was not told", "stream", p.key.String(), "node", r.Node, "err", err)
			}
			cancel()
		}
		if found.conclusive() {
			return
		}
	}
}

// succeeded notes that another node has a later claim to a stream that is published here.
func (h *Hub) succeeded(r Registration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pubs[r.Key]
	if p == nil || r.Node == h.cfg.Self || r.Generation <= p.successor || !r.newer(p.generation, h.cfg.Self) {
		return
	}
	first := p.successor == 0
	p.successor = r.Generation
	h.log.Info("stream moves", "stream", p.key.String(), "to", r.Node)
	for _, o := range load(&p.out.list) {
		if o.supply != nil {
			poke(o.supply.moved)
		} else if pl := (*h.links.Load())[o.link]; pl != nil {
			h.tell(pl, message{Type: msgMoved, Ref: o.ref})
		}
	}
	if first {
		h.spawnLocked(p.depart)
	}
}

// depart ends a publication that has a successor when nobody takes it any more. A successor that is gone by then was none: its
// publisher did not get there, and still is here.
func (p *Publication) depart(ctx context.Context) {
	tick := time.NewTicker(handoverPoll)
	defer tick.Stop()
	for began := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case now := <-tick.C:
			if now.Sub(began) < leastHandover || len(load(&p.out.list)) > 0 {
				continue
			}
			began = now // of the next try, if this one tells nothing
			if p.settled(ctx) {
				return
			}
		}
	}
}

// settled ends a publication whose successor is there, and lets one stay whose successor is not; false if the directory does not
// say which it is.
func (p *Publication) settled(ctx context.Context) bool {
	h := p.hub
	h.mu.Lock()
	successor := p.successor
	h.mu.Unlock()
	found, err := h.lookup(ctx, p.key.room())
	if err != nil {
		return false
	}
	for _, r := range found.regs {
		if r.Stream == p.key.Stream && r.newer(p.generation, h.cfg.Self) {
			p.end(reasonReplaced)
			return true
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !found.conclusive() || p.successor != successor {
		return false
	}
	p.successor = 0
	return true
}

// handleMoved takes a source's word that its stream is now published elsewhere too, where it should be taken from.
func (h *Hub) handleMoved(l Link, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pl := (*h.links.Load())[l]; pl != nil && pl.feeds[m.Ref] != nil {
		poke(pl.feeds[m.Ref].moved)
	}
}

// handover is a watch's source, with the next one while there are two. It belongs to the watch's goroutine.
//
//	s ──moved──▶ s, looking for the next ──found──▶ next is s, the former is old ──it flows──▶ s
//	                  ▲                                  │
//	                  └──────────────────────────────────┘ next ends: old is s again
type handover struct {
	w     *watch
	s     *supply      // the source that counts
	old   *supply      // the one before it, still delivering; nil: none
	found chan *supply // of the search under way, nil in it: nothing; nil: no search
	stop  context.CancelFunc

	moves   bool      // s is to be left
	looks   bool      // s is silent, and it is to be looked once whether there is a later claim
	again   time.Time // of the next search
	backoff time.Duration
	started time.Time // s began to flow beside old
	covered time.Time // all that old carried came from s too
}

func newHandover(w *watch, s *supply) *handover {
	return &handover{w: w, s: s, stop: func() {}, backoff: retryMin}
}

// leave notes that the source is to be left.
func (m *handover) leave() { m.moves, m.again = true, time.Time{} }

// step does what is due: begins a search, or lets the old source go. It returns how long until the next step.
func (m *handover) step(now time.Time) time.Duration {
	if m.old != nil {
		m.settle(now)
	}
	switch {
	case m.old != nil:
		return handoverPoll
	case !m.moves && !m.looks || m.found != nil:
		return time.Hour
	case !m.looks && now.Before(m.again):
		return m.again.Sub(now)
	}
	m.search()
	return time.Hour
}

// search looks for another source than s.
func (m *handover) search() {
	found := make(chan *supply, 1)
	m.found = found
	past := ending{cause: causeEnded, node: m.s.node, generation: m.s.generation, later: !m.moves}
	m.looks = false
	limit, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	if !m.w.hub.spawn(func(running context.Context) {
		defer context.AfterFunc(running, cancel)()
		s, err := m.w.find(limit, past)
		if err != nil {
			m.w.hub.log.Debug("no other source yet", "stream", m.w.key.String(), "err", err)
		}
		found <- s
	}) {
		found <- nil
	}
}

// take is told what a search has found; true if there is another source now.
func (m *handover) take(next *supply, now time.Time) bool {
	m.found = nil
	m.stop()
	if next == nil {
		if m.moves {
			m.again = now.Add(m.backoff)
			m.backoff = min(2*m.backoff, retryMax)
		}
		return false
	}
	m.old, m.s, m.moves, m.looks, m.backoff = m.s, next, false, false, retryMin
	m.started, m.covered = time.Time{}, time.Time{}
	m.w.hub.count.resubscribed.Add(1)
	return true
}

// settle lets the old source go once it is not needed.
func (m *handover) settle(now time.Time) {
	flowed, before := m.s.flowed.Load(), m.old.flowed.Load()
	if flowed != 0 && m.started.IsZero() {
		m.started = now
	}
	if flowed != 0 && before&^flowed == 0 && m.covered.IsZero() && m.old.caughtUp(m.s) {
		m.covered = now
	}
	if !m.covered.IsZero() && now.Sub(m.covered) >= bothFlow || !m.started.IsZero() && now.Sub(m.started) >= startFlow || m.isOver(m.old) {
		m.end(m.old)
		m.old = nil
	}
}

func (m *handover) isOver(s *supply) bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// ended is told that s has ended; true if the watch has another source all the same: the one before, or one that a search
// brings.
func (m *handover) ended() bool {
	if c := m.s.ending.cause; c == causePolicy || c == causeIdle {
		return false
	}
	if m.found != nil && m.take(<-m.found, time.Now()) {
		m.old = nil // that is what has ended
		return true
	}
	if m.old == nil || m.isOver(m.old) || !m.w.fenced(m.old) {
		return false
	}
	h := m.w.hub
	h.mu.Lock()
	m.w.current = m.old
	h.mu.Unlock()
	m.s, m.old = m.old, nil
	m.leave()
	m.again = time.Now().Add(m.backoff)
	return true
}

// close ends the search and all sources.
func (m *handover) close() {
	m.stop()
	if m.found != nil {
		if s := <-m.found; s != nil {
			m.end(s)
		}
	}
	if m.old != nil {
		m.end(m.old)
	}
	m.end(m.s)
}

// end lets a source go.
func (m *handover) end(s *supply) {
	h := m.w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	h.letGo(s, causeReplaced)
}
