package mesh

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ternmesh/tern/mesh/linkstate"
	"github.com/ternmesh/tern/routing"
)

const (
	// patchMost is how many links a graph is mended for; with more it is drawn anew.
	patchMost = 1024
	// loadStep is how coarsely routing sees loads, so that path sets do not move with every client; what is below loadLeast
	// costs less than a millisecond and is taken for nothing.
	loadStep  = 0.1
	loadLeast = 0.4
)

// dirt is what changed since the last graph. Its lock is the last to be taken, and nothing is called under it.
type dirt struct {
	mu    sync.Mutex
	all   bool                   // guarded by mu: members changed
	links map[[2]uint32]struct{} // guarded by mu: links, both directions; the smaller id first
	nodes map[uint32]struct{}    // guarded by mu: loads
}

func (d *dirt) everything() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = true
}

func (d *dirt) link(a, b uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.links == nil {
		d.links = make(map[[2]uint32]struct{})
	}
	d.links[[2]uint32{min(a, b), max(a, b)}] = struct{}{}
	d.all = d.all || len(d.links) > patchMost
}

func (d *dirt) node(id uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.nodes == nil {
		d.nodes = make(map[uint32]struct{})
	}
	d.nodes[id] = struct{}{}
}

// wipe returns what changed and begins anew.
func (d *dirt) wipe() (all bool, links [][2]uint32, nodes []uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all, links, nodes = d.all, slices.Collect(maps.Keys(d.links)), slices.Collect(maps.Keys(d.nodes))
	d.all = false
	clear(d.links)
	clear(d.nodes)
	slices.SortFunc(links, func(a, b [2]uint32) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	slices.Sort(nodes)
	return all, links, nodes
}

// redrawRow notes which links a new row changes. m.mu is held.
func (m *Mesh) redrawRow(p *peer, before linkstate.Row) {
	for id, l := range p.row.Links {
		if old, had := before.Links[id]; !had || old != l {
			m.dirt.link(p.id, id)
		}
	}
	for id := range before.Links {
		if _, has := p.row.Links[id]; !has {
			m.dirt.link(p.id, id)
		}
	}
	if coarse(before.Load) != coarse(p.row.Load) {
		m.dirt.node(p.id)
	}
}

// Graph returns what is known of nodes and links. Nodes that are gone are absent. A link counts if both ends report it, and
// then as the worse of what they say, so that no node can talk its links up; this node's own count by its own measurement
// until the other end reports. The graph is immutable; it is mended, not drawn anew, where only links changed.
func (m *Mesh) Graph() *routing.Graph {
	m.drawing.Lock() // one draws, the others wait for it
	defer m.drawing.Unlock()
	all, links, nodes := m.dirt.wipe()
	if m.graph != nil && !all && len(links) == 0 && len(nodes) == 0 {
		return m.graph
	}
	d := m.material()
	if m.graph == nil || all {
		m.graph = d.graph()
		return m.graph
	}
	if len(links) > 0 {
		m.graph = m.graph.With(d.links(links)...)
	}
	if len(nodes) > 0 {
		var changed []routing.Node
		for _, id := range nodes {
			if n, ok := d.nodes[id]; ok {
				changed = append(changed, n)
			}
		}
		m.graph = m.graph.WithNodes(changed...)
	}
	return m.graph
}

// Own returns this node's own links in both directions, as Graph has them, at a cost that does not grow with the links of others.
func (m *Mesh) Own() []routing.Link {
	d := m.material()
	var pairs [][2]uint32
	for id, view := range d.views {
		_, mine := d.views[d.self][id]
		if _, theirs := view[d.self]; id != d.self && (mine || theirs) {
			pairs = append(pairs, [2]uint32{min(id, d.self), max(id, d.self)})
		}
	}
	out := d.links(pairs)
	slices.SortFunc(out, func(a, b routing.Link) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return out
}

// material is what a graph is drawn from: who is there, and who says what of its link with whom. Rows are never written after
// they are stored.
type material struct {
	self  uint32
	nodes map[uint32]routing.Node
	views map[uint32]map[uint32]linkstate.Link

	fallen map[uint32]bool
}

func (m *Mesh) material() material {
	self, own := m.selfMember(), m.links.view()
	m.mu.Lock()
	defer m.mu.Unlock()
	d := material{
		self: m.id, nodes: make(map[uint32]routing.Node, len(m.peers)+1), views: make(map[uint32]map[uint32]linkstate.Link, len(m.peers)+1),
		fallen: make(map[uint32]bool),
	}
	d.nodes[m.id], d.views[m.id] = asNode(self), own
	for _, p := range m.peers {
		if member := p.member(); member.Alive && p.verified {
			d.nodes[p.id], d.views[p.id], d.fallen[p.id] = asNode(member), p.row.Links, p.fallen
		}
	}
	return d
}

// coarse is a load as routing sees it; full stays full, and what is not full does not become it.
func coarse(load float64) float64 {
	switch {
	case load >= 1:
		return 1
	case load < loadLeast:
		return 0
	}
	return math.Floor(load/loadStep) * loadStep
}

func asNode(m Member) routing.Node {
	return routing.Node{
		Name: m.Node, Region: m.Region, Risks: m.Health.Risks,
		Avoid: !relays(m.Health.State),
		Full:  m.Health.Load >= 1,
		Load:  coarse(m.Health.Load),
	}
}

// relays says whether a node in that state may carry paths of others, as far as the node itself has a say. For one that an
// operator drains or cordons, the policy says it (routing.Constraints): the paths that it has move away without a gap.
func relays(state string) bool {
	switch state {
	case "", StateServing, StateDraining, StateDrained, StateCordoned, StateUnleased:
		return true
	}
	return false
}

func (d *material) graph() *routing.Graph {
	pairs := make(map[[2]uint32]struct{})
	for from, view := range d.views {
		for to := range view {
			pairs[[2]uint32{min(from, to), max(from, to)}] = struct{}{}
		}
	}
	return routing.NewGraph(slices.Collect(maps.Values(d.nodes)), d.links(slices.Collect(maps.Keys(pairs))))
}

// links returns both directions of links. One that does not count is down, so that it takes the place of one that did.
func (d *material) links(pairs [][2]uint32) (out []routing.Link) {
	for _, p := range pairs {
		a, okA := d.nodes[p[0]]
		b, okB := d.nodes[p[1]]
		if !okA || !okB {
			continue
		}
		there, back := d.views[p[0]][p[1]], d.views[p[1]][p[0]]
		_, saysA := d.views[p[0]][p[1]]
		_, saysB := d.views[p[1]][p[0]]
		switch {
		case saysA && saysB:
		case saysA && p[0] == d.self:
			back = mirrored(there)
		case saysB && p[1] == d.self:
			there = mirrored(back)
		default:
			there.Down, back.Down = true, true
		}
		if p[0] != d.self && p[1] != d.self && (d.fallen[p[0]] || d.fallen[p[1]]) { // our own links we measure
			there.Down, back.Down = true, true
		}
		out = append(out, mergeLink(a.Name, b.Name, there, back), mergeLink(b.Name, a.Name, back, there))
	}
	return out
}

// mirrored is a link as the other end would say it.
func mirrored(l linkstate.Link) linkstate.Link {
	l.LossOut, l.LossIn = l.LossIn, l.LossOut
	return l
}

// mergeLink is the worse of what the sender says of its outgoing link and what the receiver says of its incoming one.
func mergeLink(from, to string, out, in linkstate.Link) routing.Link {
	return routing.Link{
		From: from, To: to,
		Latency: max(out.Latency, in.Latency),
		Jitter:  max(out.Jitter, in.Jitter),
		Loss:    linkstate.LossOf(max(out.LossOut, in.LossIn)),
		Down:    out.Down || in.Down,
	}
}

// replan chooses neighbours anew if it is time to, or if the members changed.
func (m *Mesh) replan(now time.Time) {
	m.mu.Lock()
	since := now.Sub(m.planned)
	due := since >= replanEvery || m.planSoon && since >= min(time.Duration(len(m.peers))*replanGap, time.Second)
	if due {
		m.planned, m.planSoon = now, false
	}
	m.mu.Unlock()
	if !due {
		return
	}
	own := m.links.view()
	round := uint32(now.Unix() / int64(exploreEvery/time.Second))
	m.links.plan(now, choose(m.id, m.cfg.Identity.Region, m.acquaintances(own), m.links.limits, round))
}

// acquaintances are all members that may be neighbours, by id. The latency of those that are not measured is estimated by way
// of a neighbour: never less than it is, as far as detours are longer.
func (m *Mesh) acquaintances(own map[uint32]linkstate.Link) []acquaintance {
	chosen := m.links.choice()
	m.mu.Lock()
	defer m.mu.Unlock()
	estimate := make(map[uint32]time.Duration)
	for via, first := range own {
		p := m.peers[m.ids[via]]
		if p == nil || first.Down {
			continue
		}
		for to, second := range p.row.Links {
			if way := first.Latency + second.Latency; !second.Down && (estimate[to] == 0 || way < estimate[to]) {
				estimate[to] = way
			}
		}
	}
	for to, l := range own {
		estimate[to] = l.Latency
		if l.Down {
			delete(estimate, to)
		}
	}
	var out []acquaintance
	for _, p := range m.peers {
		if p.verified && p.alive && p.left.IsZero() {
			out = append(out, acquaintance{p.id, p.region, p.health.Risks, estimate[p.id], m.used[p.id], chosen[p.id]})
		}
	}
	slices.SortFunc(out, func(a, b acquaintance) int { return cmp.Compare(a.id, b.id) })
	return out
}

// Use says which nodes this one's paths start with or end at now: their links are probed fast, as far as the cap allows. The
// list takes the place of the one before.
func (m *Mesh) Use(ids []uint32) {
	used := make(map[uint32]bool, len(ids))
	for _, id := range ids {
		used[id] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !maps.Equal(used, m.used) {
		m.used, m.planSoon = used, true
	}
}
