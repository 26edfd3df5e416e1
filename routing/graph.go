package routing

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Node is a node of the mesh as routing sees it.
type Node struct {
	Name, Region string
	Risks        []string // what it shares with others, like "site:fra1" or "provider:acme"
	Avoid        bool     // drained or cordoned: may be an end of a path, never a relay
	Full         bool     // overloaded: no new path goes through it; paths in use leave it one after the other (see Keeper)
	Load         float64  // how busy it is, 0-1 (more is taken as 1); relaying through it costs accordingly

	Price time.Duration // added to paths that it relays, by the operator's bounds; negative for a preference
}

// Link is a directed link with its measured quality.
type Link struct {
	From, To string
	Latency  time.Duration // one-way
	Jitter   time.Duration // mean deviation of the one-way delay
	Loss     float64       // share of packets lost, 0-1; 1 is as good as down
	Load     float64       // share of the link's budget in use, 0-1 (more is taken as 1)
	Down     bool

	Price     time.Duration // added by the operator's bounds; negative for a preference
	Forbidden bool          // by the operator's bounds: no path uses it
}

// Graph is an immutable set of nodes and links. Make it with NewGraph; With makes a changed one that shares what did not change.
type Graph struct {
	nodes []Node           // by name
	index map[string]int32 // name to place in nodes
	links [][]Link         // usable or not, by place of From, then by To

	// Usable links only, by neighbour.
	out, in adjacency
	relay   []int64 // per node: what relaying through it adds to a path, ns

	// Risks that two or more nodes have, as bits: words of node i are risk[i*words:(i+1)*words]. A risk of a single
	// node is left out, because sharing it means sharing the node.
	risk      []uint64
	words     int
	riskNames []string

	scratch *sync.Pool // of *scratch, fit for as many nodes

	line    *lineage   // of the graph that NewGraph made
	changes [][2]int32 // ends of all links that With changed since then; shared, never written in place
}

// lineage tells whether one graph comes from another by With.
type lineage struct{ _ byte }

// maxChanges bounds the changes that a line of graphs remembers; then a new line begins.
const maxChanges = 4096

// adjacency holds the usable links of every node, by one end.
type adjacency [][]edge

type edge struct {
	node int32
	cost int64 // ns
}

func (a adjacency) of(node int32) []edge { return a[node] }

// set puts a link in, or takes it out; the row of its node must not be shared with another graph.
func (a adjacency) set(at, other int32, cost int64, usable bool) {
	i, there := slices.BinarySearchFunc(a[at], other, func(e edge, node int32) int { return cmp.Compare(e.node, node) })
	switch {
	case there && usable:
		a[at][i].cost = cost
	case there:
		a[at] = slices.Delete(a[at], i, i+1)
	case usable:
		a[at] = slices.Insert(a[at], i, edge{other, cost})
	}
}

// NewGraph builds a graph. Of several nodes with one name, or links with the same ends, the last counts. Links whose ends
// are not among the nodes, or are the same, and links whose numbers make no sense (negative, not finite, over an hour)
// are left out: they cannot carry a path.
func NewGraph(nodes []Node, links []Link) *Graph {
	g := &Graph{nodes: lastOf(nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) }), line: &lineage{}}
	n := len(g.nodes)
	g.index = make(map[string]int32, n)
	g.relay = make([]int64, n)
	for i := range g.nodes {
		g.index[g.nodes[i].Name] = int32(i)
		g.relay[i] = g.nodes[i].relayCost()
	}
	g.links = make([][]Link, n)
	for i := range links {
		if at, _, ok := g.ends(&links[i]); ok {
			g.links[at] = append(g.links[at], links[i])
		}
	}
	for at, row := range g.links {
		g.links[at] = lastOf(row, func(a, b Link) int { return cmp.Compare(a.To, b.To) })
	}
	g.connect()
	g.indexRisks()
	g.scratch = &sync.Pool{New: func() any { return &scratch{toEnd: make([]int64, n), degree: make([]int32, n)} }}
	return g
}

// ends finds the places of a link's ends; not ok if it can carry no path, ever.
func (g *Graph) ends(l *Link) (from, to int32, ok bool) {
	from, okFrom := g.index[l.From]
	to, okTo := g.index[l.To]
	return from, to, okFrom && okTo && from != to && l.sane()
}

// connect fills the adjacencies. Rows come out by neighbour, because nodes and links are sorted by name.
func (g *Graph) connect() {
	g.out, g.in = make(adjacency, len(g.nodes)), make(adjacency, len(g.nodes))
	for from, row := range g.links {
		g.out[from] = make([]edge, 0, len(row))
		for i := range row {
			if l := &row[i]; l.usable() {
				to, cost := g.index[l.To], l.cost()
				g.out[from] = append(g.out[from], edge{to, cost})
				g.in[to] = append(g.in[to], edge{int32(from), cost})
			}
		}
	}
}

