package braid

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/media/braid/pace"
)

const (
	// stepEvery is how often budgets are dealt out while media flows.
	stepEvery = 50 * time.Millisecond
	// restAfter without media the budgets rest; they are not needed to move nothing.
	restAfter = 10 * time.Second
	// demandOver is the time over which what a flow offers is averaged.
	demandOver = 500 * time.Millisecond
	// A burst, a keyframe for one, leaves at burstRate bytes/s, or at burstTimes what the flow sends on average, or burstGrows
	// times the lower of what it was given in the last two steps, the most of these: 100 packets within 40 ms. At once it would stand before
	// everything else on the way. burstBytes may go at once, or what burstLeast brings.
	burstRate  = 25e6 / 8
	burstTimes = 2.5
	burstGrows = 4
	burstBytes = 12e3
	burstLeast = 2 * time.Millisecond
	// wireShare is what headers add to packets at least, repairs and unevenness included; a small packet's may be more, up to wireMost.
	wireShare = 1.08
	wireMost  = 4
)

// budgets is the node's pace.Control with its lock. Of all locks this is the innermost.
type budgets struct {
	mu      sync.Mutex
	control pace.Control
	awake   atomic.Bool
	wake    chan struct{} // capacity 1
	soon    chan struct{} // capacity 1: a queue is sure, the next step should not wait
}

func (g *budgets) newFlow() *pace.Flow {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.control.NewFlow()
}

func (g *budgets) remove(f *pace.Flow) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.control.Remove(f)
}

// setPaths tells of a flow's present paths. Holds f.sendMu.
func (g *budgets) setPaths(f *flow) {
	g.mu.Lock()
	defer g.mu.Unlock()
	paths := make([]*pace.Path, len(f.paths))
	for i, p := range f.paths {
		if p.pace == nil {
			p.pace = f.pace.NewPath(uint32(p.first(f.key.peer)))
			p.loss = p.pace.Loss()
		}
		paths[i] = p.pace
	}
	f.pace.SetPaths(paths)
}

// stir wakes the loop when media begins to flow.
func (g *budgets) stir() {
	if !g.awake.Load() {
		notify(g.wake)
	}
}

// budgetLoop deals out what the paths, first hops, flows and the node may send.
func (b *Braid) budgetLoop(ctx context.Context) error {
	g := &b.budgets
	tick := time.NewTicker(stepEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.soon:
			if now := time.Now(); b.step(now) {
				last = now
			}
			continue
		case now := <-tick.C:
			if b.step(now) {
				last = now
			}
			if now.Sub(last) < restAfter {
				continue
			}
		}
		g.awake.Store(false)
		tick.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-g.wake:
		}
		g.awake.Store(true)
		tick.Reset(stepEvery)
		last = time.Now()
	}
}

// step reads what the flows offer, moves the caps and hands out the grants; it reports whether media flows.
func (b *Braid) step(now time.Time) (busy bool) {
	flows := b.allFlows()
	g := &b.budgets
	for _, f := range flows {
		busy = f.offer(now) || busy
	}
	g.mu.Lock()
	g.control.Step(now)
	g.mu.Unlock()
	for _, f := range flows {
		f.grant(now)
	}
	return busy
}

// copyTally counts, in frames, what the flow's modes asked for and what went out. Guarded by flow.sendMu.
type copyTally struct {
	frames, wanted, copies, withheld uint64 // wanted: beyond the first copy
	offered                          uint64 // bytes, of the session that offered them
	packets, wire                    uint64 // bytes of packets that left, and of one copy of the frames that they were in

	judged, holes uint64 // frames, and the peer's count of holes, when residual loss was judged last
	judgedAt      time.Time

	at     time.Time
	demand float64 // bytes/s
	newest float64 // the same, in the last step alone
	steady float64 // the lower of the last two steps
	mean   float64 // copies per frame, lately
	extra  float64 // wanted beyond the first, per frame, lately
	share  float64 // of wire in packets, lately; 0 = not known
	before struct{ frames, wanted, copies, offered, packets, wire uint64 }
}

