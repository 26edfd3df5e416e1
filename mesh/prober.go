package mesh

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// maxProbed bounds the nodes that this one probes; each costs 10 probes and replies a second each way, 1.1 kB/s on the wire.
	maxProbed = 64
	// probeSlots spread the probes over the interval.
	probeSlots = 10
	// A latency, jitter or loss is worth an early record if it moved by more than these.
	newsDelay = 2 * time.Millisecond // and an eighth
	newsLoss  = 0.025
)

// prober measures the links to all members.
type prober struct {
	m *Mesh

	mu        sync.Mutex
	links     map[uint32]*link     // guarded by mu: members only
	told      map[uint32]linkEntry // guarded by mu: what the last record said
	scheduled []uint32             // guarded by mu: whom to probe
}

func newProber(m *Mesh) *prober {
	return &prober{m: m, links: make(map[uint32]*link), told: make(map[uint32]linkEntry)}
}

// follow sets the members that there are. Links of others are forgotten. Of more than maxProbed, those are probed whose ids
// are near ours by exclusive or: a stable choice, spread evenly, and the same from both ends.
func (p *prober) follow(ids []uint32) {
	slices.SortFunc(ids, func(a, b uint32) int { return cmp.Compare(a^p.m.id, b^p.m.id) })
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.links {
		if !slices.Contains(ids, id) {
			delete(p.links, id)
			delete(p.told, id)
		}
	}
	for _, id := range ids {
		if p.links[id] == nil {
			// A fresh epoch, so that the other does not take the new numbers for old ones.
			p.links[id] = &link{epoch: rand.Uint32() | 1}
		}
	}
	p.scheduled = ids[:min(len(ids), maxProbed)]
}

// run sends probes and watches for what does not come back.
func (p *prober) run(ctx context.Context) error {
	tick := time.NewTicker(probeEvery / probeSlots)
	defer tick.Stop()
	for slot := uint32(0); ; slot = (slot + 1) % probeSlots {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			p.send(now, slot)
			p.watch(now)
		}
	}
}

// send probes the members of one slot. The probes leave without the lock: sending may look members up.
func (p *prober) send(now time.Time, slot uint32) {
	type outgoing struct {
		to      uint32
		payload []byte
	}
	var out []outgoing
	p.mu.Lock()
	for _, id := range p.scheduled {
		if id%probeSlots == slot {
			out = append(out, outgoing{id, p.links[id].request(now).encode()})
		}
	}
	p.mu.Unlock()
	for _, o := range out {
		p.deliver(o.to, o.payload)
	}
}

func (p *prober) deliver(to uint32, payload []byte) {
	if err := p.m.cfg.Probe(to, payload); err != nil {
		p.m.stats.probesFailed.Add(1)
		return
	}
	p.m.stats.probesOut.Add(1)
}

// handle takes a probe of a member in and answers it.
func (p *prober) handle(now time.Time, from uint32, payload []byte) {
	in, err := decodeProbe(payload)
	if err != nil {
		p.m.stats.probesBad.Add(1)
		return
	}
	p.mu.Lock()
	l := p.links[from]
	if l == nil {
		p.mu.Unlock()
		p.m.stats.probesUnknown.Add(1)
		return
	}
	reply, answer := l.receive(now, in)
	measured := l.known
	p.mu.Unlock()
	if measured {
		p.m.established.Store(true)
	}
	p.m.stats.probesIn.Add(1)
	if answer {
		p.deliver(from, reply.encode())
	}
}

// watch makes news of links that changed much: the graph is drawn anew, and a record leaves early.
func (p *prober) watch(now time.Time) {
	news, flipped := false, false
	p.mu.Lock()
	for id, l := range p.links {
		told, known := p.told[id]
		l.tick(now)
		if e, ok := l.entry(id); ok && (!known || differs(told, e)) {
			p.told[id] = e
			news = true
			flipped = flipped || known && told.down != e.down
		}
	}
	p.mu.Unlock()
	if flipped {
		p.m.urgent.Store(true)
	}
	if news {
		p.m.redraw()
		p.m.publishSoon()
	}
}

// differs tells whether a link changed enough for everybody to know at once.
func differs(a, b linkEntry) bool {
	moved := func(x, y time.Duration) bool { return (x - y).Abs() > max(newsDelay, max(x, y)/8) }
	lost := func(x, y uint8) bool { return max(lossOf(x), lossOf(y))-min(lossOf(x), lossOf(y)) > newsLoss }
	return a.down != b.down || moved(a.latency, b.latency) || moved(a.jitter, b.jitter) ||
		lost(a.lossOut, b.lossOut) || lost(a.lossIn, b.lossIn)
}

// entries returns all measured links, links that are down first, then the nearest, and takes them for told.
func (p *prober) entries() []linkEntry {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]linkEntry, 0, len(p.links))
	for id, l := range p.links {
		if e, ok := l.entry(id); ok {
			p.told[id] = e
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b linkEntry) int {
		return cmp.Or(-cmp.Compare(bit(a.down), bit(b.down)), cmp.Compare(a.latency, b.latency), cmp.Compare(a.to, b.to))
	})
	return out
}

// view is entries by member, without taking them for told.
func (p *prober) view() map[uint32]linkEntry {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[uint32]linkEntry, len(p.links))
	for id, l := range p.links {
		if e, ok := l.entry(id); ok {
			out[id] = e
		}
	}
	return out
}

// LinkStats is what this node measures of its link to one member.
type LinkStats struct {
	To                string
	RTT, SmoothedRTT  time.Duration // smallest of the last 5-10 s; moving average
	Jitter            time.Duration // mean change of the round trip between probes
	LossOut, LossIn   float64       // share of probes lost, over about 20 s
	Down, Measured    bool          // Measured: a round trip was seen
	Requests, Replies uint32        // sent; requests of ours that the other has seen
}

// Links returns the measurements of this node, by member name.
func (m *Mesh) Links() []LinkStats {
	names := m.namesByID()
	m.links.mu.Lock()
	defer m.links.mu.Unlock()
	var out []LinkStats
	for id, l := range m.links.links {
		out = append(out, LinkStats{
			To: names[id], RTT: l.rtt.low(), SmoothedRTT: l.rtt.ewma, Jitter: l.rtt.jitter, LossOut: l.lossOut, LossIn: l.in,
			Down: l.down, Measured: l.known, Requests: max(l.next, 1) - 1, Replies: l.theirs.count,
		})
	}
	slices.SortFunc(out, func(a, b LinkStats) int { return cmp.Compare(a.To, b.To) })
	return out
}
