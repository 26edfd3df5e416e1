package routing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// brutePaths lists all paths by plain recursion over names.
func brutePaths(g *Graph, from, to string, c Constraints) (out [][]string) {
	ok := func(n Node) bool {
		return (c.AnyRegion || slices.Contains(c.Regions, n.Region)) && !slices.Contains(c.Forbid, n.Name)
	}
	byName := make(map[string]Node)
	for _, n := range g.Nodes() {
		byName[n.Name] = n
	}
	if !ok(byName[from]) || !ok(byName[to]) {
		return nil
	}
	next := make(map[string][]string)
	for _, l := range g.Links() {
		if !l.Down && !l.Forbidden && l.Loss < 1 {
			next[l.From] = append(next[l.From], l.To)
		}
	}
	var walk func(path []string)
	walk = func(path []string) {
		for _, n := range next[path[len(path)-1]] {
			switch {
			case n == to:
				out = append(out, append(slices.Clone(path), to))
			case len(path) <= 2 && !slices.Contains(path, n) && ok(byName[n]) && !byName[n].Avoid && !byName[n].Full:
				walk(append(slices.Clone(path), n))
			}
		}
	}
	walk([]string{from})
	return out
}

// score is what a set of paths is judged by, less is better but for count.
type score struct {
	count, nodes, risks int
	costNS              int64
}

func (s score) better(t score) bool {
	switch {
	case s.count != t.count:
		return s.count > t.count
	case s.nodes != t.nodes:
		return s.nodes < t.nodes
	case s.risks != t.risks:
		return s.risks < t.risks
	}
	return s.costNS < t.costNS
}

// pathCost adds up a path from its names: links, and what its relays add.
func pathCost(g *Graph, p []string) (sum int64) {
	for i := 1; i < len(p); i++ {
		l, _ := g.Link(p[i-1], p[i])
		sum += int64(math.Round(l.CostMS() * 1e6))
		if i < len(p)-1 {
			n := g.nodes[g.index[p[i]]]
			load := min(n.Load, 0.98)
			sum += int64(2e6*load*load/(1-load)) + int64(n.Price)
		}
	}
	return max(sum, 1)
}

// scoreOf judges a set from its names alone.
func scoreOf(g *Graph, paths [][]string) score {
	s := score{count: len(paths)}
	nodes, risks := make(map[string]int), make(map[string]int)
	risksOf := func(name string) []string { return g.nodes[g.index[name]].Risks }
	holders := make(map[string]int)
	for _, n := range g.nodes {
		for _, r := range n.Risks {
			holders[r]++
		}
	}
	for _, p := range paths {
		mine := make(map[string]bool)
		s.costNS += pathCost(g, p)
		for i := 1; i < len(p); i++ {
			if i < len(p)-1 {
				nodes[p[i]]++
				for _, r := range risksOf(p[i]) {
					mine[r] = true
				}
			}
		}
		for r := range mine {
			risks[r]++
		}
	}
	for _, n := range nodes {
		s.nodes += n - 1
	}
	for r, n := range risks {
		ends := append(slices.Clone(risksOf(paths[0][0])), risksOf(paths[0][len(paths[0])-1])...)
		if holders[r] > 1 && !slices.Contains(ends, r) {
			s.risks += n - 1
		}
	}
	return s
}

// bruteBest tries every set of up to n paths.
func bruteBest(g *Graph, from, to string, c Constraints, n int) (best score) {
	all := brutePaths(g, from, to, c)
	var try func(chosen [][]string, at int)
	try = func(chosen [][]string, at int) {
		if len(chosen) > 0 {
			if s := scoreOf(g, chosen); s.better(best) {
				best = s
			}
		}
		if len(chosen) == n {
			return
		}
		for i := at; i < len(all); i++ {
			try(append(slices.Clone(chosen), all[i]), i+1)
		}
	}
	try(nil, 0)
	return best
}