// step turns counts into averages.
func (t *copyTally) step(now time.Time) {
	dt := now.Sub(t.at)
	if t.at.IsZero() || dt > 10*demandOver {
		t.at = now
		t.before.frames, t.before.wanted, t.before.copies, t.before.offered = t.frames, t.wanted, t.copies, t.offered
		t.demand, t.newest, t.steady = 0, 0, 0
		return
	}
	if dt < stepEvery/2 {
		return
	}
	keep := math.Exp(-dt.Seconds() / demandOver.Seconds())
	t.measure(keep)
	rate := float64(t.offered-min(t.offered, t.before.offered)) / dt.Seconds() * t.headers()
	t.steady, t.newest = min(rate, t.newest), rate
	t.demand = max(t.demand*keep+rate*(1-keep), min(rate, t.demand))
	if frames := float64(t.frames - t.before.frames); frames > 0 {
		t.mean = t.mean*keep + (1-keep)*float64(t.copies-t.before.copies)/frames
		t.extra = t.extra*keep + (1-keep)*float64(t.wanted-t.before.wanted)/frames
	}
	t.at = now
	t.before.frames, t.before.wanted, t.before.copies, t.before.offered = t.frames, t.wanted, t.copies, t.offered
}

// left counts what left in the last moment, before the next one begins.
func (t *copyTally) left(o *outMedia) {
	t.packets += uint64(o.packets)
	for _, frame := range o.frames {
		t.wire += uint64(len(frame) + headerLen(1))
	}
	o.packets, o.frames = 0, o.frames[:0]
}

// measure averages what headers add.
func (t *copyTally) measure(keep float64) {
	if packets := float64(t.packets - t.before.packets); packets > 0 {
		t.share = t.headers()*keep + (1-keep)*min(float64(t.wire-t.before.wire)/packets, wireMost)
	}
	t.before.packets, t.before.wire = t.packets, t.wire
}

// headers is what headers add to packets, as a factor.
func (t *copyTally) headers() float64 {
	return max(wireShare, t.share)
}

// offer tells the budgets what the flow would like to send.
func (f *flow) offer(now time.Time) (busy bool) {
	s := f.session()
	g := &f.b.budgets
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	t := &f.tally
	if s != nil {
		if n := s.offered.Load(); n != t.offered {
			busy = true
			t.offered = n
		}
	}
	if t.before.offered > t.offered { // another session
		t.before.offered = 0
	}
	t.step(now)
	rate := max(burstRate, burstTimes*t.demand, burstGrows*t.steady)
	f.burst.SetBurst(now, rate, max(burstBytes, rate*burstLeast.Seconds()))
	g.mu.Lock()
	defer g.mu.Unlock()
	f.pace.Offer(t.demand, t.extra)
	alive := f.alive()
	for _, p := range f.paths {
		p.pace.SetUsable(p.ready && (!p.dead || !alive))
	}
	return busy
}

// grant takes what the budgets have dealt.
func (f *flow) grant(now time.Time) {
	g := &f.b.budgets
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range f.paths {
		grant := p.pace.Grant()
		p.needed.Set(now, grant.Needed)
		p.extra.Set(now, grant.Copies)
		p.loss = p.pace.Loss()
	}
	f.extra = f.pace.Residual.Extra()
}

// Estimate is what the session's flow may send to its peer at present, in bytes/s of packets given to Send, 0 if nothing
// limits it; by says what does: "path", "link" (a first hop), "peer", "node" or "none". The limit holds for the sum of
// what goes to this peer under this fence. Publishers should be asked for less where it is below what they send.
func (s *Session) Estimate() (bytesPerSecond float64, by string) {
	s.f.sendMu.Lock()
	defer s.f.sendMu.Unlock()
	g := &s.b.budgets
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := s.f.pace.Estimate(); !math.IsInf(e, 1) {
		bytesPerSecond = e / s.f.tally.headers()
	}
	return bytesPerSecond, s.f.pace.Scope().String()
}

// Fit is the share of what the session is given to send that may be sent at present: below 1, packets are dropped; infinite
// while nothing limits it. See Estimate.
func (s *Session) Fit() float64 {
	limit, _ := s.Estimate()
	if limit == 0 {
		return math.Inf(1)
	}
	s.f.sendMu.Lock()
	defer s.f.sendMu.Unlock()
	return limit * s.f.tally.headers() / max(1, s.f.tally.demand)
}
