package mesh

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats is a snapshot of counters since New.
type Stats struct {
	Members                                  int // live, this node included
	PacketsIn, PacketsOut, BytesIn, BytesOut uint64
	PacketsDropped                           uint64 // received, but memberlist's queue was full
	PacketsStrange                           uint64 // received from addresses of no member and not looked at, because too many came
	PacketsExcess                            uint64 // the same from one member's address
	StreamsIn, StreamsOut, StreamsDropped    uint64
	RecordsPublished, RecordsAccepted        uint64
	RecordsRefused                           map[string]uint64 // cards and rows by reason: malformed, absurd, signer, forged, revoked, stale, duplicate, unknown, gap, address; and what memberlist was told of nodes: address, failure
	RecordsDropped                           uint64            // not passed on at once, because too many waited; they follow later
	Conflicts                                uint64            // claims to a name or id that another node has, or to a version of gossip that none has
	Overfull                                 uint64            // claims that a node is there, refused because too many have shown no card
	ProbesOut, ProbesIn, ProbesFailed        uint64            // failed: Config.Probe said no
	ProbesCapped                             uint64            // requests and replies that the cap on probe traffic kept back
	ProbesBad, ProbesUnknown                 uint64            // received: malformed; of no neighbour
	Keys                                     int               // gossip keys in the ring
}

type counters struct {
	packetsIn, packetsOut, bytesIn, bytesOut, packetsDropped, packetsStrange  atomic.Uint64
	packetsExcess                                                             atomic.Uint64
	streamsIn, streamsOut, streamsDropped                                     atomic.Uint64
	published, accepted, conflicts, overfull                                  atomic.Uint64
	probesOut, probesIn, probesFailed, probesCapped, probesBad, probesUnknown atomic.Uint64

	mu      sync.Mutex
	refused map[string]uint64 // guarded by mu; keys are the refuse constants
}

func (c *counters) refuse(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refused == nil {
		c.refused = make(map[string]uint64)
	}
	c.refused[why]++
}

// Stats returns the counters.
func (m *Mesh) Stats() Stats {
	c := &m.stats
	s := Stats{
		PacketsIn: c.packetsIn.Load(), PacketsOut: c.packetsOut.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		PacketsDropped: c.packetsDropped.Load(), PacketsStrange: c.packetsStrange.Load(), PacketsExcess: c.packetsExcess.Load(),
		StreamsIn: c.streamsIn.Load(), StreamsOut: c.streamsOut.Load(), StreamsDropped: c.streamsDropped.Load(),
		RecordsPublished: c.published.Load(), RecordsAccepted: c.accepted.Load(), Conflicts: c.conflicts.Load(), Overfull: c.overfull.Load(),
		ProbesOut: c.probesOut.Load(), ProbesIn: c.probesIn.Load(), ProbesFailed: c.probesFailed.Load(),
		ProbesBad: c.probesBad.Load(), ProbesUnknown: c.probesUnknown.Load(),
		ProbesCapped: c.probesCapped.Load(),
		Keys:         len(m.keys.list()),
	}
	for _, member := range m.Members() {
		if member.Alive {
			s.Members++
		}
	}
	m.mu.Lock()
	s.RecordsDropped = m.core.Dropped()
	m.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.RecordsRefused = maps.Clone(c.refused)
	return s
}