// lastOf returns a sorted copy in which the last of equal elements stands for all of them.
func lastOf[T any](in []T, compare func(a, b T) int) []T {
	out := slices.Clone(in)
	slices.Reverse(out)
	slices.SortStableFunc(out, compare)
	return slices.CompactFunc(out, func(a, b T) bool { return compare(a, b) == 0 })
}

// With returns a graph in which the given links are as given: changed or new. A link that went away is given with Down. Links
// that NewGraph would leave out stay as they are. It costs as much as the nodes and the rows that change, not as the graph.
func (g *Graph) With(links ...Link) *Graph {
	next := *g
	if len(g.changes) > maxChanges {
		next.line, next.changes = &lineage{}, nil
	}
	next.changes = slices.Clip(next.changes) // another graph may have come from g
	next.links, next.out, next.in = slices.Clone(g.links), slices.Clone(g.out), slices.Clone(g.in)
	own := make(map[int32]bool) // rows that are no longer shared: from counted from 0, to from below 0
	for i := range links {
		l := &links[i]
		from, to, ok := g.ends(l)
		if !ok {
			continue
		}
		if !own[from] {
			own[from] = true
			next.links[from], next.out[from] = slices.Clone(next.links[from]), slices.Clone(next.out[from])
		}
		if !own[^to] {
			own[^to] = true
			next.in[to] = slices.Clone(next.in[to])
		}
		next.changes = append(next.changes, [2]int32{from, to})
		at, there := next.find(from, l.To)
		if !there {
			next.links[from] = slices.Insert(next.links[from], at, *l)
		}
		next.links[from][at] = *l
		next.out.set(from, to, l.cost(), l.usable())
		next.in.set(to, from, l.cost(), l.usable())
	}
	return &next
}

// WithNodes returns a graph in which nodes have another state: Avoid, Full, Load and Price are taken, for nodes that are there.
func (g *Graph) WithNodes(nodes ...Node) *Graph {
	next := *g
	next.nodes, next.relay = slices.Clone(g.nodes), slices.Clone(g.relay)
	next.line, next.changes = &lineage{}, nil // every path set may differ
	for _, n := range nodes {
		if at, ok := g.index[n.Name]; ok {
			to := &next.nodes[at]
			to.Avoid, to.Full, to.Load, to.Price = n.Avoid, n.Full, n.Load, n.Price
			next.relay[at] = to.relayCost()
		}
	}
	return &next
}

// find returns where a link is in the row of its start, or where it would be.
func (g *Graph) find(from int32, to string) (at int, there bool) {
	return slices.BinarySearchFunc(g.links[from], to, func(l Link, to string) int { return cmp.Compare(l.To, to) })
}

func (g *Graph) indexRisks() {
	count := make(map[string]int)
	for _, n := range g.nodes {
		risks := slices.Sorted(slices.Values(n.Risks))
		for _, r := range slices.Compact(risks) {
			count[r]++
		}
	}
	bit := make(map[string]int)
	for r, c := range count {
		if c > 1 {
			g.riskNames = append(g.riskNames, r)
		}
	}
	slices.Sort(g.riskNames)
	for i, r := range g.riskNames {
		bit[r] = i
	}
	g.words = (len(g.riskNames) + 63) / 64
	g.risk = make([]uint64, g.words*len(g.nodes))
	for i, n := range g.nodes {
		for _, r := range n.Risks {
			if b, ok := bit[r]; ok {
				g.risk[i*g.words+b/64] |= 1 << (b % 64)
			}
		}
	}
}

// risksOf returns the risk bits of a node; nil for no node (-1).
func (g *Graph) risksOf(node int32) []uint64 {
	if node < 0 {
		return nil
	}
	return g.risk[int(node)*g.words : (int(node)+1)*g.words]
}

// Has reports whether the graph has a node of that name.
func (g *Graph) Has(name string) bool {
	_, ok := g.index[name]
	return ok
}

// Nodes returns the nodes, sorted by name. The slice is the caller's.
func (g *Graph) Nodes() []Node { return slices.Clone(g.nodes) }

// Links returns all links, those that are down too, sorted by From and To. The slice is the caller's.
func (g *Graph) Links() []Link { return slices.Concat(g.links...) }

// Link returns one link.
func (g *Graph) Link(from, to string) (Link, bool) {
	at, ok := g.index[from]
	if !ok {
		return Link{}, false
	}
	i, ok := g.find(at, to)
	if !ok {
		return Link{}, false
	}
	return g.links[at][i], true
}

// Node returns one node.
func (g *Graph) Node(name string) (Node, bool) {
	at, ok := g.index[name]
	if !ok {
		return Node{}, false
	}
	return g.nodes[at], true
}
