package ebpf

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// crowds is a blocklist with entries everywhere, and with many side by side in one IPv4 /16 and one IPv6 /64.
func crowds() Rules {
	rules, _ := sampleCases()
	return rules
}

// edges draws addresses at, before and behind the edges of rules.
func edges(rules []netip.Prefix, r *rand.Rand) netip.Addr {
	p := rules[r.IntN(len(rules))]
	first, last := span(p)
	a := []netip.Addr{p.Addr(), p.Addr().Prev(), p.Addr().Next(), addrOf(last, p.Addr().Is4())}[r.IntN(4)]
	if next, ok := after(last); ok && r.IntN(4) == 0 {
		a = addrOf(next, p.Addr().Is4())
	}
	if !a.IsValid() {
		return addrOf(first, p.Addr().Is4())
	}
	return a
}

func addrOf(w wide, v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{byte(w.lo >> 24), byte(w.lo >> 16), byte(w.lo >> 8), byte(w.lo)})
	}
	var a [16]byte
	for i := range 8 {
		a[i], a[8+i] = byte(w.hi>>(56-8*i)), byte(w.lo>>(56-8*i))
	}
	return netip.AddrFrom16(a)
}

// What the index leads to is what a search through all steps finds, and little is left to search.
func TestIndexFindsWhatASearchOfAllStepsFinds(t *testing.T) {
	r := rand.New(rand.NewPCG(rand.Uint64(), 5))
	rules := crowds()
	table := compile(rules)
	seen := map[int32]bool{}
	longest := map[bool]uint64{}
	for range 200_000 {
		a := edges(rules.Blocklist, r)
		s, w := &table.v6, words(a)
		if a.Is4() {
			s, w = &table.v4, wide{hi: w.lo & 0xffffffff}
		}
		i, exact := slices.BinarySearchFunc(s.start, w, func(x, y wide) int {
			switch {
			case x.less(y):
				return -1
			case y.less(x):
				return 1
			}
			return 0
		})
		if !exact {
			i--
		}
		got := s.find(w)
		if got != s.rule[i] {
			t.Fatalf("%v: step with rule %d, want %d", a, got, s.rule[i])
		}
		seen[got] = true
		_, n := s.near(w)
		longest[a.Is4()] = max(longest[a.Is4()], n)
	}
	t.Logf("nodes %d and %d, slots %d and %d, most steps left %v (true: IPv4), rules met %d",
		len(table.v4.nodes), len(table.v6.nodes), len(table.v4.jump), len(table.v6.jump), longest, len(seen))
	if longest[true] > 4*crowded || longest[false] > 4*crowded || len(seen) < 50_000 {
		t.Errorf("most steps left to search %v, rules met %d", longest, len(seen))
	}
}

// Addresses at every power of two make the narrowest nodes and the deepest index.
func TestIndexOfPowersOfTwo(t *testing.T) {
	var rules Rules
	for i := range 128 {
		var w wide
		if w.lo = 1 << i; i > 63 {
			w = wide{hi: 1 << (i - 64)}
		}
		rules.Blocklist = append(rules.Blocklist, netip.PrefixFrom(addrOf(w, false), 128))
		if i < 32 {
			rules.Blocklist = append(rules.Blocklist, netip.PrefixFrom(addrOf(w, true), 32))
		}
	}
	table := compile(rules)
	for _, p := range rules.Blocklist {
		if got, ok := table.Blocked(p.Addr()); !ok || got != p {
			t.Errorf("%v: %v %v", p, got, ok)
		}
		for _, near := range []netip.Addr{p.Addr().Next(), p.Addr().Prev()} {
			if got, ok := table.Blocked(near); ok != slices.Contains(rules.Blocklist, netip.PrefixFrom(near, near.BitLen())) {
				t.Errorf("beside %v: %v %v", p, got, ok)
			}
		}
	}
}
