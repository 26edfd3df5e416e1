package braid

import (
	"sync/atomic"
	"time"
)

// counters are a Braid's own; all atomic.
type counters struct {
	relayed, relayedBytes, relayRuns, congested, replaced, blackHoles, quicReceived, mediaReceived, probes, keyFailures atomic.Uint64
	drops                                                                                                               [dropReasons]atomic.Uint64
}

func (c *counters) drop(why DropReason)            { c.drops[why].Add(1) }
func (c *counters) dropN(why DropReason, n uint64) { c.drops[why].Add(n) }

// Stats is a snapshot of what a Braid did since it was made.
type Stats struct {
	// Frames counts path frames by what became of them: "relayed", "quic", "media", "copies" (of media that had
	// already arrived), "probe", and a DropReason each.
	Frames       map[string]uint64
	RelayedBytes uint64
	RelayRuns    uint64 // writes in which the relayed frames left
	Congested    uint64 // of those relayed, frames that left with the congestion bit
	BlackHoles   uint64 // paths found to drop large packets silently
	Replaced     uint64 // paths that died and for which others were asked
	KeyFailures  uint64 // relay keys that could not be fetched
	Sessions     []SessionStats
}

// PathStats is one path, now or formerly in use. Counts are of path frames, unless they say media; they go on over the
// sessions of a pair.
type PathStats struct {
	ID         uint8 // rolling
	Relays     []NodeID
	LowestCost bool // the sender prefers it
	Active     bool // in the present path set
	Alive      bool // delivering
	Sent       uint64
	Received   uint64
	Lost       uint64 // sent, and not arrived when later ones had
	MaxBytes   int    // largest UDP payload that the path carries, as far as it was found to be less than MaxDatagram; 0 = it was not
	Congested  uint64 // of those received, the ones that a relay or an IP router marked as having waited
	Corrupt    uint64 // of those lost, media frames that arrived with a changed payload, as far as they were looked at
	First      uint64 // media frames of which this path brought the first copy
	Rescued    uint64 // of those, the ones that the lowest-cost path lost; known a second later
	// Bursts counts the runs of media frames, in a row, that this path lost of those sent on it; LongestBurst is the longest,
	// in frames. Known a second later; 0 towards peers of protocol 1, which do not say.
	Bursts, LongestBurst uint64
	// Delay is one-way and smoothed, as the two nodes' clocks have it: it is off by what they differ.
	Delay     time.Duration
	OverFloor time.Duration // delay above the lowest of the last half minute; no clocks involved
	Jitter    time.Duration // mean difference between neighbouring frames' delays
	// Of paths from here: Budget in bytes/s if the path has a cap of its own, 0 if not; Queue is the delay above the floor in
	// the peer's newest feedback, Loss the share of frames that redundancy reckons with.
	Budget float64
	Queue  time.Duration
	Loss   float64
}

// PairStats is what two paths of a session did with the media frames that went out on both, since they are a pair. Were their
// losses independent, Both would be near LostA*LostB/Sent.
type PairStats struct {
	A, B                     uint8 // path ids
	Sent, LostA, LostB, Both uint64
}

// SessionStats is a snapshot of one session.
type SessionStats struct {
	Peer  NodeID
	Fence FenceID
	Since time.Time

	Out []PathStats // from here to the peer: Sent is our count, the rest is the peer's newest report
	In  []PathStats // from the peer to here: our counts, Sent is the peer's newest report

	// Pairs of those paths; LostA and so on as the receiver counts, a second later.
	OutPairs, InPairs []PairStats

	// Copies is how many copies of a frame go out on average, over the last half second in which media flowed. Withheld
	// counts copies that redundancy asked for and budgets refused, in frames.
	Copies   float64
	Withheld uint64
	// Limit is what may be sent at all at present, in bytes/s of packets, 0 if nothing limits it; LimitedBy says what does:
	// "none", "path", "link" (a first hop), "peer" (all paths to it) or "node" (all that this node sends).
	Limit     float64
	LimitedBy string
	Demand    float64 // bytes/s of packets that Send is given, averaged over half a second

	PacketsSent, FramesSent, RepairsSent uint64
	PacketsReceived                      uint64

	// Of the media that arrives here, in frames:
	Duplicates  uint64 // copies that carried media and were dropped
	Undelivered uint64 // no path and no repair brought them within a second
	Repaired    uint64 // arrived after they had been asked for
	Asked       uint64 // requests, of frames: up to two of each

	// Of the media that goes to the peer, from its newest report: packets and frames.
	PeerReceived, PeerDuplicates, PeerUndelivered, PeerRepaired uint64

	Drops map[string]uint64 // packets that Send and the sender dropped, by reason
	RTT   time.Duration
}

