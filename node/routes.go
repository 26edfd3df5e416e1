package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/routing"
)

const (
	maxPaths  = 3
	maxRelays = 2
	// routeSpread collects changes of the mesh before path sets are computed again; more by routeSpreadEach for every member,
	// because in a large mesh something changes all the time, up to routeSpreadMost.
	routeSpread     = 50 * time.Millisecond
	routeSpreadEach = time.Millisecond
	routeSpreadMost = 250 * time.Millisecond
	// routeTick computes them again even without a change, so that a gain that lasts is taken.
	routeTick = time.Second
	// readyWithin bounds how long a path stays in use because the one that replaces it is not ready; readyPoll is how often
	// that is looked at.
	readyWithin = 2 * time.Second
	readyPoll   = 50 * time.Millisecond
)

// routes turns the mesh's graph and the policy's fences into the braid's path sets, with hysteresis.
type routes struct {
	node *Node

	again chan struct{} // capacity 1: paths are being replaced

	mu   sync.Mutex
	sets map[routeKey]*route // guarded by mu

	tables struct { // what was computed on the last graph, by fence
		sync.Mutex
		policy *enforced
		of     map[braid.FenceID]*routing.Table
	}
	bounded struct { // the last graph under the policy's bounds
		sync.Mutex
		from   *routing.Graph
		policy *enforced
		graph  *routing.Graph
	}
}

type routeKey struct {
	peer  braid.NodeID
	fence braid.FenceID
}

type route struct {
	keeper  routing.Keeper
	set     routing.PathSet // as wanted
	changed time.Time       // when set last became another
	live    []routing.Path  // in use: set, and while it is not ready what it replaces
	used    time.Time
	span    trace.Span        // of the change that is under way; nil: none
	cause   trace.SpanContext // of the last change
	policy  *enforced         // in force when the paths were looked at last
}

func newRoutes(n *Node) *routes {
	return &routes{node: n, again: make(chan struct{}, 1), sets: make(map[routeKey]*route)}
}

// wake has all paths looked at again; never blocks.
func (r *routes) wake() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// run asks the braid to look at its paths again whenever the mesh changed.
func (r *routes) run(ctx context.Context) error {
	tick := time.NewTicker(routeTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.again:
			r.node.braid.Refresh()
			continue
		case <-r.node.mesh.Changed():
			r.node.showMembers()
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(min(routeSpread+routeSpreadEach*time.Duration(len(r.node.mesh.Members())), routeSpreadMost)):
			}
		}
		r.node.showMembers()
		r.forget()
		came := r.node.memory.observe(r.node.mesh.Members(), time.Now())
		r.node.control.Wake()
		r.node.braid.Refresh()
		if came {
			r.node.hub.Retry()
		}
		r.node.mesh.Use(r.inUse())
	}
}

// inUse lists the nodes that this one's paths start with or end at, by compact id.
func (r *routes) inUse() (ids []uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.sets {
		for _, p := range v.set.Paths {
			ids = append(ids, identity.NodeID(r.node.id.Mesh, p.Nodes[1]), identity.NodeID(r.node.id.Mesh, p.Nodes[len(p.Nodes)-1]))
		}
	}
	return ids
}

// forget drops path sets that nobody asked for in a minute.
func (r *routes) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, v := range r.sets {
		if time.Since(v.used) > time.Minute {
			v.traceDone()
			delete(r.sets, k)
		}
	}
}

// graph is what the mesh measured, under the operator's bounds.
func (r *routes) graph() *routing.Graph {
	raw, policy := r.node.mesh.Graph(), r.node.enforcer.current.Load()
	b := &r.bounded
	b.Lock()
	defer b.Unlock()
	if b.from != raw || b.policy != policy {
		b.from, b.policy, b.graph = raw, policy, raw.Under(policy.bounds)
	}
	return b.graph
}

// paths implements braid.Config.Paths: best first, at most three, inside the fence or none. The links of a path that the braid
// found dead are left out: which of them is at fault, and why gossip's probes do not see it, nobody knows yet.
func (r *routes) paths(peer braid.NodeID, fence braid.FenceID, avoid []braid.Path) []braid.Path {
	m, ok := r.node.member(peer)
	if !ok {
		return nil
	}
	regions := r.node.enforcer.regions(fence)
	if len(regions) == 0 {
		return nil // no app of the policy has this fence: no way, rather than a wrong one
	}
	now := time.Now()
	graph := r.graph()
	fresh := r.fresh(graph, m.Node, fence, regions, r.cut(m.Node, avoid), now)
	r.mu.Lock()
	defer r.mu.Unlock()
	k := routeKey{peer, fence}
	kept := r.sets[k]
	if kept == nil {
		kept = &route{keeper: routing.Keeper{Patience: routing.PatienceOf(r.node.cfg.Node, m.Node)}}
		r.sets[k] = kept
	}
	kept.used = now
	if !graph.Has(m.Node) { // gossip has dropped the peer a moment ago: its paths stay until links or time tell
		return r.compact(kept.live)
	}
	before := kept.set.Paths
	kept.set = kept.keeper.Keep(now, kept.set, fresh, graph)
	if !samePaths(before, kept.set.Paths) {
		kept.changed = now
		r.traceChange(kept, m.Node, regions, before)
	}
	kept.policy = r.node.enforcer.current.Load()
	if len(kept.set.Paths) == 0 {
		kept.live = r.untilSomeIsUp(graph, kept, m.Node, fresh, now)
		return r.compact(kept.live)
	}
	ready := func(p routing.Path) bool { return r.node.braid.Prepare(peer, r.compactOne(p)) }
	usable := func(p routing.Path) bool { return r.stillUp(graph, p, fence) }
	var waiting bool
	kept.live, waiting = handover(kept.live, kept.set.Paths, now.Sub(kept.changed) < readyWithin, ready, usable)
	if waiting {
		time.AfterFunc(readyPoll, r.wake)
	} else {
		kept.traceDone()
	}
	return r.compact(kept.live)
}

