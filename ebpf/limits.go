package ebpf

import "time"

// Rate is how many packets a second pass, and how many at once after a pause. The zero value limits nothing.
type Rate struct{ PerSecond, Burst uint32 }

// Limits are the rates of the live rules. DefaultLimits has the defaults and says what they protect.
type Limits struct {
	Peer, PeerGossip       Rate // per member address: path frames and QUIC; gossip
	Flow, FlowControl      Rate // per admitted client address and port: RTP and RTCP; STUN and DTLS
	SourceUfrag            Rate // per source: STUN that names a ufrag of this node
	SourceSTUN, SourceMesh Rate // per source that is not known: other STUN; QUIC and gossip
	BudgetUfrag            Rate // the whole node: STUN with a ufrag from sources not yet admitted
	BudgetSTUN             Rate // the whole node: other STUN of unknown sources
	BudgetQUIC             Rate // the whole node: QUIC of addresses that are not members'
	BudgetGossip           Rate // the whole node: gossip of addresses that are not members'
}

// DefaultLimits returns what a Filter uses unless its Config says otherwise: far above what any legitimate sender
// needs, so that only floods meet them. A source stands for everybody behind one address translator.
func DefaultLimits() Limits {
	return Limits{
		Peer: Rate{1_000_000, 250_000}, PeerGossip: Rate{5_000, 5_000},
		Flow: Rate{20_000, 10_000}, FlowControl: Rate{2_000, 2_000},
		SourceUfrag: Rate{1_000, 2_000}, SourceSTUN: Rate{200, 400}, SourceMesh: Rate{500, 1_000},
		BudgetUfrag: Rate{20_000, 10_000}, BudgetSTUN: Rate{2_000, 1_000},
		BudgetQUIC: Rate{5_000, 2_500}, BudgetGossip: Rate{2_000, 1_000},
	}
}

// The places of the limits, as in bpf/verdict.h.
const (
	limitPeer = iota
	limitPeerGossip
	limitFlow
	limitFlowControl
	limitSourceUfrag
	limitSourceSTUN
	limitSourceMesh
	limitBudgetUfrag
	limitBudgetSTUN
	limitBudgetQUIC
	limitBudgetGossip
	limits // how many
)

var limitNames = [limits]string{
	"peer", "peer_gossip", "flow", "flow_control", "source_ufrag", "source_stun", "source_mesh",
	"budget_ufrag", "budget_stun", "budget_quic", "budget_gossip",
}

// limit is a Rate as buckets use it, in nanoseconds.
type limit struct{ interval, burst uint64 }

func (r Rate) limit() limit {
	if r.PerSecond == 0 {
		return limit{}
	}
	interval := uint64(time.Second) / uint64(r.PerSecond)
	return limit{interval, interval * uint64(max(r.Burst, 1)-1)}
}

func (l Limits) table() [limits]limit {
	return [limits]limit{
		limitPeer: l.Peer.limit(), limitPeerGossip: l.PeerGossip.limit(),
		limitFlow: l.Flow.limit(), limitFlowControl: l.FlowControl.limit(),
		limitSourceUfrag: l.SourceUfrag.limit(), limitSourceSTUN: l.SourceSTUN.limit(), limitSourceMesh: l.SourceMesh.limit(),
		limitBudgetUfrag: l.BudgetUfrag.limit(), limitBudgetSTUN: l.BudgetSTUN.limit(),
		limitBudgetQUIC: l.BudgetQUIC.limit(), limitBudgetGossip: l.BudgetGossip.limit(),
	}
}

// bucket is a rate as virtual scheduling (GCRA): one number, the time at which the bucket would be empty if nothing
// came. A packet passes unless that time is more than the burst ahead, and moves it by an interval.
type bucket uint64

// spare says whether the bucket lets a packet through at now, and what it is afterwards.
func (b bucket) spare(l limit, now uint64) (bucket, bool) {
	at := max(uint64(b), now)
	return bucket(at + l.interval), at-now <= l.burst
}

func (b *bucket) take(l limit, now uint64) bool {
	next, ok := b.spare(l, now)
	if ok {
		*b = next
	}
	return ok
}
