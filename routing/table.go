package routing

import "math"

// Table keeps the path sets from one node inside one set of constraints, and after a change of some links computes only those
// anew that the change can touch. Its answers are those of Graph.PathSet. It is not safe for concurrent use.
type Table struct {
	from  string
	under Constraints
	g     *Graph
	sets  map[string]*kept // by target
	reach []int64          // scratch of improved: by node, the cheapest way through the link; 0: none
}

// kept is an answer, and what tells that it still holds.
type kept struct {
	set    PathSet
	total  int64 // cost of the set, ns
	second int64 // the last of the n-1 cheapest paths, ...
	floor  int64 // ... and their sum: no set with another path costs less than that path and floor
}

// NewTable makes a table that is filled as it is asked. The constraints are copied.
func NewTable(g *Graph, from string, c Constraints) *Table {
	return &Table{from: from, under: c.clone(), g: g, sets: make(map[string]*kept)}
}

// PathSet returns the path set to a node on the table's graph.
func (t *Table) PathSet(to string) PathSet {
	if k := t.sets[to]; k != nil {
		return k.set
	}
	w := t.g.scratch.Get().(*scratch)
	defer t.g.scratch.Put(w)
	k := &kept{set: t.g.solve(w, t.from, to, &t.under, nil)}
	k.measure(w.all, t.under.maxPaths())
	t.sets[to] = k
	return k.set
}

// measure notes the costs that touched needs.
func (k *kept) measure(all []candidate, n int) {
	low := [defaultPaths]int64{math.MaxInt64 / 4, math.MaxInt64 / 4, math.MaxInt64 / 4}
	for i := range all {
		cost := all[i].cost
		for j := range n - 1 {
			if cost < low[j] {
				cost, low[j] = low[j], cost
			}
		}
	}
	for _, cost := range low[:n-1] {
		k.floor += cost
		k.second = cost
	}
	for _, p := range k.set.Paths {
		k.total += int64(math.Round(p.CostMS * 1e6))
	}
}

// Update moves the table to another graph. If that came from the table's own by With, answers that hold are kept; otherwise
// all are computed anew when asked for. It returns how many it dropped.
func (t *Table) Update(g *Graph) (dropped int) {
	old := t.g
	if old == g {
		return 0
	}
	t.g = g
	before := len(t.sets)
	if g.line != old.line || len(g.changes) < len(old.changes) {
		clear(t.sets)
		return before
	}
	s, ok := g.index[t.from]
	if !ok {
		return 0 // there is nothing but empty sets
	}
	for _, ends := range g.changes[len(old.changes):] {
		was, had := old.out.cost(ends[0], ends[1])
		is, has := g.out.cost(ends[0], ends[1])
		switch {
		case has && (!had || is < was):
			t.improved(s, ends[0], ends[1], is)
		case had && (!has || is > was):
			t.worsened(ends[0], ends[1])
		}
	}
	return before - len(t.sets)
}

// Forget drops the answer for a target that is not asked for any more.
func (t *Table) Forget(to string) { delete(t.sets, to) }

// cost of a usable link.
func (a adjacency) cost(from, to int32) (int64, bool) {
	for _, e := range a[from] {
		if e.node == to {
			return e.cost, true
		}
	}
	return 0, false
}

// worsened drops the sets that use a link: all others are still the best, since only their rivals got worse.
func (t *Table) worsened(from, to int32) {
	u, v := t.g.nodes[from].Name, t.g.nodes[to].Name
	for target, k := range t.sets {
		if k.uses(u, v) {
			delete(t.sets, target)
		}
	}
}

func (k *kept) uses(u, v string) bool {
	for _, p := range k.set.Paths {
		for i := 1; i < len(p.Nodes); i++ {
			if p.Nodes[i-1] == u && p.Nodes[i] == v {
				return true
			}
		}
	}
	return false
}

// improved drops the sets that the cheapest path over a link (u,v) might enter.
func (t *Table) improved(s, u, v int32, cost int64) {
	t.reach = append(t.reach[:0], make([]int64, len(t.g.nodes))...)
	switch first, near := t.g.out.cost(s, u); {
	case u == s:
		t.offer(v, cost)
		t.onward(v, cost+t.g.relay[v], 2)
	case near:
		t.offer(v, first+t.g.relay[u]+cost)
		t.onward(v, first+t.g.relay[u]+cost+t.g.relay[v], 1)
		t.approach(s, u, v, cost)
	default:
		t.approach(s, u, v, cost)
	}
	for target, k := range t.sets {
		at, known := t.g.index[target]
		if way := t.reach[max(at, 0)]; known && way != 0 && k.mayTake(max(way, int64(minCost)), t.under.maxPaths()) {
			delete(t.sets, target)
		}
	}
}

// offer notes a way to a node. Ways may come out below nothing by preferences; PathSet counts those as minCost.
func (t *Table) offer(to int32, cost int64) {
	if cost = max(cost, int64(minCost)); t.reach[to] == 0 || cost < t.reach[to] {
		t.reach[to] = cost
	}
}

// onward follows up to hops links.
func (t *Table) onward(at int32, cost int64, hops int) {
	for _, e := range t.g.out.of(at) {
		t.offer(e.node, cost+e.cost)
		if hops > 1 {
			t.onward(e.node, cost+e.cost+t.g.relay[e.node], hops-1)
		}
	}
}

// approach finds the ways by one relay to a link whose end is the target.
func (t *Table) approach(s, u, v int32, cost int64) {
	for _, e := range t.g.in.of(u) {
		if first, ok := t.g.out.cost(s, e.node); ok {
			t.offer(v, first+t.g.relay[e.node]+e.cost+t.g.relay[u]+cost)
		}
	}
}

// mayTake tells whether a path of that cost could be in a better set of n, or in one as good that wins by its names.
func (k *kept) mayTake(cost int64, n int) bool {
	return len(k.set.Paths) < n || !k.set.Disjoint || cost < k.second || cost+k.floor <= k.total
}
