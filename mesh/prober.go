package mesh

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	probeTick = 40 * time.Millisecond
	// A latency, jitter or loss is news if it moved by more than these; a loss of some size: by a third.
	newsDelay = 2 * time.Millisecond // and an eighth; jitter, which is noisy: twice that and a half
	newsLoss  = 0.03
	// newsCounted takes the place of newsLoss where frames were counted.
	newsCounted = 0.01
	// inboundIdle ends a link that the other chose, after its last request.
	inboundIdle = 5 * time.Second
	// repliesMost bounds the replies to one node in a second: the pace of a fast link, and those that a doubtful one asks for.
	repliesMost = 16
)

// prober measures the links to neighbours.
type prober struct {
	m      *Mesh
	limits neighbourLimits

	mu      sync.Mutex
	rng     *rand.Rand                // guarded by mu
	members map[uint32]bool           // guarded by mu: who may be probed at all
	serial  uint64                    // guarded by mu: of members, see follow
	links   map[uint32]*link          // guarded by mu: neighbours, by choice or inbound
	chosen  map[uint32]bool           // guarded by mu
	told    map[uint32]linkstate.Link // guarded by mu: what our row says, or is to say next
	moves   uint64                    // guarded by mu: counts changes of told
	spoken  uint64                    // guarded by mu: moves when the last row was made
	urgent  bool                      // guarded by mu: the next row must leave at once
	budget  float64                   // guarded by mu: bits that probes may still take
	refill  time.Time                 // guarded by mu: when budget was last filled
	rate    float64                   // bits a second
	second  time.Time                 // guarded by mu: when link.replies were last cleared
}

func newProber(m *Mesh, rate int, rng *rand.Rand) *prober {
	return &prober{
		m: m, rng: rng, limits: limitsFor(rate), rate: float64(rate), budget: float64(rate),
		members: make(map[uint32]bool), links: make(map[uint32]*link), chosen: make(map[uint32]bool), told: make(map[uint32]linkstate.Link),
	}
}

// follow sets the members that there are, unless it was told later ones: serial rises. Links of others are forgotten.
func (p *prober) follow(serial uint64, ids []uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if serial < p.serial {
		return
	}
	p.serial = serial
	clear(p.members)
	for _, id := range ids {
		p.members[id] = true
	}
	for id := range p.links {
		if !p.members[id] {
			p.drop(id)
		}
	}
}

// drop forgets a link. p.mu is held.
func (p *prober) drop(id uint32) {
	delete(p.links, id)
	if _, was := p.told[id]; was {
		delete(p.told, id)
		p.moves++
		p.m.dirt.link(p.m.id, id)
	}
}

// plan makes links of the neighbours chosen. Those that are chosen no more go, unless the other end keeps them up.
func (p *prober) plan(now time.Time, n neighbours) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.chosen)
	set := func(ids []uint32, every time.Duration) {
		for _, id := range ids {
			if p.members[id] {
				p.chosen[id] = true
				p.open(now, id, every)
			}
		}
	}
	set(n.fast, fastEvery)
	set(n.slow, slowEvery)
	for _, id := range p.ids() {
		l := p.links[id]
		if p.chosen[id] {
			continue
		}
		l.pace, l.every = slowEvery, slowEvery
		if now.Sub(l.heard) > inboundIdle {
			p.drop(id)
		}
	}
}

// ids of all links, rising: maps have no order, and equal inputs must give equal traffic.
func (p *prober) ids() []uint32 { return slices.Sorted(maps.Keys(p.links)) }

// open starts a link, or changes its pace. Probes of one pace are spread over the interval by chance.
func (p *prober) open(now time.Time, id uint32, every time.Duration) *link {
	l := p.links[id]
	if l == nil {
		// A fresh epoch, so that the other does not take the new numbers for old ones.
		l = &link{epoch: p.rng.Uint32() | 1}
		p.links[id] = l
	}
	if l.pace != every {
		if every < l.every && l.known {
			l.progress = now // three fast probes have their time before silence counts
		}
		l.pace, l.every, l.due = every, every, now.Add(time.Duration(p.rng.Int64N(int64(every))))
	}
	return l
}

