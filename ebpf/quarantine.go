package ebpf

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// maxWalls bounds the sources in quarantine; the one that would leave it first makes room.
	maxWalls = 1024
	// maxTold bounds how many of them one other node may have told of; more are refused.
	maxTold = 256
	// maxSuspects bounds the sources whose strikes are remembered; the one that struck longest ago makes room.
	maxSuspects = 1024
	// So many sampled drops within the window are a strike: more than a thousand packets.
	strikeSamples = 20
	strikeWindow  = 10 * time.Second
	// The first strike costs firstWall, each further one within strikeMemory twice the last, up to longestWall.
	firstWall    = time.Minute
	longestWall  = 12 * time.Hour
	strikeMemory = 24 * time.Hour
)

// Quarantined is a source that is kept out for a while. What it keeps out is only what strangers may send: STUN without a
// ufrag of this node, QUIC and gossip. Members, admitted clients, and STUN with a ufrag of this node pass, so
// whoever forges an address keeps nobody out who has a session or can get one.
type Quarantined struct {
	Source  netip.Prefix `json:"source"` // one IPv4 address, or an IPv6 /64
	Since   time.Time    `json:"since"`
	Until   time.Time    `json:"until"`
	Strikes int          `json:"strikes"`
	Class   string       `json:"class"`  // of the drop that made the strike full
	Reason  string       `json:"reason"` // likewise
	From    string       `json:"from"`   // the node that told of it; empty: this one saw it
	Dropped uint64       `json:"dropped"`
}

// wall keeps a source out; it stands until sweep takes it down.
type wall struct {
	since, until  uint64
	strikes       int
	class, reason string
	from          string
	dropped       uint64 // by the twin, and by kernels that are gone
}

// suspect counts a source's strikes.
type suspect struct {
	begin   uint64 // of the window
	samples int
	strikes int
	last    uint64 // strike
}

// subscriber is what counts as one source: an IPv4 address, or an IPv6 /64.
func subscriber(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if words(a).hi != 0 {
		bits = 64
	}
	return netip.PrefixFrom(a, bits).Masked()
}

// offends says whether packets dropped for this reason speak against their source. Senders that a restart has forgotten
// send media and path frames in good faith, and budgets are met by all strangers together.
func (r Reason) offends() bool {
	switch r {
	case ReasonRateSource, ReasonMalformed, ReasonEmpty, ReasonBadClass, ReasonShort, ReasonBadVersion, ReasonBadHops,
		ReasonBadKind, ReasonBadLength, ReasonBadFence, ReasonBadCookie:
		return true
	}
	return false
}

// suspect takes a sampled drop; true when that was a strike, and the source is now in quarantine.
func (g *guard) suspect(src netip.Addr, v Verdict, now uint64) (Quarantined, bool) {
	if !src.IsValid() || v.Class == ClassNone || !v.Reason.offends() {
		return Quarantined{}, false
	}
	key := subscriber(src)
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.peers[src]; known {
		return Quarantined{}, false
	}
	s := g.suspects[key]
	if s == nil {
		if len(g.suspects) >= maxSuspects {
			g.forgetSuspect()
		}
		s = &suspect{begin: now}
		g.suspects[key] = s
	}
	if now-s.begin > uint64(strikeWindow) {
		s.begin, s.samples = now, 0
	}
	if s.samples++; s.samples < strikeSamples {
		return Quarantined{}, false
	}
	if now-s.last > uint64(strikeMemory) {
		s.strikes = 0
	}
	s.begin, s.samples, s.last = now, 0, now
	s.strikes++
	w := &wall{since: now, until: now + uint64(sentence(s.strikes)), strikes: s.strikes, class: v.Class.String(), reason: v.Reason.String()}
	g.stats.Strikes++
	g.build(key, w)
	return g.describe(key, w), true
}

// sentence is how long a strike keeps a source out.
func sentence(strikes int) time.Duration {
	return min(firstWall<<min(strikes-1, 20), longestWall)
}

func (g *guard) forgetSuspect() {
	var oldest netip.Prefix
	for p, s := range g.suspects {
		if o := g.suspects[oldest]; o == nil || max(s.last, s.begin) < max(o.last, o.begin) {
			oldest = p
		}
	}
	delete(g.suspects, oldest)
}

// build puts a wall up, or a later end to one that stands. The caller holds mu, as for all below.
func (g *guard) build(key netip.Prefix, w *wall) {
	if old, ok := g.walls[key]; ok {
		w.since, w.until, w.dropped = old.since, max(w.until, old.until), old.dropped
		g.walls[key] = w
		return
	}
	if len(g.walls) >= maxWalls {
		var first netip.Prefix
		for p, x := range g.walls {
			if f := g.walls[first]; f == nil || x.until < f.until {
				first = p
			}
		}
		g.stats.WallsEvicted++
		g.raze(first)
	}
	g.walls[key] = w
	if g.sink != nil {
		g.note(g.sink.putWall(key))
	}
}

