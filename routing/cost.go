package routing

import "time"

// The cost of a link is the delay that a packet may expect on it, one-way. Costs of a path add up:
//
//	latency
//	+ jitterWeight x jitter               the receiver waits about that long for late packets
//	+ loss/(1-loss) x recovery delay      a lost packet is asked for again, and again
//	+ loadWeight x load^2/(1-load)        a queue: nothing when idle, 1 ms at half, 16 ms at 0.9
//	+ what the operator's bounds add      see Bound
//
// A relay adds the same for its own load, and its price. No link and no path costs less than minCost, however preferred.
//
// The recovery delay is recoveryBase (noticing the gap, both ends' timers) + 2 x latency (the request and the second copy).
const (
	jitterWeight = 2
	recoveryBase = 50 * time.Millisecond
	loadWeight   = 2 * time.Millisecond
	maxLoad      = 0.98 // 96 ms: a full link is a last resort, not a dead one

	// maxLatency is what a link's latency or jitter can be at most; more is an error of measurement.
	maxLatency = time.Hour
	// minCost keeps a loop of free links from being as cheap as none.
	minCost = time.Nanosecond
)

// sane tells whether the numbers can be a measurement. Comparisons are written so that NaN fails them.
func (l Link) sane() bool {
	return l.Latency >= 0 && l.Latency <= maxLatency && l.Jitter >= 0 && l.Jitter <= maxLatency &&
		l.Loss >= 0 && l.Loss <= 1 && l.Load >= 0 && l.Load < 1e9 && l.Price.Abs() <= maxLatency
}

func (l Link) usable() bool { return !l.Down && !l.Forbidden && l.Loss < 1 }

// queueing is what a load costs. Written so that a load that is no number counts as full.
func queueing(load float64) time.Duration {
	if !(load <= maxLoad) {
		load = maxLoad
	}
	load = max(load, 0)
	return time.Duration(float64(loadWeight) * load * load / (1 - load))
}

// relayCost is what a path pays for passing through the node.
func (n *Node) relayCost() int64 {
	return int64(queueing(n.Load) + min(max(n.Price, -maxLatency), maxLatency))
}

// cost is in nanoseconds, whole, so that sums are exact in any order.
func (l Link) cost() int64 {
	recovery := float64(recoveryBase + 2*l.Latency)
	odds := min(l.Loss/max(1-l.Loss, 1e-9), 1000) // one packet in a thousand arrives: worse makes no difference
	cost := l.Latency + jitterWeight*l.Jitter +
		time.Duration(odds*recovery) +
		queueing(l.Load) + l.Price
	return int64(max(cost, minCost))
}

// CostMS is what the link adds to a path's cost, in milliseconds of expected one-way delay. A link that is down has a
// cost too, but no path uses it.
func (l Link) CostMS() float64 {
	if l.Loss >= 1 {
		l.Loss = 0.999
	}
	return milliseconds(l.cost())
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }
