package braid

import (
	"net/netip"
	"time"
)

// Onward is one relay decision of this node: path frames of this source and fence that come from Before go to Next, at To. It
// holds as long as membership, policy and this node's own queue are what they were, so whoever repeats it has to ask again soon
// (the packet filter: within a second), must check MAC, freshness and budget of every frame, and leaves frames with the
// congestion bit to this node.
type Onward struct {
	Source, Before, Next NodeID
	Fence                FenceID
	To                   netip.AddrPort
}

// UnixMS is the time that frames are held against now, in Unix milliseconds: the wall clock's, made steady.
func (b *Braid) UnixMS() uint64 { return b.unixMS(time.Now()) }

// RelayKeys are the keys by which frames of a source are checked at this node, for the epochs now-1, now and now+1. They are as
// secret as the node's own: whoever has them can make frames that this node relays.
func (b *Braid) RelayKeys(source NodeID) (now uint32, keys [3]Key) {
	now = epochOf(b.UnixMS())
	for i := range keys {
		keys[i] = b.KeyFor(source, now+uint32(i)-1)
	}
	return now, keys
}

// Forwarded counts frames that were relayed on this node's word without passing through it, as if they had: traffic of kinds 1
// and 2, other frames, and the bytes of both, which the source's budget is charged with. o.To is not read.
func (b *Braid) Forwarded(o Onward, counted, other, bytes uint64) {
	b.counters.relayed.Add(counted + other)
	b.counters.relayedBytes.Add(bytes)
	if l := b.traffic.get(o.Before); l != nil {
		l.arrived.Add(counted)
	}
	b.traffic.sent(o.Next, counted)
	b.sourceMu.Lock()
	defer b.sourceMu.Unlock()
	s := b.sources.get(o.Source, epochOf(b.UnixMS()))
	s.budget.tokens = max(-s.budget.burst, s.budget.tokens-float64(bytes))
}
