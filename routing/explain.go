package routing

import "slices"

// Rival is the best path set that is not the answer: it has the paths of the set but one, or other ones altogether.
type Rival struct {
	PathSet
	Without Path // the path of the answer that it does without
	Instead Path // the path that it has and the answer has not; the zero Path if it has none
}

// NextBest returns the best of all sets that lack at least one path of set, which is PathSet's answer to the same question. It
// says why the answer is the answer: the rival has fewer paths, shares more, or costs more. ok is false if there is none.
func (g *Graph) NextBest(from, to string, c Constraints, set PathSet) (best Rival, ok bool) {
	c = c.clone()
	w := g.scratch.Get().(*scratch)
	defer g.scratch.Put(w)
	for _, p := range set.Paths {
		ban := g.candidateOf(p)
		rival := Rival{PathSet: g.solve(w, from, to, &c, &ban), Without: p}
		if len(rival.Paths) == 0 || ok && !g.better(rival.PathSet, best.PathSet) {
			continue
		}
		for _, q := range rival.Paths {
			if !slices.ContainsFunc(set.Paths, func(p Path) bool { return slices.Equal(p.Nodes, q.Nodes) }) {
				rival.Instead = q
			}
		}
		best, ok = rival, true
	}
	return best, ok
}

// better compares path sets between the same ends by what PathSet judges them by.
func (g *Graph) better(a, b PathSet) bool {
	if len(a.Paths) != len(b.Paths) {
		return len(a.Paths) > len(b.Paths)
	}
	if x, y := g.sharing(a), g.sharing(b); x != y {
		return x < y
	}
	return totalCost(a.Paths) < totalCost(b.Paths)
}

// sharing counts what paths share as search does: every user but the first, relays far above risks.
func (g *Graph) sharing(set PathSet) (sum int) {
	users := make(map[string]int)
	for _, p := range set.Paths {
		mine := make(map[string]bool)
		for _, relay := range p.Nodes[1 : len(p.Nodes)-1] {
			if users[relay]++; users[relay] > 1 {
				sum += nodeShare
			}
			for _, risk := range g.nodes[g.index[relay]].Risks {
				mine["risk "+risk] = slices.Contains(set.Shared, risk)
			}
		}
		for risk, shared := range mine {
			if users[risk]++; shared && users[risk] > 1 {
				sum++
			}
		}
	}
	return sum
}

// candidateOf is a path as places; its cost is not set.
func (g *Graph) candidateOf(p Path) candidate {
	c := candidate{x: -1, y: -1}
	if len(p.Nodes) > 2 {
		c.x = g.index[p.Nodes[1]]
	}
	if len(p.Nodes) > 3 {
		c.y = g.index[p.Nodes[2]]
	}
	return c
}

// Part is a link or a relay of a path, and what it adds to the cost, in milliseconds.
type Part struct {
	From, To                          string // the same for a relay
	DelayMS, JitterMS, LossMS, RestMS float64
}

// Parts takes the cost of a path of this graph apart: delay, what jitter adds, what loss adds, and the rest (load and the
// operator's bounds).
func (g *Graph) Parts(p Path) (out []Part) {
	for i := 1; i < len(p.Nodes); i++ {
		l, _ := g.Link(p.Nodes[i-1], p.Nodes[i])
		part := Part{From: l.From, To: l.To, DelayMS: milliseconds(int64(l.Latency)), JitterMS: jitterWeight * milliseconds(int64(l.Jitter))}
		bare := Link{Latency: l.Latency, Loss: l.Loss}
		part.LossMS = bare.CostMS() - part.DelayMS
		part.RestMS = l.CostMS() - part.DelayMS - part.JitterMS - part.LossMS
		out = append(out, part)
		if relay, ok := g.index[p.Nodes[i]]; ok && i < len(p.Nodes)-1 && g.relay[relay] != 0 {
			out = append(out, Part{From: p.Nodes[i], To: p.Nodes[i], RestMS: milliseconds(g.relay[relay])})
		}
	}
	return out
}

// RuledOut says which nodes, apart from the ends, new paths may not pass through, and why: "outside of the fence", "forbidden",
// "drained", "cordoned", "full", "does not relay".
func (g *Graph) RuledOut(from, to string, c Constraints) map[string]string {
	out := make(map[string]string)
	for _, n := range g.nodes {
		if n.Name == from || n.Name == to || c.invitesRelay(n) {
			continue
		}
		switch {
		case slices.Contains(c.Forbid, n.Name):
			out[n.Name] = "forbidden"
		case !c.admits(n):
			out[n.Name] = "outside of the fence"
		case slices.Contains(c.NoRelay, n.Name):
			out[n.Name] = "drained"
		case slices.Contains(c.NoNewRelay, n.Name):
			out[n.Name] = "cordoned"
		case n.Full:
			out[n.Name] = "full"
		default:
			out[n.Name] = "does not relay"
		}
	}
	return out
}
