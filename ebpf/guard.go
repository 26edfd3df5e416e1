package ebpf

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/dchest/siphash"
)

// The bounds of the live rules (bpf/verdict.h).
const (
	guardMesh   = 1
	guardAccess = 2

	maxPeers   = 8192  // addresses of members, joiners and authenticated peers
	maxFlows   = 65536 // admitted addresses of clients
	sourceSets = 16384 // places for buckets of unknown sources, times sourceWays
	sourceWays = 4
)

// pair holds the two buckets of a member or an admitted client: bulk (frames, media) and the rest.
type pair [2]bucket

// ways is one set of the table of unknown sources. A source has one place in one set; the one whose bucket is emptiest
// makes room, and a bucket that ran empty says nothing that a missing one does not.
type ways struct {
	at  [sourceWays]bucket
	tag [sourceWays]uint32
}

// guard is what the twin knows besides the rules: who may send, and how much was sent. judge is the twin of
// bpf/guard.h. live.go keeps both in step with the node.
type guard struct {
	mu       sync.Mutex // guards everything below
	limits   [limits]limit
	normal   [limits]limit // the Config's, from which rules may depart
	ufrag    key           // of the ufrags
	source   key           // of the table of sources, so that nobody outside can aim at a set
	peers    map[netip.Addr]*peer
	flows    map[netip.AddrPort]*flow
	owners   map[string][]netip.AddrPort // the same flows by their owner, oldest first
	sources  []ways                      // made when the first stranger comes
	walls    map[netip.Prefix]*wall      // sources in quarantine
	suspects map[netip.Prefix]*suspect   // who may come there
	budgets  [limits]bucket
	stats    LiveStats
	sink     *kernel // gets every change too; nil unless the program is loaded
}

func newGuard(l Limits) *guard {
	return &guard{
		limits: l.table(), normal: l.table(), ufrag: newKey(), source: newKey(),
		peers: map[netip.Addr]*peer{}, flows: map[netip.AddrPort]*flow{}, owners: map[string][]netip.AddrPort{},
		walls: map[netip.Prefix]*wall{}, suspects: map[netip.Prefix]*suspect{},
	}
}

// setRates puts rates in force, by name; what is left out is as the Config says. It returns the limits of before.
func (g *guard) setRates(rates map[string]Rate) [limits]limit {
	next := g.normal
	for i, name := range limitNames {
		if r, ok := rates[name]; ok {
			next[i] = r.limit()
		}
	}
	return g.setLimits(next)
}

func (g *guard) setLimits(next [limits]limit) (before [limits]limit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before, g.limits = g.limits, next
	return before
}

// judge decides about a well-formed datagram p of class c from a source that is not blocked. now is in nanoseconds and
// never goes back.
func (g *guard) judge(port, c Class, src netip.AddrPort, p []byte, now uint64) Reason {
	g.mu.Lock()
	defer g.mu.Unlock()
	if port == ClassMesh {
		return g.mesh(c, src.Addr(), now)
	}
	return g.access(c, src, p, now)
}

func (g *guard) mesh(c Class, src netip.Addr, now uint64) Reason {
	if p, ok := g.peers[src]; ok {
		if c == ClassGossip {
			return within(&p.buckets[1], g.limits[limitPeerGossip], now)
		}
		return within(&p.buckets[0], g.limits[limitPeer], now)
	}
	switch {
	case c == ClassPath:
		return ReasonNotMember
	case g.walled(src):
		return ReasonQuarantine
	case c == ClassQUIC:
		return g.stranger(src, limitSourceMesh, limitBudgetQUIC, now)
	}
	return g.stranger(src, limitSourceMesh, limitBudgetGossip, now)
}

func (g *guard) access(c Class, src netip.AddrPort, p []byte, now uint64) Reason {
	if f, ok := g.flows[src]; ok {
		if c == ClassRTP || c == ClassRTCP {
			return within(&f.buckets[0], g.limits[limitFlow], now)
		}
		return within(&f.buckets[1], g.limits[limitFlowControl], now)
	}
	if c != ClassSTUN {
		return ReasonNotAdmitted
	}
	if !requestUfrag(g.ufrag, p, now/ufragEpochNS) {
		if g.walled(src.Addr()) {
			return ReasonQuarantine
		}
		return g.stranger(src.Addr(), limitSourceSTUN, limitBudgetSTUN, now)
	}
	if r := g.stranger(src.Addr(), limitSourceUfrag, limitBudgetUfrag, now); r != ReasonStranger {
		return r
	}
	return ReasonUfrag
}

func within(b *bucket, l limit, now uint64) Reason {
	if b.take(l, now) {
		return ReasonOK
	}
	return ReasonRate
}

// stranger: its own rate first, so that one source cannot use up what all share; then the budget, so that sources made
// up one after another cannot push others out of the table faster than the budget allows.
func (g *guard) stranger(src netip.Addr, own, shared int, now uint64) Reason {
	if g.sources == nil {
		g.sources = make([]ways, sourceSets)
	}
	h := hashSource(g.source, src, own)
	w, tag := &g.sources[h%sourceSets], uint32(h>>32)|1
	at, b := 0, bucket(0)
	for i := range w.at {
		if w.at[i] < w.at[at] {
			at = i
		}
	}
	for i := range w.tag {
		if w.tag[i] == tag {
			at, b = i, w.at[i]
		}
	}
	next, ok := b.spare(g.limits[own], now)
	if !ok {
		return ReasonRateSource
	}
	if !g.budgets[shared].take(g.limits[shared], now) {
		return ReasonBudget
	}
	w.tag[at], w.at[at] = tag, next
	return ReasonStranger
}

// hashSource: an IPv6 source counts by its /64, which one subscriber has to himself.
func hashSource(k key, src netip.Addr, own int) uint64 {
	w := words(src)
	if w.hi != 0 {
		w.lo = 0
	}
	var b [17]byte
	binary.LittleEndian.PutUint64(b[:], w.hi)
	binary.LittleEndian.PutUint64(b[8:], w.lo)
	b[16] = byte(own)
	return siphash.Hash(k[0], k[1], b[:])
}

// words is an address as the kernel's maps hold it: IPv4 as ::ffff:a.b.c.d.
func words(a netip.Addr) wide {
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}