// next is when step is to be called again at the latest, unless a probe comes before; with no link, in a minute.
func (p *prober) next(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := now.Add(time.Minute)
	for _, l := range p.links {
		if t := l.wakes(now); t.Before(at) {
			at = t
		}
	}
	return at
}

// step sends the probes that are due and watches for what does not come back; at rest fewer are. It is to be called every
// probeTick; calls before next do nothing.
func (p *prober) step(now time.Time, rest bool) {
	type outgoing struct {
		to      uint32
		payload []byte
	}
	var out []outgoing
	traffic := p.traffic()
	p.mu.Lock()
	p.fill(now)
	for _, id := range p.ids() {
		l := p.links[id]
		if t, ok := traffic[id]; ok {
			l.look(now, t)
		}
		l.settle(now, rest)
		early := now.Before(l.due)
		if early && !l.doubtful(now) {
			continue
		}
		if !early {
			if l.due = l.due.Add(l.every); l.due.Before(now) {
				l.due = now.Add(l.every)
			}
		}
		if !p.spend(l) {
			p.m.stats.probesCapped.Add(1)
			continue
		}
		request := l.request(now)
		out = append(out, outgoing{id, request.encode()})
		if l.live.greets(now, l.passed.count > 0) && p.spend(l) { // the same once more: who does not know it takes it for malformed
			l.tell(&request, true, l.live.told, l.live.told && l.live.times)
			out = append(out, outgoing{id, request.encode()})
		}
	}
	p.mu.Unlock()
	for _, o := range out { // without the lock: sending may look members up
		p.deliver(o.to, o.payload)
	}
	p.watch(now)
}

// traffic asks for the counts of frames of all links, without the lock.
func (p *prober) traffic() map[uint32]Traffic {
	if p.m.cfg.Traffic == nil {
		return nil
	}
	p.mu.Lock()
	ids := slices.Collect(maps.Keys(p.links))
	p.mu.Unlock()
	out := make(map[uint32]Traffic, len(ids))
	for _, id := range ids {
		out[id] = p.m.cfg.Traffic(id)
	}
	return out
}

// fill adds to the budget what the cap allows; half a second's worth may be saved up.
func (p *prober) fill(now time.Time) {
	if !p.refill.IsZero() {
		p.budget = min(p.budget+now.Sub(p.refill).Seconds()*p.rate, p.rate/2)
	}
	p.refill = now
	if now.Sub(p.second) >= time.Second {
		p.second = now
		for _, l := range p.links {
			l.replies = 0
		}
	}
}

// spend takes one probe of a link out of the budget, if it holds one.
func (p *prober) spend(l *link) bool {
	bits := 8.0 * probeWire
	if l.live.told {
		bits += 8 * countBytes
	}
	if l.live.times {
		bits += 8 * transitBytes
	}
	if l.live.relays {
		bits += 8 * passingBytes
	}
	if p.budget < bits {
		return false
	}
	p.budget -= bits
	return true
}

func (p *prober) deliver(to uint32, payload []byte) {
	if err := p.m.cfg.Probe(to, payload); err != nil {
		p.m.stats.probesFailed.Add(1)
		return
	}
	p.m.stats.probesOut.Add(1)
}

