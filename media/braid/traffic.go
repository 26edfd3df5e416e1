package braid

import (
	"sync"
	"sync/atomic"
	"time"
)

// maxTraffic bounds the members whose direct links are counted; those asked for later are not.
const maxTraffic = 4096

// traffic counts the frames that this node wrote straight to a member, and those that came straight from it, whoever their
// source and destination are: what both ends count alike of one link. Link probes and size probes are left out: the former
// count themselves, the latter are meant to be lost. The zero value is ready; safe for concurrent use.
type traffic struct {
	mu sync.RWMutex
	of map[NodeID]*linkTraffic // guarded by mu; entries are never taken out
}

type linkTraffic struct {
	sent, arrived atomic.Uint64
	timed         atomic.Uint64 // frames whose source was the member itself, which carry its time
	transit       atomic.Int64  // of the newest of them, ms
	brought       others        // from the member
	passed        others        // on to the member
}

// others are frames of third nodes on a link.
type others struct {
	count  atomic.Uint64
	newest atomic.Uint64 // a mark
}

// mark is what is kept of one frame, in one word so that it is never half of one frame and half of another: source, low 16 bits of
// the source's time and transit, both in ms.
type mark uint64

// markOf makes one. A transit is at most freshnessMS, for older frames are refused: 16 bits hold it.
func markOf(source NodeID, sentMS, nowMS uint64) mark {
	return mark(uint64(source)<<32 | uint64(uint16(sentMS))<<16 | uint64(uint16(int16(nowMS-sentMS))))
}

func (o *others) note(frames uint64, newest mark) {
	o.newest.Store(uint64(newest))
	o.count.Add(frames)
}

func (o *others) relayed() Relayed {
	count := o.count.Load() // first: of what is counted the mark is then there
	return mark(o.newest.Load()).of(count)
}

// of reads a mark: the newest of so many frames.
func (m mark) of(count uint64) Relayed {
	return Relayed{Count: count, Source: uint32(m >> 32), SentMS: uint16(m >> 16), Transit: time.Duration(int16(m)) * time.Millisecond}
}

func (t *traffic) get(member NodeID) *linkTraffic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.of[member]
}

// forwarded notes frames of others sent on to a member; newest is of the last, as it came here.
func (t *traffic) forwarded(to NodeID, frames uint64, newest mark) {
	if l := t.get(to); l != nil && frames > 0 {
		l.sent.Add(frames)
		l.passed.note(frames, newest)
	}
}

func (t *traffic) sent(to NodeID, frames uint64) {
	if l := t.get(to); l != nil {
		l.sent.Add(frames)
	}
}

// arrived notes frames of one way from the member before; the newest left its source at sentMS, by the source's clock.
func (t *traffic) arrived(h *pathHeader, frames, sentMS, nowMS uint64) {
	l := t.get(h.before())
	if l == nil {
		return
	}
	l.arrived.Add(frames)
	if h.hop == 0 { // that member made them
		l.transit.Store(int64(nowMS - sentMS))
		l.timed.Add(frames)
		return
	}
	l.brought.note(frames, markOf(h.source, sentMS, nowMS))
}

// watch returns the entry of a member, a new one if there is room.
func (t *traffic) watch(member NodeID) *linkTraffic {
	if l := t.get(member); l != nil {
		return l
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = make(map[NodeID]*linkTraffic)
	}
	l := t.of[member]
	if l == nil && len(t.of) < maxTraffic {
		l = new(linkTraffic)
		t.of[member] = l
	}
	return l
}

// LinkTraffic is what this node has counted of the path frames between it and a member, without probes.
type LinkTraffic struct {
	// Sent straight to it, and Arrived straight from it with a good MAC: as source, relay or egress.
	Sent, Arrived uint64
	// Timed is how many of those that arrived were the member's own, which carry its time. What the packet filter forwards is not
	// among them.
	Timed uint64
	// Transit is how long the newest of those took, by the member's clock and then by ours, in whole milliseconds: what the clocks
	// differ by is in it.
	Transit time.Duration
	// Brought are frames of others that arrived from it, Passed those that this node sent on to it, without the packet filter's.
	Brought, Passed Relayed
}

// Relayed is what was counted of the frames that others made, in one direction of a link.
type Relayed struct {
	Count  uint64
	Source uint32 // who made the newest,
	SentMS uint16 // when, by its clock: the low 16 bits of its Unix milliseconds,
	// and how long it took from there to this node, by both clocks, in whole milliseconds.
	Transit time.Duration
}

// Traffic returns what was counted since the first call for that member, so only differences mean something. With more than
// 4,096 members the last ones stay at 0.
func (b *Braid) Traffic(member NodeID) LinkTraffic {
	l := b.traffic.watch(member)
	if l == nil {
		return LinkTraffic{}
	}
	return LinkTraffic{
		Sent: l.sent.Load(), Arrived: l.arrived.Load(), Timed: l.timed.Load(), Transit: time.Duration(l.transit.Load()) * time.Millisecond,
		Brought: l.brought.relayed(), Passed: l.passed.relayed(),
	}
}

// RelayedBytes is how many bytes of path frames this node has forwarded for others.
func (b *Braid) RelayedBytes() uint64 { return b.counters.relayedBytes.Load() }

// counts tells whether frames of this kind count as traffic of a link.
func (h *pathHeader) counts() bool { return h.kind == kindQUIC || h.kind == kindMedia }

// before is the node that sent this frame here, as the source says under the MAC of this hop.
func (h *pathHeader) before() NodeID {
	if h.hop == 0 {
		return h.source
	}
	return h.relays[h.hop-1]
}
