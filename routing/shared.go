package routing

import "math/bits"

const (
	// nodeShare outweighs any number of shared risks: a relay that dies takes all paths through it.
	nodeShare = 1 << 20
	// maxSorted bounds the paths considered when risks are weighed; 40 nodes in full mesh have 1,445.
	maxSorted = 4096
	// searchBudget bounds the sets looked at for one question, about 10 ns each.
	searchBudget = 4_000_000
)

// search is branch and bound for the least shared set of n paths, then the cheapest.
type search struct {
	k       []candidate // by rank
	risks   []uint64    // words per candidate
	words   int
	n       int
	floor   int // no set of n shares less
	steps   int
	penalty int // of the best set so far
	cost    int64
	found   [3]int
	any     bool
}

// leastShared returns the set of n paths (fewer if there are fewer) that shares least, then costs least. known is the
// cheapest disjoint set: if it is complete and shares no risk nothing can be better.
func (w *scratch) leastShared(g *Graph, n int, known []candidate) []candidate {
	ends := w.ends
	if len(known) == n && !sharesRisk(g, known, ends) {
		return known
	}
	list := w.kernel
	if g.words > 0 {
		w.sorted = w.cheapest(w.sorted, maxSorted, maxSorted)
		list = w.sorted
	}
	s := search{k: list, words: g.words, n: min(n, len(list)), steps: searchBudget}
	if s.n == 0 {
		return nil
	}
	w.risks = w.risks[:0]
	for _, c := range list {
		for word := range g.words {
			w.risks = append(w.risks, g.unionWord(c, word)&^ends[word])
		}
	}
	s.risks = w.risks
	s.floor = s.lowerBound()
	s.run()
	out := make([]candidate, s.n)
	for i := range out {
		out[i] = s.k[s.found[i]]
	}
	return out
}

func (s *search) of(i int) []uint64 { return s.risks[i*s.words : (i+1)*s.words] }

// lowerBound counts risks that every relayed path has: they are shared by all but one, whatever is chosen.
func (s *search) lowerBound() int {
	relayed, everywhere := s.n, 0
	for word := range s.words {
		common := ^uint64(0)
		for i, c := range s.k {
			if c.x >= 0 {
				common &= s.of(i)[word]
			}
		}
		everywhere += bits.OnesCount64(common)
	}
	for _, c := range s.k {
		if c.x < 0 {
			relayed--
		}
	}
	return everywhere * max(relayed-1, 0)
}

func (s *search) run() {
	for i := range s.k {
		if s.any && s.penalty <= s.floor && int64(s.n)*s.k[i].cost >= s.cost || s.steps <= 0 && s.any {
			return
		}
		if s.n == 1 {
			s.take(0, s.k[i].cost, i, 0, 0)
			return
		}
		s.second(i)
	}
}

func (s *search) second(i int) {
	for j := i + 1; j < len(s.k); j++ {
		cost := s.k[i].cost + s.k[j].cost
		if s.any && s.penalty <= s.floor && cost+int64(s.n-2)*s.k[j].cost >= s.cost || s.steps <= 0 && s.any {
			return
		}
		s.steps--
		penalty := s.pair(i, j)
		if s.n == 2 {
			s.take(penalty, cost, i, j, 0)
		} else if !s.any || penalty <= s.penalty {
			s.third(i, j, penalty, cost)
		}
	}
}

// third tries the last path. Candidates come in order of cost, so the first that adds no sharing ends the scan.
func (s *search) third(i, j, pair int, cost int64) {
	for l := j + 1; l < len(s.k); l++ {
		total := cost + s.k[l].cost
		if s.any && (s.penalty < pair || s.penalty == pair && total >= s.cost) || s.steps <= 0 && s.any {
			return
		}
		s.steps--
		penalty := s.triple(i, j, l)
		s.take(penalty, total, i, j, l)
		if penalty == pair {
			return
		}
	}
}

func (s *search) take(penalty int, cost int64, i, j, l int) {
	if !s.any || penalty < s.penalty || penalty == s.penalty && cost < s.cost {
		s.any, s.penalty, s.cost, s.found = true, penalty, cost, [3]int{i, j, l}
	}
}

// pair is what two paths share: relays, then risks.
func (s *search) pair(i, j int) int {
	shared := nodeShare * sharedNodes(&s.k[i], &s.k[j])
	for word := range s.words {
		shared += bits.OnesCount64(s.of(i)[word] & s.of(j)[word])
	}
	return shared
}

// triple counts a relay or risk of two paths once and one of all three twice.
func (s *search) triple(i, j, l int) int {
	a, b, c := &s.k[i], &s.k[j], &s.k[l]
	shared := sharedNodes(a, b)
	for _, relay := range [2]int32{c.x, c.y} {
		if relay >= 0 && (relay == a.x || relay == a.y || relay == b.x || relay == b.y) {
			shared++ // a third user, or the second: one more either way
		}
	}
	shared *= nodeShare
	for word := range s.words {
		ra, rb, rc := s.of(i)[word], s.of(j)[word], s.of(l)[word]
		shared += bits.OnesCount64(ra&rb) + bits.OnesCount64((ra|rb)&rc)
	}
	return shared
}

func sharedNodes(a, b *candidate) (n int) {
	if a.x >= 0 && (a.x == b.x || a.x == b.y) {
		n++
	}
	if a.y >= 0 && (a.y == b.x || a.y == b.y) {
		n++
	}
	return n
}

// sharesRisk tells whether two of the paths have a risk in common, those of the ends aside.
func sharesRisk(g *Graph, paths []candidate, ends []uint64) bool {
	for word := range g.words {
		var seen uint64
		for _, c := range paths {
			risks := g.unionWord(c, word) &^ ends[word]
			if seen&risks != 0 {
				return true
			}
			seen |= risks
		}
	}
	return false
}