func (g *guard) raze(key netip.Prefix) {
	delete(g.walls, key)
	if g.sink != nil {
		g.note(g.sink.dropWall(key))
	}
}

// walled says whether a stranger is in quarantine, and counts the packet that this is asked for.
func (g *guard) walled(src netip.Addr) bool {
	w, ok := g.walls[subscriber(src)]
	if ok {
		w.dropped++
	}
	return ok
}

// describe gives times as those of the twin's clock: Filter.dated makes them those of the day.
func (g *guard) describe(key netip.Prefix, w *wall) Quarantined {
	q := Quarantined{
		Source: key, Since: time.Unix(0, int64(w.since)), Until: time.Unix(0, int64(w.until)),
		Strikes: w.strikes, Class: w.class, Reason: w.reason, From: w.from, Dropped: w.dropped,
	}
	if g.sink != nil {
		q.Dropped += g.sink.wallDrops(key)
	}
	return q
}

func (f *Filter) dated(q Quarantined) Quarantined {
	q.Since, q.Until = f.born.Add(time.Duration(q.Since.UnixNano())), f.born.Add(time.Duration(q.Until.UnixNano()))
	return q
}

// Quarantine lists the sources in quarantine, by their address.
func (f *Filter) Quarantine() []Quarantined {
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Quarantined, 0, len(g.walls))
	for key, w := range g.walls {
		out = append(out, f.dated(g.describe(key, w)))
	}
	slices.SortFunc(out, func(a, b Quarantined) int { return a.Source.Compare(b.Source) })
	return out
}

// Release lets a source out of quarantine and forgets its strikes; an IPv6 address stands for its /64. It says whether the
// source was in quarantine.
func (f *Filter) Release(src netip.Addr) bool {
	key := subscriber(src.Unmap().WithZone(""))
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.suspects, key)
	_, ok := g.walls[key]
	if ok {
		g.raze(key)
	}
	return ok
}

// Adopt puts a source into quarantine on the word of another node, for as long as is left but at most longestWall.
// Sources of the allowlist and known mesh addresses are not taken, and what this node has seen itself stays as it is. It says
// whether the source was taken.
func (f *Filter) Adopt(from string, q Quarantined) bool {
	if q.Source.Addr().Unmap() != q.Source.Addr() || !q.Source.IsValid() || q.Source != subscriber(q.Source.Addr()) || f.spared(q.Source.Addr()) {
		return false
	}
	now, left := f.clock(), min(time.Until(q.Until), longestWall)
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	old, stands := g.walls[q.Source]
	if _, known := g.peers[q.Source.Addr()]; known || left <= 0 || stands && old.from == "" || g.told(from) >= maxTold {
		return false
	}
	g.stats.Adopted++
	g.build(q.Source, &wall{
		since: now, until: now + uint64(left), strikes: max(q.Strikes, 1),
		class: firstRunes(q.Class), reason: firstRunes(q.Reason), from: from,
	})
	return true
}

// told counts the walls on a node's word. The caller holds mu.
func (g *guard) told(from string) (n int) {
	for _, w := range g.walls {
		if w.from == from {
			n++
		}
	}
	return n
}

// firstRunes bounds a word that another node says.
func firstRunes(s string) string {
	return s[:min(len(s), 24)]
}

// Recant takes back what a node told of a source. It says whether the source was in quarantine for it.
func (f *Filter) Recant(from string, src netip.Prefix) bool {
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	w, ok := g.walls[src]
	if !ok || w.from != from {
		return false
	}
	g.raze(src)
	return true
}

// spared says whether the allowlist names a source.
func (f *Filter) spared(src netip.Addr) bool {
	return slices.ContainsFunc(f.table.Load().rules.Allowlist, func(p netip.Prefix) bool { return p.Contains(src) })
}

// accuse holds a sampled drop against its source.
func (f *Filter) accuse(src netip.Addr, v Verdict) {
	if f.spared(src) {
		return
	}
	q, struck := f.guard.suspect(src, v, f.clock())
	if !struck {
		return
	}
	q = f.dated(q)
	f.cfg.Logger.Warn("packet filter: a source is in quarantine (the address may be forged)", "event", "quarantine", "source", q.Source,
		"until", q.Until.UTC().Format(time.RFC3339), "strikes", q.Strikes, "class", q.Class, "reason", q.Reason)
	if f.cfg.OnQuarantine != nil {
		f.cfg.OnQuarantine(q)
	}
}
