package pace

import (
	"math"
	"slices"
	"time"
)

// enough, of what is needed, is all of it, as rates are measured.
const enough = 0.95

// Scope says what limits a flow.
type Scope uint8

// Scopes, from narrow to wide.
const (
	Free   Scope = iota // nothing
	OnPath              // one path's own bottleneck
	OnLink              // a first hop that several paths share
	OnFlow              // all paths to the peer: its way in, or our way out
	OnNode              // all that this node sends
	scopes
)

var scopeNames = [scopes]string{"none", "path", "link", "peer", "node"}

// String is the scope as status and metrics name it.
func (s Scope) String() string { return scopeNames[min(s, scopes-1)] }

// Control holds the budgets of a node: of its paths, its first hops, its flows and of all it sends. It is not safe for
// concurrent use, keeps no time of its own and starts nothing. The zero value is ready.
type Control struct {
	node  Rate
	links map[uint32]*Link
	flows []*Flow

	dealer dealer // scratch
}

// Link is a first hop. Its fields belong to Control.
type Link struct {
	rate  Rate
	users int
	sum   tally
	room  float64 // scratch of Deal
}

// Flow is all media to one peer under one fence. Its methods belong to Control's caller, under the same lock.
type Flow struct {
	// Residual watches what all copies lost.
	Residual Residual

	c      *Control
	rate   Rate
	paths  []*Path
	demand float64 // bytes/s of one copy
	wanted float64 // copies beyond the needed one that it would like per frame, on average
	sum    tally

	first    int // place of the path of the needed copy
	estimate float64
	scope    Scope
	room     float64 // scratch of Deal
}

// NewFlow adds a flow without paths.
func (c *Control) NewFlow() *Flow {
	f := &Flow{c: c, estimate: math.Inf(1)}
	c.flows = append(c.flows, f)
	return f
}

// Remove takes a flow and its paths out.
func (c *Control) Remove(f *Flow) {
	f.SetPaths(nil)
	c.flows = slices.DeleteFunc(c.flows, func(g *Flow) bool { return g == f })
}

// NewPath makes a path of f with the given first hop. It counts once SetPaths has it.
func (f *Flow) NewPath(hop uint32) *Path {
	return &Path{flow: f, hop: hop, grant: Grant{math.Inf(1), math.Inf(1)}}
}

// SetPaths replaces the flow's paths, best first. A path that is left out keeps what it has learnt and may come back.
func (f *Flow) SetPaths(paths []*Path) {
	c := f.c
	old := f.paths
	f.paths, f.first = slices.Clone(paths), 0
	for _, p := range f.paths {
		if c.links == nil {
			c.links = make(map[uint32]*Link)
		}
		if c.links[p.hop] == nil {
			c.links[p.hop] = &Link{}
		}
		p.link = c.links[p.hop]
		p.link.users++
	}
	for _, p := range old {
		if p.link.users--; p.link.users == 0 {
			delete(c.links, p.hop)
		}
	}
}

// SetUsable says whether a path can carry anything now.
func (p *Path) SetUsable(ok bool) { p.usable = ok }

// Offer tells what the flow sends: demand in bytes/s of one copy, wanted extra copies per frame.
func (f *Flow) Offer(demand, wanted float64) { f.demand, f.wanted = demand, wanted }

// First is the place of the path that carries the needed copy.
func (f *Flow) First() int { return f.first }

// Estimate is what the flow may send at all, in bytes/s; infinite while nothing limits it.
func (f *Flow) Estimate() float64 { return f.estimate }

// Scope is what limits the flow, the widest if several things do.
func (f *Flow) Scope() Scope { return f.scope }

// Feedback takes what the peer reports of one path. Step draws the conclusions; urgent: it should do so now.
func (c *Control) Feedback(now time.Time, p *Path, s Sample) (urgent bool) {
	if p.take(now, s) {
		p.judge(now)
		return p.sure(now)
	}
	return false
}

// tally is what the active paths of a group show.
type tally struct {
	active, queueing, sure int
	flows                  int // with an active path
	delivered, sent        float64
	arrives, lasting       float64       // as Path has them
	queue, rtt             time.Duration // the longest
}

func (t *tally) add(p *Path, now time.Time) {
	t.active++
	t.delivered += p.delivered
	t.sent += p.sent
	t.arrives += p.arrives
	t.lasting += p.lasting
	t.rtt = max(t.rtt, p.rtt)
	if p.queues(now) {
		t.queueing++
		t.queue = max(t.queue, p.foreseen())
	}
	if p.sure(now) {
		t.sure++
	}
}

// shared: several active paths, and every one of them shows a queue, at least one of them surely.
func (t *tally) shared() bool { return t.active > 1 && t.queueing == t.active && t.sure > 0 }

