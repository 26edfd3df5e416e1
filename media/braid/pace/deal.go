package pace

import (
	"math"
	"slices"
)

const (
	fits = 1.1 // times the demand: what a path must have room for before the needed copy moves to it
)

// claim is what one flow would like to send on one path in one round of the deal.
type claim struct {
	path *Path
	want float64
}

// dealer is the scratch of a deal.
type dealer struct {
	claims []claim
	sorted []float64
	node   float64 // room left
}

// deal turns the caps into grants: needed copies first, then extra copies share what is left.
func (c *Control) deal() {
	d := &c.dealer
	d.node = c.node.Cap()
	for _, l := range c.links {
		l.room = l.rate.Cap()
	}
	d.claims = d.claims[:0]
	for _, f := range c.flows {
		f.room = f.rate.Cap()
		d.claimNeeded(f)
	}
	d.share()
	for i := range d.claims {
		cl := &d.claims[i]
		cl.path.grant.Needed = cl.want
	}
	d.claims = d.claims[:0]
	for _, f := range c.flows {
		f.conclude(c)
		d.claimCopies(f)
	}
	d.share()
	for i := range d.claims {
		cl := &d.claims[i]
		if p := cl.path; !c.free(p) {
			p.grant.Copies = cl.want
		}
	}
}

// free: nothing on the way of this path has a cap.
func (c *Control) free(p *Path) bool {
	return p.rate.Open() && p.link.rate.Open() && p.flow.rate.Open() && c.node.Open()
}

// claimNeeded chooses the paths of the flow's needed copy: the first one that can carry it whole, with a dead band around
// the present one, else several in their order.
func (d *dealer) claimNeeded(f *Flow) {
	place := -1
	for i, p := range f.paths {
		p.grant = Grant{}
		room := min(p.proven(), p.link.room)
		enough := fits * f.demand
		if i == f.first {
			enough = f.demand
		}
		if place < 0 && p.usable && room >= enough {
			place = i
		}
	}
	if place >= 0 {
		f.first = place
		d.claims = append(d.claims, claim{f.paths[place], f.demand})
		return
	}
	rest := f.demand
	for i, p := range f.paths {
		if room := min(p.proven(), p.link.room); p.usable && room > 0 && rest > 0 {
			if rest == f.demand {
				f.first = i
			}
			d.claims = append(d.claims, claim{p, min(rest, room)})
			rest -= min(rest, room)
		}
	}
}

// claimCopies claims what the flow would like to send on its other paths, and beyond one copy each on the first again.
func (d *dealer) claimCopies(f *Flow) {
	for i, p := range f.paths {
		want := p.wants() // of an unusable one too: copies tell when it is back
		if i == f.first {
			want = f.demand * max(0, f.wanted-float64(len(f.paths)-1))
		}
		if f.c.free(p) {
			p.grant.Copies = math.Inf(1)
			continue
		}
		room := max(0, p.rate.Cap()-min(p.grant.Needed, f.demand))
		d.claims = append(d.claims, claim{p, min(want, room)})
	}
}

// share cuts the claims down to what flows, links and the node have room for, max-min fairly, and takes that away.
func (d *dealer) share() {
	for from := 0; from < len(d.claims); { // claims of a flow lie together
		to := from + 1
		for to < len(d.claims) && d.claims[to].path.flow == d.claims[from].path.flow {
			to++
		}
		scale(d.claims[from:to], d.claims[from].path.flow.room)
		from = to
	}
	d.shareLinks()
	d.shareNode()
	for _, cl := range d.claims {
		p := cl.path
		p.flow.room = max(0, p.flow.room-cl.want)
		p.link.room = max(0, p.link.room-cl.want)
		d.node = max(0, d.node-cl.want)
	}
}

// shareLinks is share within each first hop: between the claims on it.
func (d *dealer) shareLinks() {
	for i, cl := range d.claims {
		l := cl.path.link
		if math.IsInf(l.room, 1) || slices.ContainsFunc(d.claims[:i], func(o claim) bool { return o.path.link == l }) {
			continue
		}
		d.sorted = d.sorted[:0]
		for _, o := range d.claims {
			if o.path.link == l {
				d.sorted = append(d.sorted, o.want)
			}
		}
		top := waterLevel(d.sorted, l.room)
		for j := range d.claims {
			if d.claims[j].path.link == l {
				d.claims[j].want = min(d.claims[j].want, top)
			}
		}
	}
}

// shareNode is share within the node: between flows.
func (d *dealer) shareNode() {
	if math.IsInf(d.node, 1) {
		return
	}
	total := func(f *Flow) (sum float64) {
		for _, cl := range d.claims {
			if cl.path.flow == f {
				sum += cl.want
			}
		}
		return sum
	}
	d.sorted = d.sorted[:0]
	for i, cl := range d.claims {
		if i == 0 || d.claims[i-1].path.flow != cl.path.flow {
			d.sorted = append(d.sorted, total(cl.path.flow))
		}
	}
	top := waterLevel(d.sorted, d.node)
	for from := 0; from < len(d.claims); {
		to := from + 1
		for to < len(d.claims) && d.claims[to].path.flow == d.claims[from].path.flow {
			to++
		}
		scale(d.claims[from:to], top)
		from = to
	}
}

// scale shrinks claims so that their sum is at most room.
func scale(claims []claim, room float64) {
	sum := 0.0
	for _, cl := range claims {
		sum += cl.want
	}
	if sum <= room {
		return
	}
	for i := range claims {
		claims[i].want *= room / sum
	}
}

// waterLevel is the max-min fair share: the level at which claims cut to it add up to room. It sorts wants.
func waterLevel(wants []float64, room float64) float64 {
	slices.Sort(wants)
	for i, w := range wants {
		if share := room / float64(len(wants)-i); w > share {
			return share
		}
		room -= w
	}
	return math.Inf(1)
}

// conclude says what the needed copy may take and what the flow may send at all. Where the whole fits, the needed copy
// gets all the room there is, so that a keyframe does not wait longer than it must.
func (f *Flow) conclude(c *Control) {
	granted, reach := 0.0, 0.0
	f.scope = Free
	for _, p := range f.paths {
		granted += p.grant.Needed
		if p.usable {
			reach += min(p.needed(), p.link.rate.Cap())
			f.scope = max(f.scope, p.scope())
		}
	}
	if !f.rate.Open() {
		f.scope = OnFlow
	}
	if !c.node.Open() {
		f.scope = OnNode
	}
	// Of the node's room, what the others' needed copies leave.
	f.estimate = max(granted, min(reach, f.rate.Cap(), granted+c.dealer.node))
	if len(f.paths) > 0 && f.paths[f.first].grant.Needed >= f.demand {
		p := f.paths[f.first]
		room := min(p.needed()-p.grant.Needed, p.link.room, f.room, c.dealer.node)
		p.grant.Needed += max(0, room)
	}
}

// scope of what limits the path below its flow.
func (p *Path) scope() Scope {
	switch {
	case !p.link.rate.Open():
		return OnLink
	case !p.rate.Open():
		return OnPath
	}
	return Free
}
