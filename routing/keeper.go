package routing

import (
	"cmp"
	"hash/fnv"
	"slices"
	"time"
)

const (
	// gainShare and gainMS are what a new set must save, over all its paths, to be worth a change: three paths that are a
	// little dear do less harm than paths that come and go.
	gainShare = 0.45
	gainMS    = 5.0
	// leadShare and leadMS are what the first path of a new set must save to be worth a change alone: packets arrive as fast
	// as the fastest path, whatever the others cost.
	leadShare = 0.30
	leadMS    = 10.0
	// gainHold is how long the gain must last, at least.
	gainHold = 6 * time.Second
	// patienceMost is more than it takes until everybody knows a relay's new load.
	patienceMost = 9 * time.Second
)

// PatienceOf spreads pairs over patienceMost, the same pair always alike. When a relay turns cheap or fills up, its users come
// and go one after the other and see what the ones before them did, instead of all at once.
func PatienceOf(from, to string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(from + "\x00" + to))
	return time.Duration(h.Sum64()%uint64(patienceMost/time.Millisecond)) * time.Millisecond
}

// Keeper is the hysteresis of one path set: it holds on to the set in use until a better one has stayed better. The zero
// value is ready. It is not safe for concurrent use.
//
//	path in use gone, or more paths than before  -> change now, keeping what still holds of the old set
//	shares less, or saves 45 % and 5 ms          -> change after 6 s and Patience of it without a break
//	its first path saves 30 % and 10 ms          -> the same, but only that path moves in
//	otherwise                                    -> keep
type Keeper struct {
	// Patience is how much longer than 6 s a gain must last for this pair; see PatienceOf.
	Patience time.Duration

	since time.Time // when the gain was first seen; zero: there is none
}

// Keep chooses between old, the set in use, and fresh, just computed on g by PathSet. The set returned has costs as of g;
// a kept set keeps its order, so that the places of paths stay. A path is gone if a link of it is absent or down, a relay
// is to be avoided, or the constraints that fresh was computed under forbid it.
func (k *Keeper) Keep(now time.Time, old, fresh PathSet, g *Graph) PathSet {
	alive := g.surviving(old, fresh.under)
	if len(old.Paths) == 0 || len(alive) < len(old.Paths) || len(fresh.Paths) > len(old.Paths) {
		k.since = time.Time{}
		return g.mend(alive, fresh)
	}
	current := g.describe(alive, fresh.under)
	whole := gains(current, fresh)
	if !whole && !leads(current, fresh) {
		k.since = time.Time{}
		return current
	}
	if k.since.IsZero() {
		k.since = now
	}
	if now.Sub(k.since) < gainHold+k.Patience {
		return current
	}
	k.since = time.Time{}
	if whole {
		return fresh
	}
	return g.mend(follow(fresh.Paths[0], current.Paths), fresh)
}

// follow puts lead before those of paths that go on beside it, as many in all as there were: the dearest makes room.
func follow(lead Path, paths []Path) []Path {
	rest := slices.DeleteFunc(slices.Clone(paths), func(p Path) bool { return collide(lead, p) })
	if len(rest) == len(paths) {
		dearest := slices.MaxFunc(rest, func(p, q Path) int { return cmp.Compare(p.CostMS, q.CostMS) })
		rest = slices.DeleteFunc(rest, func(p Path) bool { return slices.Equal(p.Nodes, dearest.Nodes) })
	}
	return append([]Path{lead}, rest...)
}

// leads tells whether the first path of fresh is enough better than all of current, if that lasts.
func leads(current, fresh PathSet) bool {
	if len(fresh.Paths) < len(current.Paths) || len(fresh.Shared) > len(current.Shared) {
		return false
	}
	before := slices.MinFunc(current.Paths, func(p, q Path) int { return cmp.Compare(p.CostMS, q.CostMS) }).CostMS
	after := fresh.Paths[0].CostMS
	return before-after >= leadMS && after <= before*(1-leadShare)
}

// gains tells whether fresh is enough of an improvement over the set in use, if it lasts.
func gains(current, fresh PathSet) bool {
	if len(fresh.Paths) < len(current.Paths) {
		return false
	}
	have, want := len(current.Shared), len(fresh.Shared)
	if have != want {
		return want < have
	}
	before, after := totalCost(current.Paths), totalCost(fresh.Paths)
	return before-after >= gainMS && after <= before*(1-gainShare)
}

