package braid

import (
	"net/netip"
	"sync/atomic"
)

const (
	// pressedBytes: while more waits in this node's socket, what it relays has the congestion bit set. 4 ms of 1 Gbit/s,
	// 40 ms of 100 Mbit/s.
	pressedBytes = 512 << 10
	// pressedMS is how long the bit is set after the socket refused a run, in milliseconds.
	pressedMS = 100
)

// forward is what a relay gathers of one run: a stretch of frames that all go to one next hop and lie one behind the other, so that
// they leave as they came, in one call, without a copy; and what membership and policy say of their way, which frames of one run
// nearly always share.
type forward struct {
	start, end int // in the run
	frames     uint64
	counted    uint64 // of those, traffic of the link,
	last       mark   // and the last of that
	segment    int    // bytes; the last may be shorter
	next       NodeID
	to         netip.AddrPort

	known   bool       // way is that of a frame that may go on,
	way     pathHeader // this one,
	wayNext NodeID     // to this member,
	wayTo   netip.AddrPort
	heard   uint64 // frames with a good MAC that came by way, not yet counted as traffic
	sentMS  uint64 // when the newest of them left its source

	held bool    // Braid.sourceMu is locked: once for all frames of a run, not for each
	src  *source // of way; nil unless held
}

// hold locks the sources, release unlocks them: before anything that is not the check of another frame of the same way.
func (o *forward) hold(b *Braid) {
	if !o.held {
		b.sourceMu.Lock()
		o.held = true
	}
}

func (o *forward) release(b *Braid) {
	if o.held {
		o.held, o.src = false, nil
		b.sourceMu.Unlock()
	}
}

// sameWay: the headers differ in nothing that membership and policy look at.
func (h *pathHeader) sameWay(o *pathHeader) bool {
	return h.source == o.source && h.dest == o.dest && h.fence == o.fence && h.hop == o.hop && h.relayN == o.relayN && h.relays == o.relays
}

// relay forwards the frame at run[at:end] to its next hop: the same bytes with the hop index moved on and perhaps the
// congestion bit set, never more, only between members that the frame's fence allows. It is written by the next flush.
func (b *Braid) relay(onward *forward, run []byte, at, end int, h *pathHeader, nowMS uint64) DropReason {
	frame := run[at:end:end]
	if h.relays[h.hop] != b.cfg.Self {
		return DropNotForUs
	}
	known := onward.known && h.sameWay(&onward.way)
	if !known {
		onward.release(b)
		if !b.member(h.source) {
			return DropNotMember
		}
	}
	sentMS, low, why := b.admit(onward, frame, h, nowMS)
	if !known {
		onward.release(b)
	}
	if why != DropNone && why != DropBudget {
		return why
	}
	if !known {
		b.hear(onward, nowMS)
		onward.known, onward.way = false, *h
	}
	if h.counts() {
		onward.heard++
		onward.sentMS = sentMS
	}
	if why == DropNone && !known {
		onward.wayNext, onward.wayTo, why = b.nextHop(h)
		onward.known = why == DropNone
	}
	if why != DropNone {
		return why
	}
	advanceHop(frame)
	if low || b.pressed(nowMS) {
		frame[1] |= flagCongestion
	}
	if frame[1]&flagCongestion != 0 {
		b.counters.congested.Add(1)
	} else if b.cfg.Onward != nil && !known {
		b.cfg.Onward(Onward{Source: h.source, Before: h.before(), Next: onward.wayNext, Fence: h.fence, To: onward.wayTo})
	}
	b.gather(onward, run, at, end, h, nowMS)
	return DropNone
}

// admit checks MAC and age of a member's frame, and takes it from the source's budget; low: little of that is left. Nothing may be
// counted against a source before.
func (b *Braid) admit(onward *forward, frame []byte, h *pathHeader, nowMS uint64) (sentMS uint64, low bool, why DropReason) {
	onward.hold(b)
	if onward.src == nil {
		onward.src = b.sources.get(h.source, epochOf(nowMS))
	}
	sentMS, why = onward.src.check(frame, h, int(h.hop), nowMS, &b.sources.input)
	if why != DropNone {
		return 0, false, why
	}
	budget := &onward.src.budget
	if !budget.take(len(frame), nowMS) {
		return sentMS, true, DropBudget
	}
	return sentMS, budget.tokens < budget.burst/4, DropNone
}

// nextHop is where a frame goes on to, if it may.
func (b *Braid) nextHop(h *pathHeader) (next NodeID, to netip.AddrPort, why DropReason) {
	next = h.dest
	if h.hop+1 < h.relayN {
		next = h.relays[h.hop+1]
	}
	if h.fence == 0 || !b.cfg.Allow(h.fence, b.cfg.Self) {
		return next, to, DropFence
	}
	if !b.cfg.Allow(h.fence, next) {
		return next, to, DropNextFence
	}
	to, member := b.cfg.Addr(next)
	if !member || next == b.cfg.Self {
		return next, to, DropNotMember
	}
	return next, to, DropNone
}

// gather adds a frame to the stretch, which is written before if the frame does not continue it.
func (b *Braid) gather(onward *forward, run []byte, at, end int, h *pathHeader, nowMS uint64) {
	if onward.frames > 0 && (onward.to != onward.wayTo || onward.end != at || end-at > onward.segment) {
		b.flush(onward, run, nowMS)
	}
	if onward.frames == 0 {
		onward.to, onward.next, onward.start, onward.segment, onward.counted = onward.wayTo, onward.wayNext, at, end-at, 0
	}
	onward.end = end
	onward.frames++
	if h.counts() {
		onward.counted++
		onward.last = markOf(h.source, onward.sentMS, nowMS)
	}
}

// hear counts the traffic that came by the way that ends here.
func (b *Braid) hear(onward *forward, nowMS uint64) {
	if onward.heard > 0 {
		b.traffic.arrived(&onward.way, onward.heard, onward.sentMS, nowMS)
		onward.heard = 0
	}
}

// flush writes what has been gathered. A socket without room costs the frames, never time.
func (b *Braid) flush(onward *forward, run []byte, nowMS uint64) {
	if onward.frames == 0 {
		return
	}
	onward.release(b)
	stretch := run[onward.start:onward.end]
	if err := b.cfg.Wire.WriteRun(stretch, onward.segment, onward.to); err != nil {
		b.counters.dropN(DropRelayWrite, onward.frames)
		b.pressure.refusedMS.Store(nowMS)
	} else {
		b.traffic.forwarded(onward.next, onward.counted, onward.last)
		b.counters.relayed.Add(onward.frames)
		b.counters.relayedBytes.Add(uint64(len(stretch)))
		b.counters.relayRuns.Add(1)
	}
	onward.frames = 0
}

// pressure is what a relay knows of its own socket.
type pressure struct {
	refusedMS atomic.Uint64 // when it last refused a run
	lookedMS  atomic.Uint64 // when it was last asked how much waits
	waits     atomic.Bool   // too much did
}

// pressed: this node's own way out is backed up, so senders should send less through it. The socket is asked at most once
// a millisecond.
func (b *Braid) pressed(nowMS uint64) bool {
	p := &b.pressure
	if refused := p.refusedMS.Load(); refused != 0 && nowMS < refused+pressedMS {
		return true
	}
	if b.cfg.Queued == nil {
		return false
	}
	if looked := p.lookedMS.Load(); looked != nowMS && p.lookedMS.CompareAndSwap(looked, nowMS) {
		p.waits.Store(b.cfg.Queued() > pressedBytes)
	}
	return p.waits.Load()
}