// Stats returns a snapshot.
func (b *Braid) Stats() Stats {
	c := &b.counters
	st := Stats{
		Frames: map[string]uint64{
			"relayed": c.relayed.Load(), "quic": c.quicReceived.Load(), "media": c.mediaReceived.Load(), "probe": c.probes.Load(),
		},
		RelayedBytes: c.relayedBytes.Load(), RelayRuns: c.relayRuns.Load(), Congested: c.congested.Load(), Replaced: c.replaced.Load(), BlackHoles: c.blackHoles.Load(), KeyFailures: c.keyFailures.Load(),
	}
	addDrops(st.Frames, &c.drops)
	for _, s := range b.Sessions() {
		one := s.Stats()
		st.Frames["copies"] += one.Duplicates
		st.Sessions = append(st.Sessions, one)
	}
	return st
}

func addDrops(to map[string]uint64, drops *[dropReasons]atomic.Uint64) {
	for i := range drops {
		if n := drops[i].Load(); n > 0 {
			to[DropReason(i).String()] += n
		}
	}
}

// Sessions are the sessions at present, one per peer and fence, in no order.
func (b *Braid) Sessions() []*Session {
	var out []*Session
	for _, f := range b.allFlows() {
		if s := f.session(); s != nil {
			out = append(out, s)
		}
	}
	return out
}

// Stats returns a snapshot; also after the session has ended.
func (s *Session) Stats() SessionStats {
	now := time.Now()
	st := SessionStats{
		Peer: s.Peer(), Fence: s.Fence(), Since: s.began,
		PacketsSent: s.packetsSent.Load(), FramesSent: s.framesSent.Load(), RepairsSent: s.repairsSent.Load(),
		PacketsReceived: s.packetsReceived.Load(), Asked: s.asksSent.Load(),
		Drops: map[string]uint64{}, RTT: s.conn.ConnectionStats().SmoothedRTT,
	}
	addDrops(st.Drops, &s.drops)
	st.Out = s.f.outStats(now)
	st.Limit, st.LimitedBy = s.Estimate()
	s.f.sendMu.Lock()
	st.Copies, st.Withheld, st.Demand = s.f.tally.mean, s.f.tally.withheld, s.f.tally.demand/s.f.tally.headers()
	s.f.sendMu.Unlock()
	s.f.rxMu.Lock()
	st.Duplicates, st.Undelivered, st.Repaired = s.rx.settle.duplicates, s.rx.settle.undelivered, s.rx.settle.repaired
	st.In = s.f.in.stats(s.b.unixMS(now))
	for i := range st.In {
		st.In[i].Bursts, st.In[i].LongestBurst = s.rx.settle.joint.burstsOf(st.In[i].ID)
	}
	st.InPairs = pairStats(s.rx.settle.joint.report(nil))
	s.f.rxMu.Unlock()
	if r := s.remote.Load(); r != nil {
		st.PeerReceived, st.PeerDuplicates = r.received, r.duplicates
		st.PeerUndelivered, st.PeerRepaired = r.undelivered, r.repaired
		st.OutPairs = pairStats(r.pairs)
	}
	return st
}

func pairStats(pairs []pairReport) (out []PairStats) {
	for _, p := range pairs {
		out = append(out, PairStats{A: p.a, B: p.b, Sent: p.sent, LostA: p.lostA, LostB: p.lostB, Both: p.both})
	}
	return out
}

func (f *flow) outStats(now time.Time) []PathStats {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	f.b.budgets.mu.Lock()
	defer f.b.budgets.mu.Unlock()
	silent := !f.lastReport.IsZero() && now.Sub(f.lastReport) > silentAfter
	var out []PathStats
	add := func(p *outPath, active, lowest bool) {
		out = append(out, PathStats{
			ID: p.id, Relays: append([]NodeID{}, p.relays[:p.relayN]...), LowestCost: lowest,
			Active: active, Alive: active && p.ready && !p.dead && !silent,
			Sent: p.sent, Received: p.seen.received, Lost: p.seen.lost, First: p.seen.first, Rescued: p.seen.rescued, Corrupt: p.seen.corrupt,
			Congested: p.seen.congested, MaxBytes: p.size.limit, Bursts: p.seen.bursts, LongestBurst: p.seen.burst,
			Delay: micros(p.seen.delayUS), OverFloor: micros(p.seen.overFloorUS), Jitter: micros(p.seen.jitterUS),
			Budget: p.pace.Capped(), Queue: p.pace.QueueDelay(), Loss: p.loss,
		})
	}
	for _, p := range f.retired {
		add(p, false, false)
	}
	for i, p := range f.paths {
		add(p, true, i == 0)
	}
	return out
}

func micros(us int32) time.Duration { return time.Duration(us) * time.Microsecond }