// Step cuts and grows caps by what the paths have shown, and deals out what they allow. Call it every 50 ms or so.
func (c *Control) Step(now time.Time) {
	node := c.count(now)
	all := func(*Path) bool { return true }
	c.node.Higher(now, node.queue, node.rtt)
	switch {
	case node.shared() && node.flows > 1:
		c.cut(now, &c.node, node, all)
		for _, f := range c.flows {
			f.rate.forgive(now)
		}
		for _, l := range c.links {
			l.rate.forgive(now)
		}
	case node.queueing == 0:
		c.clear(now, &c.node, node, c.wants(all), all)
	}
	for _, f := range c.flows {
		mine := func(p *Path) bool { return p.flow == f }
		f.rate.Higher(now, f.sum.queue, f.sum.rtt)
		switch {
		case f.sum.shared() && c.unanswered(now, mine):
			c.cut(now, &f.rate, f.sum, mine)
		case f.sum.queueing == 0:
			c.clear(now, &f.rate, f.sum, (1+f.wanted)*f.demand, mine)
		}
	}
	for _, l := range c.links {
		mine := func(p *Path) bool { return p.link == l }
		l.rate.Higher(now, l.sum.queue, l.sum.rtt)
		switch {
		case l.sum.shared() && c.unanswered(now, mine):
			c.cut(now, &l.rate, l.sum, mine)
		case l.sum.queueing == 0 && !l.rate.Open():
			c.clear(now, &l.rate, l.sum, c.wants(mine), mine)
		}
	}
	c.each(func(p *Path) { p.step(now) })
	c.deal()
}

// unanswered: some path of a group still shows a sure queue, for which no wider group has been cut.
func (c *Control) unanswered(now time.Time, in func(*Path) bool) (found bool) {
	c.each(func(p *Path) { found = found || in(p) && p.sure(now) })
	return found
}

// count tallies the active paths of all groups.
func (c *Control) count(now time.Time) (node tally) {
	for _, l := range c.links {
		l.sum = tally{}
	}
	for _, f := range c.flows {
		f.sum = tally{}
		top, slowest := 0.0, time.Duration(math.MinInt64)
		for _, p := range f.paths {
			if p.fresh(now) {
				top, slowest = max(top, p.sent), max(slowest, p.floor.least())
			}
		}
		for _, p := range f.paths {
			p.lead = min(max(0, slowest-p.floor.least()), leadMost)
			if p.fresh(now) && p.sent > activeShare*top {
				f.sum.add(p, now)
				p.link.sum.add(p, now)
				node.add(p, now)
			}
		}
		if f.sum.active > 0 {
			node.flows++
		}
	}
	return node
}

func (c *Control) each(do func(*Path)) {
	for _, f := range c.flows {
		for _, p := range f.paths {
			do(p)
		}
	}
}

// wants is what the paths of a group would carry if nothing limited them, in bytes/s.
func (c *Control) wants(in func(*Path) bool) (sum float64) {
	c.each(func(p *Path) {
		if in(p) {
			sum += p.wants()
		}
	})
	return sum
}

// needs is what a group of paths must carry of the needed copies: what the flows' other paths have no room for, in bytes/s.
func (c *Control) needs(in func(*Path) bool) (sum float64) {
	for _, f := range c.flows {
		rest := f.demand
		if !slices.ContainsFunc(f.paths, in) {
			continue
		}
		for _, p := range f.paths {
			if p.usable && !in(p) {
				rest -= min(p.needed(), p.link.rate.Cap())
			}
		}
		sum += max(0, rest)
	}
	return sum
}

// fitting is what a cut must leave: what is needed, while as much arrives. It fits then, whatever the delay says, and where nobody is
// short of anything, the delay may be that of a machine that runs late.
func fitting(needed, arrives float64) float64 {
	if arrives < enough*needed {
		return 0
	}
	return min(fits*needed, max(needed, arrives))
}

// clear tells a group's cap that nothing queues.
func (c *Control) clear(now time.Time, r *Rate, t tally, wanted float64, in func(*Path) bool) {
	if !r.Open() {
		r.Passed(t.lasting, fitting(c.needs(in), t.arrives))
		r.Clear(now, t.sent, wanted, t.rtt)
	}
}

// cut lowers a group's cap. Its paths' evidence is used up: it says nothing about the paths themselves, and what they show
// in the next round trip was sent before. A cap that something narrower got for the same trouble a moment ago is
// lifted.
func (c *Control) cut(now time.Time, r *Rate, t tally, in func(*Path) bool) {
	r.Queue(now, t.delivered, fitting(c.needs(in), t.arrives), t.queue, t.rtt)
	c.each(func(p *Path) {
		if in(p) {
			p.excuse(now, t.rtt)
			p.rate.forgive(now)
		}
	})
}
