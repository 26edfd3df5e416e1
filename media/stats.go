package media

import (
	"fmt"
	"sync/atomic"

	"github.com/ternmesh/tern/media/braid"
)

// counters are the hub's monotonic counts. They are written on the packet path: atomics, no lock.
type counters struct {
	packetsIn, packetsOut           atomic.Uint64
	badPackets, afterEnd, unknownID atomic.Uint64
	dropped                         [256]atomic.Uint64 // by DropReason

	keyframes, resubscribed, attemptsFailed      atomic.Uint64
	refused, badMessages, messagesLost           atomic.Uint64
	lookups, lookupsShort                        atomic.Uint64
	registerFailed, directoryRefused, badEntries atomic.Uint64
}

// drop counts a packet that a session did not take.
func (c *counters) drop(why braid.DropReason) { c.dropped[uint8(why)].Add(1) }

// Stats is a snapshot of a hub. Counts are since the start unless they say otherwise.
type Stats struct {
	Publications  int // streams that enter here, now
	Subscriptions int // local viewers, now
	Upstreams     int // streams subscribed at other nodes, now
	Serving       int // subscriptions of other nodes here, now
	Sessions      int // known sessions, now

	PacketsIn  uint64            // from publishers and peers
	PacketsOut uint64            // to local viewers and peers
	Drops      map[string]uint64 // packets not handed on, by reason

	Keyframes      uint64 // keyframe requests to publishers and sources
	Resubscribed   uint64 // sources found again after a loss
	AttemptsFailed uint64 // holders that did not serve
	Refused        uint64 // subscriptions of peers refused
	BadMessages    uint64 // malformed messages of peers
	MessagesLost   uint64 // messages that a session did not take

	Lookups          uint64
	LookupsShort     uint64 // without answers from most directory nodes
	DirectoryEntries int    // registrations held for others and this node, now
	DirectoryRefused uint64 // writes and requests of peers refused
	RegisterFailed   uint64 // requests that a directory node did not take
	BadEntries       uint64 // malformed directory answers and entries
}

// Stats returns a snapshot.
func (h *Hub) Stats() Stats {
	c := &h.count
	s := Stats{
		PacketsIn: c.packetsIn.Load(), PacketsOut: c.packetsOut.Load(), Drops: map[string]uint64{},
		Keyframes: c.keyframes.Load(), Resubscribed: c.resubscribed.Load(), AttemptsFailed: c.attemptsFailed.Load(),
		Refused: c.refused.Load(), BadMessages: c.badMessages.Load(), MessagesLost: c.messagesLost.Load(),
		Lookups: c.lookups.Load(), LookupsShort: c.lookupsShort.Load(), DirectoryEntries: h.dir.entries(),
		DirectoryRefused: c.directoryRefused.Load(), RegisterFailed: c.registerFailed.Load(),
		BadEntries: c.badEntries.Load(),
	}
	for name, n := range map[string]uint64{
		"bad_packet": c.badPackets.Load(), "after_end": c.afterEnd.Load(), "unknown_id": c.unknownID.Load(),
	} {
		if n > 0 {
			s.Drops[name] = n
		}
	}
	for i := range c.dropped {
		if n := c.dropped[i].Load(); n > 0 {
			s.Drops["session_"+fmt.Sprint(braid.DropReason(i))] += n
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s.Publications, s.Subscriptions, s.Serving = len(h.pubs), h.viewers, h.serving
	s.Sessions = len(*h.links.Load())
	for _, w := range h.watches {
		if w.current != nil && w.current.link != nil {
			s.Upstreams++
		}
	}
	return s
}
