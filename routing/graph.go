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

// Graph is an immutable set of nodes and links. Make it with NewGraph.
type Graph struct {
	nodes []Node           // by name
	index map[string]int32 // name to place in nodes
	links []Link           // usable or not, by (From, To)

	// Usable links only: those of node i are edges[first[i]:first[i+1]], by neighbour.
	out, in adjacency
	relay   []int64 // per node: what relaying through it adds to a path, ns

	// Risks that two or more nodes have, as bits: words of node i are risk[i*words:(i+1)*words]. A risk of a single
	// node is left out, because sharing it means sharing the node.
	risk      []uint64
	words     int
	riskNames []string

	scratch sync.Pool // *scratch
}

type adjacency struct {
	first []int32
	edges []edge
}

type edge struct {
	node int32
	cost int64 // ns
}

func (a *adjacency) of(node int32) []edge { return a.edges[a.first[node]:a.first[node+1]] }

// NewGraph builds a graph. Of several nodes with one name, or links with the same ends, the last counts. Links whose ends
// are not among the nodes, or are the same, and links whose numbers make no sense (negative, not finite, over an hour)
// are left out: they cannot carry a path.
func NewGraph(nodes []Node, links []Link) *Graph {
	g := &Graph{nodes: lastOf(nodes, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })}
	g.index = make(map[string]int32, len(g.nodes))
	for i, n := range g.nodes {
		g.index[n.Name] = int32(i)
	}
	g.links = lastOf(links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	g.links = slices.DeleteFunc(g.links, func(l Link) bool {
		return l.From == l.To || !g.Has(l.From) || !g.Has(l.To) || !l.sane()
	})
	g.out = g.adjacency(func(l Link) (int32, int32) { return g.index[l.From], g.index[l.To] })
	g.in = g.adjacency(func(l Link) (int32, int32) { return g.index[l.To], g.index[l.From] })
	g.relay = make([]int64, len(g.nodes))
	for i, n := range g.nodes {
		g.relay[i] = n.relayCost()
	}
	g.indexRisks()
	g.scratch.New = func() any { return &scratch{toEnd: make([]int64, len(g.nodes)), degree: make([]int32, len(g.nodes))} }
	return g
}

// lastOf returns a sorted copy in which the last of equal elements stands for all of them.
func lastOf[T any](in []T, compare func(a, b T) int) []T {
	out := slices.Clone(in)
	slices.Reverse(out)
	slices.SortStableFunc(out, compare)
	return slices.CompactFunc(out, func(a, b T) bool { return compare(a, b) == 0 })
}

// adjacency lists the usable links by one end. The links are sorted by both names, so neighbours come out sorted too.
func (g *Graph) adjacency(ends func(Link) (at, other int32)) adjacency {
	a := adjacency{first: make([]int32, len(g.nodes)+1)}
	for _, l := range g.links {
		if l.usable() {
			at, _ := ends(l)
			a.first[at+1]++
		}
	}
	for i := range g.nodes {
		a.first[i+1] += a.first[i]
	}
	a.edges = make([]edge, a.first[len(g.nodes)])
	next := slices.Clone(a.first)
	for _, l := range g.links {
		if l.usable() {
			at, other := ends(l)
			a.edges[next[at]] = edge{other, l.cost()}
			next[at]++
		}
	}
	return a
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
func (g *Graph) Links() []Link { return slices.Clone(g.links) }

// Link returns one link.
func (g *Graph) Link(from, to string) (Link, bool) {
	i, ok := slices.BinarySearchFunc(g.links, [2]string{from, to}, func(l Link, ends [2]string) int {
		return cmp.Or(cmp.Compare(l.From, ends[0]), cmp.Compare(l.To, ends[1]))
	})
	if !ok {
		return Link{}, false
	}
	return g.links[i], true
}
