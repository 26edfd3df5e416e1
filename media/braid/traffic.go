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
}

func (t *traffic) get(member NodeID) *linkTraffic {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.of[member]
}

func (t *traffic) sent(to NodeID, frames uint64) {
	if l := t.get(to); l != nil {
		l.sent.Add(frames)
	}
}

// arrived notes frames from a member; straight: that one made them, the newest of them transit milliseconds ago by the two clocks.
func (t *traffic) arrived(from NodeID, frames uint64, straight bool, transit int64) {
	l := t.get(from)
	if l == nil {
		return
	}
	l.arrived.Add(frames)
	if straight {
		l.transit.Store(transit)
		l.timed.Add(frames)
	}
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
