package mesh

import (
	"cmp"
	"slices"
	"time"
)

const (
	fastMost    = 16 // neighbours probed fast: those in use, then the nearest
	nearMost    = 8  // nearest ones, whatever else is chosen
	chosenMost  = 32 // neighbours that a node chooses
	diverseMost = 12 // for regions and risks that no nearer one covers
	inboundMost = 24 // neighbours that chose us and not we them; probed slowly
	replanEvery = 10 * time.Second
	replanGap   = 5 * time.Millisecond // for every member, up to a second: between two choices while members come and go
	// exploreEvery is how often one neighbour is drawn anew: how a near node that nobody knows is found. Its link comes and goes with
	// it, and paths over it: once a minute at every node was a quarter of a change per path set and minute.
	exploreEvery = 10 * time.Minute
)

// acquaintance is another node as the choice of neighbours sees it.
type acquaintance struct {
	id      uint32
	region  string
	risks   []string
	latency time.Duration // measured, or estimated by way of a neighbour; 0: not known
	used    bool          // a path in use starts with it or ends there
	kept    bool          // a neighbour already: it stays one unless another is a fifth nearer
}

// neighbours are the nodes that this one probes by its own choice.
type neighbours struct{ fast, slow []uint32 }

// choose picks neighbours: those in use, the nearest, one of every region and risk that these leave out, and, up to chosenMost,
// those whose ids are near ours by exclusive or, a choice that both ends make alike. Where all fit, all are chosen.
// round changes every exploreEvery. It is pure; equal inputs give equal answers.
func choose(self uint32, region string, all []acquaintance, limits neighbourLimits, round uint32) neighbours {
	all = slices.Clone(all)
	near := func(a, b acquaintance) int {
		return cmp.Or(cmp.Compare(distance(a, region), distance(b, region)), cmp.Compare(a.id^self, b.id^self))
	}
	slices.SortFunc(all, func(a, b acquaintance) int { return cmp.Or(-cmp.Compare(bit(a.used), bit(b.used)), near(a, b)) })
	c := chooser{all: all, taken: make(map[uint32]bool), regions: map[string]bool{region: true}, risks: make(map[string]bool)}
	out := neighbours{fast: c.take(limits.fast, func(acquaintance) bool { return true })}
	crowded := len(all) > limits.fast+limits.slow
	if !crowded {
		out.slow = c.take(limits.slow, func(acquaintance) bool { return true })
		return out
	}
	slices.SortFunc(c.all, near)
	first := c.take(min(nearMost, limits.slow), func(a acquaintance) bool { return len(out.fast) < nearMost })
	diverse := c.take(min(diverseMost, limits.slow), func(a acquaintance) bool { return !c.covered(a) })
	slices.SortFunc(c.all, func(a, b acquaintance) int { return cmp.Compare(mix(a.id^self^round), mix(b.id^self^round)) })
	explorer := c.take(1, func(acquaintance) bool { return true })
	slices.SortFunc(c.all, func(a, b acquaintance) int { return cmp.Compare(a.id^self, b.id^self) })
	out.slow = slices.Concat(first, diverse, explorer)
	out.slow = append(out.slow, c.take(max(limits.slow-len(out.slow), 0), func(acquaintance) bool { return true })...)
	return out
}

// neighbourLimits follow from the cap on probe traffic; see limitsFor.
type neighbourLimits struct{ fast, slow, inbound int }

// distance orders by nearness: measured or estimated; unknown nodes of our region come before the measured far ones, unknown
// ones elsewhere last.
func distance(a acquaintance, region string) time.Duration {
	switch {
	case a.latency > 0 && a.kept:
		return a.latency * 4 / 5
	case a.latency > 0:
		return a.latency
	case a.region == region:
		return 5 * time.Millisecond
	}
	return time.Hour
}

// mix spreads the bits of an id, so that neighbouring ids do not stay together.
func mix(x uint32) uint32 {
	x ^= x >> 16
	x *= 0x7feb352d
	x ^= x >> 15
	x *= 0x846ca68b
	return x ^ x>>16
}

// chooser takes nodes in the order of all and remembers what they cover.
type chooser struct {
	all            []acquaintance
	taken          map[uint32]bool
	regions, risks map[string]bool
}

func (c *chooser) take(most int, fits func(acquaintance) bool) (out []uint32) {
	for _, a := range c.all {
		if len(out) >= most {
			break
		}
		if c.taken[a.id] || !fits(a) {
			continue
		}
		c.taken[a.id], c.regions[a.region] = true, true
		for _, r := range a.risks {
			c.risks[r] = true
		}
		out = append(out, a.id)
	}
	return out
}

// covered tells whether a node's region and all its risks are those of nodes taken before.
func (c *chooser) covered(a acquaintance) bool {
	return c.regions[a.region] && !slices.ContainsFunc(a.risks, func(r string) bool { return !c.risks[r] })
}

const (
	// probeWire is a probe on the wire, in bytes: IP, UDP, path frame without relays.
	probeWire = 28 + 30 + probeBytes
	// DefaultProbeRate is the cap on a node's probe traffic, in bits per second.
	DefaultProbeRate = 256_000
	// MinProbeRate keeps three fast links and a few slow ones.
	MinProbeRate = 32_000

	// What a link costs a second, in bits: requests of ours and replies to the other's, which may probe fast.
	fastCost    = (5 + 5) * probeWire * 8
	slowCost    = (1 + 1) * probeWire * 8
	inboundCost = (1 + 5) * probeWire * 8
)

// limitsFor shares a cap of bits a second out: half of it to fast links, an eighth to slow ones, the rest to those that
// others chose.
func limitsFor(rate int) neighbourLimits {
	return neighbourLimits{
		fast:    min(fastMost, rate/2/fastCost),
		slow:    min(chosenMost-fastMost, rate/8/slowCost),
		inbound: min(inboundMost, rate*3/8/inboundCost),
	}
}
