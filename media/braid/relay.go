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

// forward is a stretch of a run whose frames all go to one next hop and lie one behind the other, so that they leave as they
// came: in one call, without a copy.
type forward struct {
	to         netip.AddrPort
	next       NodeID
	start, end int // in the run
	frames     uint64
	counted    uint64 // of those, traffic of the link
	segment    int    // bytes; the last may be shorter
}

// relay forwards the frame at run[at:end] to its next hop: the same bytes with the hop index moved on and perhaps the
// congestion bit set, never more, only between members that the frame's fence allows. It is written by the next flush.
func (b *Braid) relay(onward *forward, run []byte, at, end int, h *pathHeader, nowMS uint64) DropReason {
	frame := run[at:end:end]
	if h.relays[h.hop] != b.cfg.Self {
		return DropNotForUs
	}
	_, low, why := b.authenticate(frame, h, nowMS, len(frame))
	if why != DropNone {
		return why
	}
	next := h.dest
	if h.hop+1 < h.relayN {
		next = h.relays[h.hop+1]
	}
	if h.fence == 0 || !b.cfg.Allow(h.fence, b.cfg.Self) {
		return DropFence
	}
	if !b.cfg.Allow(h.fence, next) {
		return DropNextFence
	}
	to, member := b.cfg.Addr(next)
	if !member || next == b.cfg.Self {
		return DropNotMember
	}
	advanceHop(frame)
	if low || b.pressed(nowMS) {
		frame[1] |= flagCongestion
	}
	if frame[1]&flagCongestion != 0 {
		b.counters.congested.Add(1)
	} else if b.cfg.Onward != nil {
		b.cfg.Onward(Onward{Source: h.source, Before: h.before(), Next: next, Fence: h.fence, To: to})
	}
	if onward.frames > 0 && (onward.to != to || onward.end != at || len(frame) > onward.segment) {
		b.flush(onward, run, nowMS)
	}
	if onward.frames == 0 {
		*onward = forward{to: to, next: next, start: at, segment: len(frame)}
	}
	onward.end = end
	onward.frames++
	if h.counts() {
		onward.counted++
	}
	return DropNone
}

// flush writes what has been gathered. A socket without room costs the frames, never time.
func (b *Braid) flush(onward *forward, run []byte, nowMS uint64) {
	if onward.frames == 0 {
		return
	}
	stretch := run[onward.start:onward.end]
	if err := b.cfg.Wire.WriteRun(stretch, onward.segment, onward.to); err != nil {
		b.counters.dropN(DropRelayWrite, onward.frames)
		b.pressure.refusedMS.Store(nowMS)
	} else {
		b.traffic.sent(onward.next, onward.counted)
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