// sortedTriples is a second oracle, quick enough for big graphs: all disjoint triples in order of cost, no kernel.
func sortedTriples(g *Graph, from, to string, c Constraints) (costNS int64, ok bool) {
	type path struct {
		relays []string
		cost   int64
	}
	var all []path
	for _, p := range brutePaths(g, from, to, c) {
		all = append(all, path{p[1 : len(p)-1], pathCost(g, p)})
	}
	slices.SortFunc(all, func(a, b path) int { return int(a.cost - b.cost) })
	meet := func(a, b path) bool {
		return slices.ContainsFunc(a.relays, func(r string) bool { return slices.Contains(b.relays, r) })
	}
	best := int64(math.MaxInt64)
	for i := range all {
		for j := i + 1; j < len(all) && all[i].cost+2*all[j].cost < best; j++ {
			if meet(all[i], all[j]) {
				continue
			}
			for k := j + 1; k < len(all) && all[i].cost+all[j].cost+all[k].cost < best; k++ {
				if !meet(all[i], all[k]) && !meet(all[j], all[k]) {
					best = all[i].cost + all[j].cost + all[k].cost
				}
			}
		}
	}
	return best, best < math.MaxInt64
}

// flowArc is an arc of the node-split graph with its residual.
type flowArc struct {
	to, rev   int
	cap, cost int64
}

// minCostFlow is the textbook oracle: nodes split in two, n units of flow, Bellman-Ford on the residual. It knows no
// bound on relays, so its cost is a lower bound, and equal if its paths happen to keep the bound.
func minCostFlow(g *Graph, from, to string, n int) (costNS int64, short, ok bool) {
	arcs := make([][]flowArc, 2*len(g.nodes))
	link := func(a, b int, cost int64) {
		arcs[a] = append(arcs[a], flowArc{b, len(arcs[b]), 1, cost})
		arcs[b] = append(arcs[b], flowArc{a, len(arcs[a]) - 1, 0, -cost})
	}
	for i := range g.nodes {
		link(2*i, 2*i+1, 0)
	}
	for i := range g.nodes {
		for _, e := range g.out.of(int32(i)) {
			link(2*i+1, 2*int(e.node), e.cost)
		}
	}
	source, sink := 2*int(g.index[from])+1, 2*int(g.index[to])
	for range n {
		dist, via := make([]int64, len(arcs)), make([][2]int, len(arcs))
		for i := range dist {
			dist[i] = math.MaxInt64
		}
		dist[source] = 0
		for changed := true; changed; {
			changed = false
			for u := range arcs {
				for i, a := range arcs[u] {
					if a.cap > 0 && dist[u] < math.MaxInt64 && dist[u]+a.cost < dist[a.to] {
						dist[a.to], via[a.to], changed = dist[u]+a.cost, [2]int{u, i}, true
					}
				}
			}
		}
		if dist[sink] == math.MaxInt64 {
			return 0, false, false
		}
		costNS += dist[sink]
		for v := sink; v != source; {
			u, i := via[v][0], via[v][1]
			arcs[u][i].cap--
			arcs[v][arcs[u][i].rev].cap++
			v = u
		}
	}
	return costNS, flowIsShort(arcs, source, sink), true
}

// flowIsShort walks the flow and tells whether every path has at most two relays.
func flowIsShort(arcs [][]flowArc, source, sink int) bool {
	flow := func(u int) (next []int) {
		for _, a := range arcs[u] {
			if a.cost > 0 && a.cap == 0 { // a link in use (links cost at least a nanosecond)
				next = append(next, a.to)
			}
		}
		return next
	}
	for _, v := range flow(source) {
		relays := 0
		for v != sink {
			relays++
			v = flow(v + 1)[0]
		}
		if relays > 2 {
			return false
		}
	}
	return true
}

func name(i int) string { return fmt.Sprintf("n%03d", i) }

// randomGraph has n nodes; each link is there with probability p; risks of them have a share drawn from a few.
func randomGraph(rng *rand.Rand, n int, p float64, risks int) *Graph {
	var nodes []Node
	var links []Link
	for i := range n {
		node := Node{Name: name(i), Region: fmt.Sprintf("r%d", rng.IntN(3)), Avoid: rng.IntN(10) == 0}
		for range risks {
			node.Risks = append(node.Risks, fmt.Sprintf("risk%d", rng.IntN(2+n/3)))
		}
		nodes = append(nodes, node)
		for j := range n {
			if i != j && rng.Float64() < p {
				links = append(links, Link{
					From: name(i), To: name(j), Latency: time.Duration(1+rng.IntN(30)) * time.Millisecond,
					Loss: float64(rng.IntN(2)) * rng.Float64() * 0.05, Down: rng.IntN(20) == 0,
				})
			}
		}
	}
	return NewGraph(nodes, links)
}

func resultScore(g *Graph, set PathSet) score {
	var paths [][]string
	for _, p := range set.Paths {
		paths = append(paths, p.Nodes)
	}
	if len(paths) == 0 {
		return score{}
	}
	return scoreOf(g, paths)
}