// untilSomeIsUp is what carries traffic while no path is up: those that did last, and the direct one. Probes need their time to
// call a link up again, and media that goes on meanwhile is there with the first packet that comes through. It ends when a
// member that gossip dropped would be given up too.
func (r *routes) untilSomeIsUp(graph *routing.Graph, kept *route, to string, fresh routing.PathSet, now time.Time) []routing.Path {
	if now.Sub(kept.changed) > believeFor {
		return nil
	}
	try := kept.live
	if direct := (routing.Path{Nodes: []string{r.node.cfg.Node, to}}); len(try) < maxPaths && !containsPath(try, direct) {
		try = append(slices.Clone(try), direct)
	}
	return graph.Admitted(try, fresh)
}

// fresh is the best path set there is now. Where only drained nodes lead to a peer, they go on relaying until their deadline.
func (r *routes) fresh(graph *routing.Graph, to string, fence braid.FenceID, regions []string, cut [][2]string, now time.Time) routing.PathSet {
	policy := r.node.enforcer.current.Load() // before constrain: a newer c under an older policy is dropped with it
	c := r.node.enforcer.constrain(routing.Constraints{MaxPaths: maxPaths, MaxRelays: maxRelays, Regions: regions, Cut: cut})
	var set routing.PathSet
	if len(cut) == 0 {
		set = r.known(graph, to, fence, policy, c)
	} else {
		set = graph.PathSet(r.node.cfg.Node, to, c)
	}
	if len(set.Paths) == 0 && len(c.NoRelay) > 0 {
		set = graph.PathSet(r.node.cfg.Node, to, r.node.enforcer.lastResort(c, now))
	}
	return set
}

// known is the path set inside a fence, computed anew only if something changed that can touch it. A new policy, and so
// another meaning of c, begins anew.
func (r *routes) known(graph *routing.Graph, to string, fence braid.FenceID, policy *enforced, c routing.Constraints) routing.PathSet {
	t := &r.tables
	t.Lock()
	defer t.Unlock()
	if t.policy != policy {
		t.policy, t.of = policy, make(map[braid.FenceID]*routing.Table)
	}
	table := t.of[fence]
	if table == nil {
		table = routing.NewTable(graph, r.node.cfg.Node, c)
		t.of[fence] = table
	}
	table.Update(graph)
	return table.PathSet(to)
}

// handover decides which paths carry traffic while one set replaces another: make before break. live is what did, wanted
// what shall. While may (there is time left), a wanted path that is not ready yet is no reason to let go of one that
// still works: those keep their place, after the wanted ones that are ready. waiting says that it is not finished. Pure but
// for its two questions.
func handover(live, wanted []routing.Path, may bool, ready, usable func(routing.Path) bool) (next []routing.Path, waiting bool) {
	var late []routing.Path
	for _, p := range wanted {
		if containsPath(live, p) || ready(p) {
			next = append(next, p)
		} else {
			late = append(late, p)
		}
	}
	if len(late) == 0 || !may {
		return wanted, false
	}
	for _, p := range live {
		if len(next) < maxPaths && !containsPath(next, p) && usable(p) {
			next, waiting = append(next, p), true
		}
	}
	for _, p := range late {
		if len(next) < maxPaths {
			next = append(next, p)
		}
	}
	return next, waiting
}

// stillUp says whether a path could carry packets: all its links are up, and every relay is in the fence.
func (r *routes) stillUp(g *routing.Graph, p routing.Path, fence braid.FenceID) bool {
	for i := range p.Nodes[1:] {
		l, ok := g.Link(p.Nodes[i], p.Nodes[i+1])
		m, known := r.node.mesh.Lookup(p.Nodes[i+1])
		if !ok || l.Down || !known || !r.node.enforcer.allows(fence, m.Region) {
			return false
		}
	}
	return true
}

func samePaths(a, b []routing.Path) bool {
	return slices.EqualFunc(a, b, func(p, q routing.Path) bool { return slices.Equal(p.Nodes, q.Nodes) })
}

func containsPath(set []routing.Path, p routing.Path) bool {
	return slices.ContainsFunc(set, func(q routing.Path) bool { return slices.Equal(p.Nodes, q.Nodes) })
}

// cut names the links of paths to a peer.
func (r *routes) cut(peer string, paths []braid.Path) (links [][2]string) {
	for _, p := range paths {
		from := r.node.cfg.Node
		for _, relay := range p.Relays {
			name := r.node.nameOf(relay)
			links = append(links, [2]string{from, name})
			from = name
		}
		links = append(links, [2]string{from, peer})
	}
	return links
}

// compact turns names into compact ids.
func (r *routes) compact(paths []routing.Path) []braid.Path {
	var out []braid.Path
	for _, p := range paths {
		out = append(out, r.compactOne(p))
	}
	return out
}

func (r *routes) compactOne(p routing.Path) (path braid.Path) {
	for _, name := range p.Nodes[1 : len(p.Nodes)-1] {
		path.Relays = append(path.Relays, braid.NodeID(identity.NodeID(r.node.id.Mesh, name)))
	}
	return path
}
