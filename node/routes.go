package node

import (
	"context"
	"sync"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/routing"
)

const (
	maxPaths  = 3
	maxRelays = 2
	// routeSpread collects changes of the mesh before path sets are computed again.
	routeSpread = 50 * time.Millisecond
	// routeTick computes them again even without a change, so that a gain that lasts is taken.
	routeTick = time.Second
)

// routes turns the mesh's graph and the policy's fences into the braid's path sets, with hysteresis.
type routes struct {
	node *Node

	mu   sync.Mutex
	sets map[routeKey]*route // guarded by mu

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
	keeper routing.Keeper
	set    routing.PathSet
	used   time.Time
}

func newRoutes(n *Node) *routes { return &routes{node: n, sets: make(map[routeKey]*route)} }

// run asks the braid to look at its paths again whenever the mesh changed.
func (r *routes) run(ctx context.Context) error {
	tick := time.NewTicker(routeTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.node.mesh.Changed():
			r.node.showMembers()
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(routeSpread):
			}
		}
		r.node.showMembers()
		r.forget()
		r.node.memory.observe(r.node.mesh.Members(), time.Now())
		r.node.control.Wake()
		r.node.braid.Refresh()
	}
}

// forget drops path sets that nobody asked for in a minute.
func (r *routes) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, v := range r.sets {
		if time.Since(v.used) > time.Minute {
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

// paths implements braid.Config.Paths: best first, at most three, inside the fence or none.
func (r *routes) paths(peer braid.NodeID, fence braid.FenceID) []braid.Path {
	m, ok := r.node.member(peer)
	if !ok {
		return nil
	}
	regions := r.node.enforcer.regions(fence)
	if len(regions) == 0 {
		return nil // no app of the policy has this fence: no way, rather than a wrong one
	}
	graph := r.graph()
	fresh := graph.PathSet(r.node.cfg.Node, m.Node, routing.Constraints{MaxPaths: maxPaths, MaxRelays: maxRelays, Regions: regions})
	r.mu.Lock()
	k := routeKey{peer, fence}
	kept := r.sets[k]
	if kept == nil {
		kept = &route{}
		r.sets[k] = kept
	}
	now := time.Now()
	kept.used = now
	if graph.Has(m.Node) { // else gossip has dropped the peer a moment ago: its paths stay until links or time tell
		kept.set = kept.keeper.Keep(now, kept.set, fresh, graph)
	}
	set := kept.set
	r.mu.Unlock()
	return r.compact(set)
}

// compact turns names into compact ids.
func (r *routes) compact(set routing.PathSet) []braid.Path {
	var out []braid.Path
	for _, p := range set.Paths {
		var path braid.Path
		for _, name := range p.Nodes[1 : len(p.Nodes)-1] {
			path.Relays = append(path.Relays, braid.NodeID(identity.NodeID(r.node.id.Mesh, name)))
		}
		out = append(out, path)
	}
	return out
}
