package routing

import (
	"cmp"
	"slices"
)

// candidate is a path between the two nodes in question: its relays in order, -1 where there is none.
type candidate struct {
	cost int64
	x, y int32
}

func (c *candidate) relays() []int32 {
	switch {
	case c.x < 0:
		return nil
	case c.y < 0:
		return []int32{c.x}
	}
	return []int32{c.x, c.y}
}

// rank orders candidates totally: by cost, then by the names of their relays, fewer first.
func (c candidate) rank(d candidate) int {
	return cmp.Or(cmp.Compare(c.cost, d.cost), cmp.Compare(c.x, d.x), cmp.Compare(c.y, d.y))
}

// touches tells whether two paths share a relay.
func (c *candidate) touches(d *candidate) bool {
	return c.x >= 0 && (c.x == d.x || c.x == d.y) || c.y >= 0 && (c.y == d.x || c.y == d.y)
}

// scratch is the memory of one question, reused for the next.
type scratch struct {
	all    []candidate // every path, unordered
	heap   []candidate // a copy that disjoint takes apart
	kernel []candidate
	toEnd  []int64 // per node: cost of its link to the end, 0 = none
	degree []int32 // per node: kept candidates that touch it

	sorted []candidate // shared.go
	risks  []uint64    // shared.go: words per candidate of sorted
	ends   []uint64    // risks of the two ends, which do not count
}

// collect lists every path from s to t inside the constraints: the direct link, one relay, two relays.
func (w *scratch) collect(g *Graph, s, t int32, c Constraints) {
	w.all, w.ends = w.all[:0], w.ends[:0]
	for word := range g.words {
		w.ends = append(w.ends, g.risksOf(s)[word]|g.risksOf(t)[word])
	}
	for _, e := range g.in.of(t) {
		w.toEnd[e.node] = e.cost
	}
	if direct := w.toEnd[s]; direct > 0 && !c.cuts(g.nodes[s].Name, g.nodes[t].Name) {
		w.all = append(w.all, candidate{direct, -1, -1})
	}
	if relays := c.maxRelays(); relays > 0 {
		w.collectRelayed(g, s, t, &c, relays)
	}
	for _, e := range g.in.of(t) {
		w.toEnd[e.node] = 0
	}
}

func (w *scratch) collectRelayed(g *Graph, s, t int32, c *Constraints, relays int) {
	for _, first := range g.out.of(s) {
		x := first.node
		if x == t || !c.invitesRelay(g.nodes[x]) || c.cuts(g.nodes[s].Name, g.nodes[x].Name) {
			continue
		}
		start := first.cost + g.relay[x]
		if last := w.toEnd[x]; last > 0 && !c.cuts(g.nodes[x].Name, g.nodes[t].Name) {
			w.all = append(w.all, candidate{max(start+last, int64(minCost)), x, -1})
		}
		if relays < 2 {
			continue
		}
		for _, second := range g.out.of(x) {
			y := second.node
			last := w.toEnd[y]
			if last == 0 || y == s || y == t || !c.invitesRelay(g.nodes[y]) || c.cutsAfter(g, x, y, t) {
				continue
			}
			w.all = append(w.all, candidate{max(start+second.cost+g.relay[y]+last, int64(minCost)), x, y})
		}
	}
}

// cutsAfter tells whether one of the two links behind the first relay may not be used.
func (c *Constraints) cutsAfter(g *Graph, x, y, t int32) bool {
	return len(c.Cut) > 0 && (c.cuts(g.nodes[x].Name, g.nodes[y].Name) || c.cuts(g.nodes[y].Name, g.nodes[t].Name))
}

// A binary heap by rank: building it costs less than sorting, and mostly a few dozen of the cheapest are all it takes.

func heapify(h []candidate) {
	for i := len(h)/2 - 1; i >= 0; i-- {
		siftDown(h, i)
	}
}

// popCheapest moves the cheapest candidate to the end of h and returns the shorter heap and it.
func popCheapest(h []candidate) ([]candidate, candidate) {
	last := len(h) - 1
	h[0], h[last] = h[last], h[0]
	siftDown(h[:last], 0)
	return h[:last], h[last]
}

func siftDown(h []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].rank(h[child]) < 0 {
			child++
		}
		if h[i].rank(h[child]) <= 0 {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// cheapest fills out with the candidates of the heap in order of rank, keeping those that touch no node more than degree
// times before, until there are limit of them (the direct path is not counted).
func (w *scratch) cheapest(out []candidate, degree int32, limit int) []candidate {
	w.heap = append(w.heap[:0], w.all...)
	heapify(w.heap)
	out = out[:0]
	var c candidate
	for h := w.heap; len(h) > 0 && limit > 0; {
		h, c = popCheapest(h)
		if c.x < 0 {
			out = append(out, c)
			continue
		}
		if w.degree[c.x] >= degree || c.y >= 0 && w.degree[c.y] >= degree {
			continue
		}
		w.degree[c.x]++
		if c.y >= 0 {
			w.degree[c.y]++
		}
		out = append(out, c)
		limit--
	}
	for _, c := range out {
		for _, node := range c.relays() {
			w.degree[node] = 0
		}
	}
	return w.withDirect(out)
}

// withDirect adds the direct path where it was too dear to be reached: no other path can stand in for it.
func (w *scratch) withDirect(out []candidate) []candidate {
	if len(w.all) == 0 || w.all[0].x >= 0 || slices.Contains(out, w.all[0]) {
		return out
	}
	return append(out, w.all[0]) // dearer than all others, so the order holds
}
