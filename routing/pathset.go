package routing

import "slices"

const (
	defaultPaths  = 3
	defaultRelays = 2
)

// Constraints are hard limits: what does not fit inside them has no path.
type Constraints struct {
	MaxPaths  int      // 1-3; zero or more: 3
	MaxRelays int      // relays per path, 1-2; zero or more: 2; negative: direct paths only
	Regions   []string // the fence: regions that a path may touch, both ends included; nil allows none
	AnyRegion bool     // no fence; Regions is ignored
	Forbid    []string // nodes that no path touches, the ends included
	NoRelay   []string // nodes that may be ends, never relays: drained ones
	// NoNewRelay are nodes that relay on paths in use already and on no others: cordoned ones.
	NoNewRelay []string
	// Cut are links, from and to, that no path uses, whatever their measurements say.
	Cut [][2]string
}

// Path is one way from ingress to egress.
type Path struct {
	Nodes  []string `json:"nodes"`   // from, relays, to
	CostMS float64  `json:"cost_ms"` // expected one-way delay in milliseconds (see cost.go)
}

// PathSet is the answer to Graph.PathSet; the zero value has no path.
type PathSet struct {
	Paths    []Path
	Disjoint bool     // there is a path, and no two share a relay or a risk
	Shared   []string // names of the relays, then of the risks, that two paths share

	under *Constraints // what the set was computed under; Keeper holds the set in use to it
}

// PathSet returns the best path set between two nodes inside the constraints; see the package comment for what best is.
// Paths are ordered by cost, then names. No path is not an error: the set is empty.
func (g *Graph) PathSet(from, to string, c Constraints) PathSet {
	c = c.clone()
	w := g.scratch.Get().(*scratch)
	defer g.scratch.Put(w)
	return g.solve(w, from, to, &c, nil)
}

// solve is PathSet with memory and constraints of the caller's, and without one path if ban is given; w holds all paths
// afterwards.
func (g *Graph) solve(w *scratch, from, to string, c *Constraints, ban *candidate) PathSet {
	set := PathSet{under: c}
	w.all = w.all[:0]
	s, okFrom := g.index[from]
	t, okTo := g.index[to]
	if !okFrom || !okTo || s == t || !c.admits(g.nodes[s]) || !c.admits(g.nodes[t]) {
		return set
	}
	w.collect(g, s, t, *c)
	if ban != nil {
		w.all = slices.DeleteFunc(w.all, func(c candidate) bool { return c.x == ban.x && c.y == ban.y })
	}
	n := c.maxPaths()
	best := w.disjoint(n)
	if len(best) < n || g.words > 0 {
		best = w.leastShared(g, n, best)
	}
	set.Paths = make([]Path, len(best))
	for i, cand := range best {
		set.Paths[i] = g.path(s, t, cand)
	}
	set.Shared = g.sharedOf(s, t, best)
	set.Disjoint = len(best) > 0 && len(set.Shared) == 0
	return set
}

func (c Constraints) clone() Constraints {
	c.Regions, c.Forbid = slices.Clone(c.Regions), slices.Clone(c.Forbid)
	c.NoRelay, c.NoNewRelay, c.Cut = slices.Clone(c.NoRelay), slices.Clone(c.NoNewRelay), slices.Clone(c.Cut)
	return c
}

func (c *Constraints) maxPaths() int {
	if c.MaxPaths <= 0 || c.MaxPaths > defaultPaths {
		return defaultPaths
	}
	return c.MaxPaths
}

func (c *Constraints) maxRelays() int {
	if c.MaxRelays == 0 || c.MaxRelays > defaultRelays {
		return defaultRelays
	}
	return max(c.MaxRelays, 0)
}

// admits tells whether a path may touch the node at all.
func (c *Constraints) admits(n Node) bool {
	return (c.AnyRegion || slices.Contains(c.Regions, n.Region)) && !slices.Contains(c.Forbid, n.Name)
}

// admitsRelay tells whether a path in use may pass through the node.
func (c *Constraints) admitsRelay(n Node) bool {
	return !n.Avoid && c.admits(n) && !slices.Contains(c.NoRelay, n.Name)
}

// cuts tells whether no path may use the link.
func (c *Constraints) cuts(from, to string) bool {
	return len(c.Cut) > 0 && slices.Contains(c.Cut, [2]string{from, to})
}

// invitesRelay tells whether a new path may.
func (c *Constraints) invitesRelay(n Node) bool {
	return !n.Full && c.admitsRelay(n) && !slices.Contains(c.NoNewRelay, n.Name)
}

func (g *Graph) path(s, t int32, c candidate) Path {
	nodes := make([]string, 0, 4)
	nodes = append(nodes, g.nodes[s].Name)
	for _, relay := range c.relays() {
		nodes = append(nodes, g.nodes[relay].Name)
	}
	return Path{Nodes: append(nodes, g.nodes[t].Name), CostMS: milliseconds(c.cost)}
}

// sharedOf names what two or more of the paths have in common.
func (g *Graph) sharedOf(s, t int32, paths []candidate) (names []string) {
	var nodes []int32
	risks := make(map[int]int)
	for _, c := range paths {
		nodes = append(nodes, c.relays()...)
		for b := range g.riskNames {
			word, bit := b/64, uint64(1)<<(b%64)
			ends := g.risksOf(s)[word] | g.risksOf(t)[word]
			if ends&bit == 0 && g.unionWord(c, word)&bit != 0 {
				risks[b]++
			}
		}
	}
	slices.Sort(nodes)
	for i := 1; i < len(nodes); i++ {
		if nodes[i] == nodes[i-1] && (i == 1 || nodes[i] != nodes[i-2]) {
			names = append(names, g.nodes[nodes[i]].Name)
		}
	}
	for b, name := range g.riskNames {
		if risks[b] > 1 {
			names = append(names, name)
		}
	}
	return names
}

// unionWord returns one word of the risks that a path's relays have.
func (g *Graph) unionWord(c candidate, word int) (bits uint64) {
	for _, relay := range c.relays() {
		bits |= g.risksOf(relay)[word]
	}
	return bits
}
