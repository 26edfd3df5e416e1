package braid

import (
	"sync"
	"sync/atomic"
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

type linkTraffic struct{ sent, arrived atomic.Uint64 }

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

func (t *traffic) arrived(from NodeID, frames uint64) {
	if l := t.get(from); l != nil {
		l.arrived.Add(frames)
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

// Traffic returns how many path frames this node has written straight to a member, and how many came straight from it with a
// good MAC: as source, relay or egress, without probes. Both begin at 0 with the first call for that member, so only
// differences mean something. With more than 4,096 members the last ones stay at 0.
func (b *Braid) Traffic(member NodeID) (sent, arrived uint64) {
	l := b.traffic.watch(member)
	if l == nil {
		return 0, 0
	}
	return l.sent.Load(), l.arrived.Load()
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