// handle takes a probe of a member in and answers it. Who probes us though we did not choose it is a neighbour too, as long as
// there is room: a link counts only if both ends measure it.
func (p *prober) handle(now time.Time, from uint32, payload []byte) {
	in, err := decodeProbe(payload)
	if err != nil {
		p.m.stats.probesBad.Add(1)
		return
	}
	var traffic Traffic
	if p.m.cfg.Traffic != nil { // as of now: the probe says how many frames left before it
		traffic = p.m.cfg.Traffic(from)
	}
	p.mu.Lock()
	l := p.links[from]
	if l == nil && p.members[from] && in.kind == probeRequest && len(p.links)-len(p.chosen) < p.limits.inbound {
		l = p.open(now, from, slowEvery)
		l.due = now
	}
	if l == nil {
		p.mu.Unlock()
		p.m.stats.probesUnknown.Add(1)
		return
	}
	l.look(now, traffic)
	reply, answer := l.receive(now, in)
	if answer {
		l.heard = now
		l.replies++
		if l.replies > repliesMost || !p.spend(l) {
			answer = false
			p.m.stats.probesCapped.Add(1)
		}
	}
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

// watch makes news of links that changed much.
func (p *prober) watch(now time.Time) {
	news := false
	p.mu.Lock()
	for _, id := range p.ids() {
		l := p.links[id]
		l.tick(now)
		if !p.chosen[id] && now.Sub(l.heard) > inboundIdle {
			p.drop(id) // the other end has chosen otherwise; that is no failure
			continue
		}
		e, ok := l.entry(now, id)
		told, known := p.told[id]
		step := newsLoss
		if l.live.fine() {
			step = newsCounted
		}
		if !ok || known && !differs(told, e, step) {
			continue
		}
		p.told[id] = e
		news = true
		p.moves++
		p.urgent = p.urgent || known && told.Down != e.Down
		p.m.dirt.link(p.m.id, id)
	}
	p.mu.Unlock()
	if news {
		p.m.notify()
	}
}

// differs tells whether a link changed enough for everybody to know; a change of loss counts from loss on.
func differs(a, b linkstate.Link, loss float64) bool {
	moved := func(x, y, least time.Duration, share time.Duration) bool {
		return (x - y).Abs() > max(least, max(x, y)/share)
	}
	lost := func(x, y uint8) bool {
		p, q := linkstate.LossOf(x), linkstate.LossOf(y)
		return max(p, q)-min(p, q) > max(loss, max(p, q)/3)
	}
	return a.Down != b.Down || moved(a.Latency, b.Latency, newsDelay, 8) || moved(a.Jitter, b.Jitter, 2*newsDelay, 2) ||
		lost(a.LossOut, b.LossOut) || lost(a.LossIn, b.LossIn)
}

// row is what this node says of its links now; changed tells whether the last one taken said otherwise, urgent that it must
// leave at once. With take it is the last one.
func (p *prober) row(take bool) (row linkstate.Row, changed, urgent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed, urgent = p.moves != p.spoken, p.urgent
	if take {
		row.Links = maps.Clone(p.told)
		p.spoken, p.urgent = p.moves, false
	}
	return row, changed, urgent
}

// choice is who was chosen last.
func (p *prober) choice() map[uint32]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.chosen)
}

// view is what is told, by member.
func (p *prober) view() map[uint32]linkstate.Link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.told)
}

// LinkStats is what this node measures of its link to one member.
type LinkStats struct {
	To                string
	RTT, SmoothedRTT  time.Duration // smallest of the last 5-10 s, or what live traffic says that it has grown to; moving average
	Jitter            time.Duration // mean change of the round trip, between probes or, if Timed, between frames
	Timed             bool          // live traffic says, both ways, how much longer frames take than they did
	LossOut, LossIn   float64       // share lost: of frames over 20 s, or of the last hundred probes
	Down, Measured    bool          // Measured: a round trip was seen
	Fast              bool          // probed five times a second, else once
	Carries           bool          // live traffic shows that it works, so that it is not probed fast
	Counted           uint64        // frames, both ways, that the loss was worked out from; 0: by probes
	Requests, Replies uint32        // sent; requests of ours that the other has seen
}

// Links returns the measurements of this node, by member name.
func (m *Mesh) Links() []LinkStats {
	names, now := m.namesByID(), m.now()
	m.links.mu.Lock()
	defer m.links.mu.Unlock()
	var out []LinkStats
	for id, l := range m.links.links {
		rtt, jitter := l.delays(now)
		out = append(out, LinkStats{
			To: names[id], RTT: rtt, SmoothedRTT: l.rtt.ewma, Jitter: jitter, Timed: l.there.fresh(now) && l.came(now) != (transit{}), LossOut: l.lossOut, LossIn: l.in,
			Down: l.down, Measured: l.known, Fast: l.every == fastEvery, Carries: l.pace != l.every && !l.rest,
			Counted: l.live.measured[0] + l.live.measured[1], Requests: max(l.next, 1) - 1, Replies: l.theirs.count,
		})
	}
	slices.SortFunc(out, func(a, b LinkStats) int { return cmp.Compare(a.To, b.To) })
	return out
}
