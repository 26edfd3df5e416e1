package pace

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Whatever the caps, demands and losses of paths: no cap is exceeded, nothing is negative, and the estimate covers what was
// granted.
func TestDealNeverExceedsACap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	some := func() float64 {
		if rng.IntN(2) == 0 {
			return 0 // open
		}
		return floorRate + 5e6*rng.Float64()
	}
	for range 5000 {
		var c Control
		c.node.cap = some()
		for range 1 + rng.IntN(5) {
			f := c.NewFlow()
			var paths []*Path
			for range 1 + rng.IntN(3) {
				p := f.NewPath(uint32(rng.IntN(4)))
				p.rate.cap, p.usable = some(), rng.IntN(5) > 0
				paths = append(paths, p)
			}
			f.SetPaths(paths)
			f.rate.cap = some()
			f.Offer(3e6*rng.Float64(), 2*rng.Float64())
		}
		for _, l := range c.links {
			l.rate.cap = some()
		}
		c.deal()
		checkDeal(t, &c)
	}
}

func checkDeal(t *testing.T, c *Control) {
	t.Helper()
	const slack = 1.0
	node := 0.0
	links := map[*Link]float64{}
	for _, f := range c.flows {
		sum, needed := 0.0, 0.0
		for _, p := range f.paths {
			g := p.grant
			if g.Needed < 0 || g.Copies < 0 || math.IsNaN(g.Needed+g.Copies) {
				t.Fatalf("a grant of %v", g)
			}
			// The needed copy may burst into whatever room is left; on average it takes its demand.
			take := min(g.Needed, f.demand)
			needed += take
			if !math.IsInf(g.Copies, 1) {
				take += g.Copies
			}
			if take > p.rate.Cap()+slack {
				t.Fatalf("path: %.0f of %.0f", take, p.rate.Cap())
			}
			sum += take
			links[p.link] += take
		}
		if sum > f.rate.Cap()+slack {
			t.Fatalf("flow: %.0f of %.0f", sum, f.rate.Cap())
		}
		if f.estimate < needed-slack {
			t.Fatalf("an estimate of %.0f, granted %.0f", f.estimate, needed)
		}
		node += sum
	}
	for l, sum := range links {
		if sum > l.rate.Cap()+slack {
			t.Fatalf("first hop: %.0f of %.0f", sum, l.rate.Cap())
		}
	}
	if node > c.node.Cap()+slack {
		t.Fatalf("node: %.0f of %.0f", node, c.node.Cap())
	}
}

func TestWaterLevel(t *testing.T) {
	for _, c := range []struct {
		wants []float64
		room  float64
		level float64
	}{
		{nil, 10, math.Inf(1)},
		{[]float64{3, 4}, 10, math.Inf(1)},
		{[]float64{8, 2, 8}, 10, 4},
		{[]float64{8, 8}, 0, 0},
	} {
		if got := waterLevel(c.wants, c.room); got != c.level {
			t.Errorf("%v in %v: level %v, want %v", c.wants, c.room, got, c.level)
		}
	}
}