func totalCost(paths []Path) (sum float64) {
	for _, p := range paths {
		sum += p.CostMS
	}
	return sum
}

// surviving returns the paths of a set that may still be used, with their costs as of g.
func (g *Graph) surviving(set PathSet, under *Constraints) (alive []Path) {
	if under == nil {
		under = &Constraints{} // nothing is known to be allowed
	}
	for _, p := range set.Paths {
		if cost, ok := g.costOf(p.Nodes, under); ok {
			alive = append(alive, Path{Nodes: p.Nodes, CostMS: milliseconds(cost)})
		}
	}
	return alive
}

// Admitted returns those of paths that fresh's constraints and the operator's bounds allow on g, though links of them be down:
// what is left to try while no path is up. Cut links count as down ones. A path with a node or a link that g does not know is
// not among them: nothing says that it would be allowed.
func (g *Graph) Admitted(paths []Path, fresh PathSet) (out []Path) {
	if fresh.under == nil {
		return nil
	}
	for _, p := range paths {
		if g.admitted(p.Nodes, fresh.under) {
			out = append(out, p)
		}
	}
	return out
}

func (g *Graph) admitted(names []string, c *Constraints) bool {
	if len(names) < 2 || len(names)-2 > c.maxRelays() {
		return false
	}
	for i, name := range names {
		at, known := g.index[name]
		if !known || !c.admits(g.nodes[at]) || i > 0 && i < len(names)-1 && !c.admitsRelay(g.nodes[at]) {
			return false
		}
		if i == 0 {
			continue
		}
		if l, known := g.Link(names[i-1], name); !known || l.Forbidden {
			return false
		}
	}
	return true
}

// costOf adds up the links of a path, if all are there and the constraints allow it.
func (g *Graph) costOf(names []string, c *Constraints) (sum int64, ok bool) {
	if len(names) < 2 || len(names)-2 > c.maxRelays() {
		return 0, false
	}
	for i, name := range names {
		at, known := g.index[name]
		end := i == 0 || i == len(names)-1
		if !known || !c.admits(g.nodes[at]) || !end && !c.admitsRelay(g.nodes[at]) {
			return 0, false
		}
		if i == 0 {
			continue
		}
		if !end {
			sum += g.relay[at]
		}
		l, known := g.Link(names[i-1], name)
		if !known || !l.usable() || c.cuts(names[i-1], name) {
			return 0, false
		}
		sum += l.cost()
	}
	return max(sum, int64(minCost)), true
}

// mend keeps the surviving paths and fills up with fresh ones that are disjoint from them. Where that comes out with fewer
// paths, more sharing, or at a cost that the hysteresis would not bear, it is fresh as it stands.
func (g *Graph) mend(alive []Path, fresh PathSet) PathSet {
	paths := slices.Clone(alive)
	for _, p := range fresh.Paths {
		if len(paths) < len(fresh.Paths) && !slices.ContainsFunc(paths, func(q Path) bool { return collide(p, q) }) {
			paths = append(paths, p)
		}
	}
	mended := g.describe(paths, fresh.under)
	if len(paths) != len(fresh.Paths) || gains(mended, fresh) {
		return fresh
	}
	return mended
}

// collide tells whether two paths share a relay, or are the same.
func collide(p, q Path) bool {
	relays := q.Nodes[1 : len(q.Nodes)-1]
	return slices.Equal(p.Nodes, q.Nodes) ||
		slices.ContainsFunc(p.Nodes[1:len(p.Nodes)-1], func(n string) bool { return slices.Contains(relays, n) })
}

// describe makes a set of paths that are all in the graph.
func (g *Graph) describe(paths []Path, under *Constraints) PathSet {
	set := PathSet{Paths: paths, under: under}
	if len(paths) == 0 {
		return set
	}
	found := make([]candidate, len(paths))
	for i, p := range paths {
		found[i] = candidate{x: -1, y: -1}
		if len(p.Nodes) > 2 {
			found[i].x = g.index[p.Nodes[1]]
		}
		if len(p.Nodes) > 3 {
			found[i].y = g.index[p.Nodes[2]]
		}
	}
	ends := paths[0].Nodes
	set.Shared = g.sharedOf(g.index[ends[0]], g.index[ends[len(ends)-1]], found)
	set.Disjoint = len(set.Shared) == 0
	return set
}
