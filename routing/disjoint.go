package routing

// Bounds of the kernel for three paths. The other two paths touch at most four relays. Ten candidates at a relay lead to
// five different places at least (two relays may be passed in both orders), so one of them leads away from those four;
// and four relays with ten candidates each block at most forty, so of 41 candidates one is free. Whatever lies outside
// can thus be exchanged for something cheaper inside that shares no more. The same holds if relays must be shared.
const (
	kernelDegree = 10
	kernelSize   = 41
)

// disjoint returns the cheapest set of up to n paths that share no relay, with as many paths as there are.
// The result is valid until the scratch is used again.
func (w *scratch) disjoint(n int) []candidate {
	w.kernel = w.cheapest(w.kernel, kernelDegree, kernelSize)
	for ; n > 0; n-- {
		if best := cheapestDisjoint(w.kernel, n); best != nil {
			return best
		}
	}
	return nil
}

// cheapestDisjoint tries all sets of n (1-3) candidates, which are in order of rank, cutting what cannot win.
func cheapestDisjoint(k []candidate, n int) []candidate {
	best := int64(-1)
	var found [3]int
	worse := func(cost int64) bool { return best >= 0 && cost >= best }
	for i := 0; i < len(k) && !worse(int64(n)*k[i].cost); i++ {
		if n == 1 {
			return []candidate{k[i]}
		}
		for j := i + 1; j < len(k) && !worse(k[i].cost+int64(n-1)*k[j].cost); j++ {
			if k[i].touches(&k[j]) {
				continue
			}
			if n == 2 {
				best, found = k[i].cost+k[j].cost, [3]int{i, j}
				break
			}
			for l := j + 1; l < len(k) && !worse(k[i].cost+k[j].cost+k[l].cost); l++ {
				if !k[i].touches(&k[l]) && !k[j].touches(&k[l]) {
					best, found = k[i].cost+k[j].cost+k[l].cost, [3]int{i, j, l}
					break
				}
			}
		}
	}
	if best < 0 {
		return nil
	}
	out := make([]candidate, n)
	for i := range out {
		out[i] = k[found[i]]
	}
	return out
}
