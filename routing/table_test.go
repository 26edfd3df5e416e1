package routing

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// shake changes one link: its latency, its loss, whether it is down, or a link that was not there before.
func shake(rng *rand.Rand, g *Graph) *Graph {
	links := g.Links()
	l := links[rng.IntN(len(links))]
	switch rng.IntN(5) {
	case 0:
		l.Down = !l.Down
	case 1:
		l.Loss = rng.Float64() * 0.1
	case 2:
		l = Link{From: l.From, To: links[rng.IntN(len(links))].To, Latency: time.Millisecond}
	default:
		l.Latency = time.Duration(1+rng.IntN(30)) * time.Millisecond
	}
	return g.With(l)
}

func TestWithIsANewGraph(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 3))
		g := randomGraph(rng, 12, 0.4, 1)
		before := g.Links()
		h := g
		for range 10 {
			h = shake(rng, h)
		}
		whole := NewGraph(h.Nodes(), h.Links())
		same := func(a, b adjacency) bool { return slices.EqualFunc(a, b, slices.Equal) }
		if !same(h.out, whole.out) || !same(h.in, whole.in) {
			t.Fatalf("seed %d: a graph changed link by link differs from one built at once", seed)
		}
		if !reflect.DeepEqual(g.Links(), before) {
			t.Fatalf("seed %d: the graph that With was called on changed", seed)
		}
	}
}

func TestTableFollowsTheGraph(t *testing.T) {
	kept := 0
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 5))
		g := randomGraph(rng, 10+rng.IntN(20), 0.2+0.5*rng.Float64(), rng.IntN(2))
		if rng.IntN(2) == 0 {
			g = encumber(rng, g)
		}
		if len(g.Links()) == 0 {
			continue
		}
		c := Constraints{AnyRegion: rng.IntN(2) == 0, Regions: []string{"r0", "r1"}, MaxPaths: 1 + rng.IntN(3)}
		table := NewTable(g, name(0), c)
		for range 12 {
			for _, n := range g.nodes {
				got, want := table.PathSet(n.Name), g.PathSet(name(0), n.Name, c)
				if !reflect.DeepEqual(got.Paths, want.Paths) || !reflect.DeepEqual(got.Shared, want.Shared) {
					t.Fatalf("seed %d: to %s the table has %v, the graph says %v", seed, n.Name, got, want)
				}
			}
			g = shake(rng, g)
			kept += len(g.nodes) - table.Update(g)
		}
	}
	if kept < 10_000 {
		t.Errorf("%d sets were kept; the test has lost its point", kept)
	}
}

func TestTableStartsAnewOnAnotherGraph(t *testing.T) {
	g := relayMesh(map[string]int{"a": 10, "b": 11})
	table := NewTable(g, "s", anywhere)
	table.PathSet("t")
	other := relayMesh(map[string]int{"a": 10})
	if table.Update(other) != 1 || len(table.PathSet("t").Paths) != 1 {
		t.Error("the table holds on to a set of another graph")
	}
}

// One link of the mesh changes; the path sets from one node to all others follow.
func BenchmarkUpdate1000(b *testing.B) { benchmarkUpdate(b, false) }

// The worst case: a link of the node itself.
func BenchmarkUpdateOwnLink1000(b *testing.B) { benchmarkUpdate(b, true) }

func benchmarkUpdate(b *testing.B, own bool) {
	g := neighbourGraph(1000, 16)
	rng := rand.New(rand.NewPCG(1, 1))
	self := g.nodes[0].Name
	table := NewTable(g, self, anywhere)
	fill := func() {
		for i := range g.nodes[1:] {
			table.PathSet(g.nodes[i+1].Name)
		}
	}
	fill()
	b.ReportAllocs()
	dropped := 0
	for b.Loop() {
		row := g.links[0]
		if !own {
			row = g.links[1+rng.IntN(len(g.nodes)-1)]
		}
		l := row[rng.IntN(len(row))]
		l.Latency = time.Duration(1e6 + rng.Int64N(150e6))
		g = g.With(l)
		dropped += table.Update(g)
		fill()
	}
	b.ReportMetric(float64(dropped)/float64(b.N), "sets/op")
}
