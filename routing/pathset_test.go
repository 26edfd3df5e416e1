package routing

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"
)

var anywhere = Constraints{AnyRegion: true}

// Every graph of five nodes, as far as it matters between n000 and n001: 13 possible links, 8,192 graphs.
func TestAllSmallGraphs(t *testing.T) {
	var possible [][2]int
	for i := range 5 {
		for j := range 5 {
			if i != j && i != 1 && j != 0 {
				possible = append(possible, [2]int{i, j})
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	nodes := make([]Node, 5)
	for i := range nodes {
		nodes[i] = Node{Name: name(i), Region: "r", Risks: []string{fmt.Sprint(i % 2)}}
	}
	for mask := range 1 << len(possible) {
		var links []Link
		for b, ends := range possible {
			if mask>>b&1 == 1 {
				links = append(links, Link{From: name(ends[0]), To: name(ends[1]), Latency: time.Duration(1+rng.IntN(9)) * time.Millisecond})
			}
		}
		if mask%2 == 0 { // half of them without risks
			for i := range nodes {
				nodes[i].Risks = nil
			}
		} else {
			for i := range nodes {
				nodes[i].Risks = []string{fmt.Sprint(i % 2)}
			}
		}
		g := NewGraph(nodes, links)
		got, want := resultScore(g, g.PathSet(name(0), name(1), anywhere)), bruteBest(g, name(0), name(1), anywhere, 3)
		if got != want {
			t.Fatalf("graph %d %v: got %+v, brute force %+v", mask, links, got, want)
		}
	}
}

func TestRandomGraphsAgainstBruteForce(t *testing.T) {
	for seed := range uint64(1500) {
		rng := rand.New(rand.NewPCG(seed, 7))
		g := randomGraph(rng, 2+rng.IntN(5), 0.3+0.7*rng.Float64(), rng.IntN(3))
		g = encumber(rng, g)
		c := Constraints{MaxPaths: rng.IntN(4), MaxRelays: 0, AnyRegion: rng.IntN(2) == 0, Regions: []string{"r0", "r1"}}
		if rng.IntN(3) == 0 {
			c.Forbid = []string{name(rng.IntN(8))}
		}
		got, want := resultScore(g, g.PathSet(name(0), name(1), c)), bruteBest(g, name(0), name(1), c, c.maxPaths())
		if got != want {
			t.Fatalf("seed %d, %+v: got %+v, brute force %+v", seed, c, got, want)
		}
	}
}

// Up to 40 nodes without risks: exact for the bound of two relays, never below the flow, equal where the flow keeps it.
func TestFortyNodesAgainstOracles(t *testing.T) {
	equal := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 9))
		n := 10 + rng.IntN(31)
		g := randomGraph(rng, n, 0.15+0.5*rng.Float64(), 0)
		for i := range g.nodes {
			g.nodes[i].Avoid = false // the flow does not know it
		}
		got := resultScore(g, g.PathSet(name(0), name(1), anywhere))
		if want, ok := sortedTriples(g, name(0), name(1), anywhere); ok && (got.costNS != want || got.nodes != 0) {
			t.Fatalf("seed %d: got %+v, best triple costs %d ns", seed, got, want)
		} else if !ok && got.count == 3 && got.nodes == 0 {
			t.Fatalf("seed %d: three disjoint paths where the oracle finds none", seed)
		}
		flow, short, ok := minCostFlow(g, name(0), name(1), 3)
		if got.count < 3 || got.nodes > 0 {
			continue
		}
		if !ok || flow > got.costNS || short && flow != got.costNS {
			t.Fatalf("seed %d: got %d ns, flow %d ns (within two relays: %v)", seed, got.costNS, flow, short)
		}
		if short {
			equal++
		}
	}
	if equal < 10 {
		t.Fatalf("the flow oracle applied to %d graphs only; the test has lost its point", equal)
	}
}

// With risks at 40 nodes the search must finish inside its budget and find what an unbounded one finds.
func TestRisksAtFortyNodes(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 11))
		g := randomGraph(rng, 40, 1, 2)
		w := g.scratch.Get().(*scratch)
		w.collect(g, 0, 1, anywhere)
		known := w.disjoint(3)
		found := w.leastShared(g, 3, known)
		s := search{k: w.sorted, words: g.words, n: 3, steps: math.MaxInt, risks: w.risks}
		if len(w.sorted) == 0 {
			continue // the cheapest set shared no risk
		}
		s.run()
		var gotCost, wantCost int64
		for i, c := range found {
			gotCost, wantCost = gotCost+c.cost, wantCost+s.k[s.found[i]].cost
		}
		if gotCost != wantCost {
			t.Errorf("seed %d: %d ns, without a budget %d ns", seed, gotCost, wantCost)
		}
	}
}

// A plausible matrix of 32 regions: points on a sphere, fibre at 1.3 to 2.2 times the great circle.
func cloudMatrix() *Graph {
	rng := rand.New(rand.NewPCG(32, 32))
	type point struct{ lat, lon float64 }
	points := make([]point, 32)
	for i := range points {
		points[i] = point{rng.Float64()*100 - 35, rng.Float64()*360 - 180}
	}
	var nodes []Node
	var links []Link
	for i, a := range points {
		nodes = append(nodes, Node{Name: name(i), Region: name(i)})
		for j, b := range points {
			rad := math.Pi / 180
			cos := math.Sin(a.lat*rad)*math.Sin(b.lat*rad) + math.Cos(a.lat*rad)*math.Cos(b.lat*rad)*math.Cos((a.lon-b.lon)*rad)
			km := 6371 * math.Acos(min(cos, 1)) * (1.3 + 0.9*rng.Float64())
			if i != j {
				links = append(links, Link{From: name(i), To: name(j), Latency: time.Duration(km / 200 * 1e6)})
			}
		}
	}
	return NewGraph(nodes, links)
}

// All pairs of a matrix of 32 regions against an oracle that tries all triples; of a measured one too, a file as tern routes
// takes it: TERN_MATRIX=rtt.csv go test ./routing -run CloudMatrix -v.
func TestCloudMatrixIsOptimalForAllPairs(t *testing.T) {
	optimalForAllPairs(t, cloudMatrix())
	if file := os.Getenv("TERN_MATRIX"); file != "" {
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		g, err := ReadGraph(in)
		if err != nil {
			t.Fatal(err)
		}
		optimalForAllPairs(t, g)
	}
}

func optimalForAllPairs(t *testing.T, g *Graph) {
	pairs := 0
	for i, a := range g.nodes {
		for j, b := range g.nodes {
			if i == j || testing.Short() && (i+j)%8 != 0 {
				continue
			}
			pairs++
			set := g.PathSet(a.Name, b.Name, anywhere)
			want, _ := sortedTriples(g, a.Name, b.Name, anywhere)
			if got := resultScore(g, set); got.costNS != want || !set.Disjoint || len(set.Paths) != 3 {
				t.Fatalf("%s to %s: %+v, optimum %d ns", a.Name, b.Name, got, want)
			}
		}
	}
	t.Logf("%d nodes, %d pairs: all at the optimum", len(g.nodes), pairs)
}

func link(from, to string, ms int) Link {
	return Link{From: from, To: to, Latency: time.Duration(ms) * time.Millisecond}
}

func nodesOf(names ...string) (out []Node) {
	for _, n := range names {
		out = append(out, Node{Name: n, Region: "eu"})
	}
	return out
}

func hops(set PathSet) (out [][]string) {
	for _, p := range set.Paths {
		out = append(out, p.Nodes)
	}
	return out
}

// The trap: the cheapest path uses both relays that two disjoint paths need one each of.
func TestTrapTopology(t *testing.T) {
	g := NewGraph(nodesOf("s", "x", "y", "t"), []Link{
		link("s", "x", 1), link("x", "y", 1), link("y", "t", 1), link("s", "y", 10), link("x", "t", 10),
	})
	set := g.PathSet("s", "t", Constraints{AnyRegion: true, MaxPaths: 2})
	if want := [][]string{{"s", "x", "t"}, {"s", "y", "t"}}; !reflect.DeepEqual(hops(set), want) || !set.Disjoint {
		t.Fatalf("got %v disjoint %v; want %v", hops(set), set.Disjoint, want)
	}
	three := g.PathSet("s", "t", anywhere)
	if three.Disjoint || !slices.Equal(three.Shared, []string{"x", "y"}) || len(three.Paths) != 3 {
		t.Fatalf("three paths can only be had by sharing x and y; got %v sharing %v", hops(three), three.Shared)
	}
}

func TestSharedRiskIsAvoidedElseNamed(t *testing.T) {
	nodes := nodesOf("s", "a", "b", "c", "t")
	for i, risk := range []string{"", "provider:one", "provider:one", "provider:two", ""} {
		nodes[i].Risks = []string{risk, "site:" + nodes[i].Name}
	}
	links := []Link{link("s", "a", 1), link("a", "t", 1), link("s", "b", 1), link("b", "t", 1), link("s", "c", 50), link("c", "t", 50)}
	set := NewGraph(nodes, links).PathSet("s", "t", Constraints{AnyRegion: true, MaxPaths: 2})
	if want := [][]string{{"s", "a", "t"}, {"s", "c", "t"}}; !reflect.DeepEqual(hops(set), want) || !set.Disjoint {
		t.Fatalf("got %v sharing %v; want %v sharing nothing", hops(set), set.Shared, want)
	}
	set = NewGraph(nodes, links).PathSet("s", "t", anywhere)
	if len(set.Paths) != 3 || set.Disjoint || !slices.Equal(set.Shared, []string{"provider:one"}) {
		t.Fatalf("got %v, disjoint %v, sharing %v; want all three, sharing provider:one", hops(set), set.Disjoint, set.Shared)
	}
}

func TestHardLimits(t *testing.T) {
	nodes := []Node{{Name: "s", Region: "eu"}, {Name: "t", Region: "eu"}, {Name: "in", Region: "eu"}, {Name: "out", Region: "us"},
		{Name: "drained", Region: "eu", Avoid: true}}
	var links []Link
	for _, relay := range []string{"in", "out", "drained"} {
		links = append(links, link("s", relay, 1), link(relay, "t", 1))
	}
	links = append(links, Link{From: "s", To: "t", Latency: time.Millisecond, Down: true})
	g := NewGraph(nodes, links)
	for _, c := range []struct {
		story    string
		from, to string
		c        Constraints
		want     [][]string
	}{
		{"anywhere: the drained node and the dead link stay out", "s", "t", anywhere, [][]string{{"s", "in", "t"}, {"s", "out", "t"}}},
		{"inside the fence", "s", "t", Constraints{Regions: []string{"eu"}}, [][]string{{"s", "in", "t"}}},
		{"no fence given allows nothing", "s", "t", Constraints{}, nil},
		{"an end outside the fence", "s", "out", Constraints{Regions: []string{"eu"}}, nil},
		{"forbidden relay", "s", "t", Constraints{AnyRegion: true, Forbid: []string{"in"}}, [][]string{{"s", "out", "t"}}},
		{"forbidden end", "s", "t", Constraints{AnyRegion: true, Forbid: []string{"t"}}, nil},
		{"direct only", "s", "in", Constraints{AnyRegion: true, MaxRelays: -1}, [][]string{{"s", "in"}}},
		{"a drained node may be an end", "s", "drained", anywhere, [][]string{{"s", "drained"}}},
		{"unknown node", "s", "nobody", anywhere, nil},
		{"to itself", "s", "s", anywhere, nil},
	} {
		set := g.PathSet(c.from, c.to, c.c)
		if got := hops(set); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.story, got, c.want)
		}
		if set.Disjoint != (len(c.want) > 0) {
			t.Errorf("%s: disjoint is %v with %d paths", c.story, set.Disjoint, len(c.want))
		}
	}
}

func TestEqualCostsGoToNames(t *testing.T) {
	nodes := nodesOf("s", "e", "d", "c", "b", "a", "t")
	var links []Link
	for _, r := range nodes[1:6] {
		links = append(links, link("s", r.Name, 5), link(r.Name, "t", 5))
	}
	want := [][]string{{"s", "a", "t"}, {"s", "b", "t"}, {"s", "c", "t"}}
	rng := rand.New(rand.NewPCG(3, 3))
	for range 20 {
		rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
		rng.Shuffle(len(links), func(i, j int) { links[i], links[j] = links[j], links[i] })
		if got := hops(NewGraph(nodes, links).PathSet("s", "t", anywhere)); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v in any order of input", got, want)
		}
	}
}

func TestCost(t *testing.T) {
	for _, c := range []struct {
		l    Link
		want float64
	}{
		{Link{Latency: 40 * time.Millisecond}, 40},
		{Link{Latency: 40 * time.Millisecond, Jitter: 3 * time.Millisecond}, 46},
		{Link{Latency: 25 * time.Millisecond, Loss: 0.5}, 25 + 100},
		{Link{Latency: 10 * time.Millisecond, Load: 0.5}, 11},
		{Link{Latency: 10 * time.Millisecond, Load: 0.9}, 10 + 16.2},
		{Link{}, 1e-6},
	} {
		if got := c.l.CostMS(); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%+v costs %g ms, want %g", c.l, got, c.want)
		}
	}
	nonsense := []Link{{Latency: -1}, {Latency: 2 * time.Hour}, {Loss: math.NaN()}, {Loss: 1.1}, {Load: math.Inf(1)}, {Load: -1}, {Jitter: -1}}
	for _, l := range nonsense {
		l.From, l.To = "a", "b"
		if g := NewGraph(nodesOf("a", "b"), []Link{l}); len(g.Links()) != 0 {
			t.Errorf("%+v was taken for a link", l)
		}
	}
}

func neighbourGraph(n, degree int) *Graph {
	rng := rand.New(rand.NewPCG(200, 32))
	var nodes []Node
	var links []Link
	for i := range n {
		nodes = append(nodes, Node{Name: name(i), Region: name(i % 20), Risks: []string{"site:" + name(i%50), "provider:" + name(i%5)}})
		for _, j := range rng.Perm(n)[:degree] {
			if i != j {
				l := Link{From: name(i), To: name(j), Latency: time.Duration(1e6 + rng.Int64N(150e6)), Loss: rng.Float64() * 0.01}
				links = append(links, l, Link{From: l.To, To: l.From, Latency: l.Latency})
			}
		}
	}
	return NewGraph(nodes, links)
}

// All path sets of one node in a mesh of 200 with 32 neighbours each (16 drawn, and those that drew it).
func BenchmarkAllPathSets200(b *testing.B) { benchmarkAll(b, neighbourGraph(200, 16)) }

func BenchmarkAllPathSets1000(b *testing.B) { benchmarkAll(b, neighbourGraph(1000, 16)) }

func BenchmarkAllPathSets200NoRisks(b *testing.B) {
	g := neighbourGraph(200, 16)
	nodes := g.Nodes()
	for i := range nodes {
		nodes[i].Risks = nil
	}
	benchmarkAll(b, NewGraph(nodes, g.Links()))
}

func benchmarkAll(b *testing.B, g *Graph) {
	b.ReportAllocs()
	for b.Loop() {
		for _, n := range g.nodes[1:] {
			g.PathSet(g.nodes[0].Name, n.Name, anywhere)
		}
	}
}

// encumber gives nodes loads and puts a graph under random bounds.
func encumber(rng *rand.Rand, g *Graph) *Graph {
	nodes := g.Nodes()
	for i := range nodes {
		nodes[i].Load, nodes[i].Full = rng.Float64()*float64(rng.IntN(2)), rng.IntN(12) == 0
	}
	var bounds []Bound
	place := func() string { return []string{"", name(rng.IntN(6)), "region:r1"}[rng.IntN(3)] }
	for range rng.IntN(4) {
		b := Bound{From: place(), To: place(), Use: []string{"", UsePrefer, UseAvoid, UseForbid}[rng.IntN(4)]}
		if rng.IntN(2) == 0 {
			b = Bound{Relay: place(), Use: b.Use}
		}
		b.Price = time.Duration(rng.IntN(20)) * time.Millisecond
		bounds = append(bounds, b)
	}
	return NewGraph(nodes, g.Links()).Under(bounds)
}

func TestBoundsOfTheOperator(t *testing.T) {
	nodes := nodesOf("s", "a", "b", "t")
	nodes[1].Region = "us"
	g := NewGraph(nodes, []Link{link("s", "t", 20), link("s", "a", 10), link("a", "t", 10), link("s", "b", 12), link("b", "t", 12)})
	one := Constraints{AnyRegion: true, MaxPaths: 1}
	direct, viaA, viaB := [][]string{{"s", "t"}}, [][]string{{"s", "a", "t"}}, [][]string{{"s", "b", "t"}}
	for _, c := range []struct {
		story  string
		bounds []Bound
		want   [][]string
	}{
		{"none: equal costs go to fewer relays", nil, direct},
		{"a preferred relay may be dearer", []Bound{{Relay: "b", Use: UsePrefer}}, viaB},
		{"a preferred link", []Bound{{From: "a", To: "t", Use: UsePrefer}}, viaA},
		{"a price moves traffic away", []Bound{{From: "s", To: "t", Price: time.Millisecond}}, viaA},
		{"prices of all fitting bounds add up", []Bound{{From: "s", To: "t", Price: 3 * time.Millisecond}, {From: "s", To: "t", Price: 2 * time.Millisecond}, {Relay: "region:us", Price: 5 * time.Millisecond}}, viaB},
		{"what is to be avoided is still a way", []Bound{{From: "s", Use: UseAvoid}}, direct},
		{"forbidden link and relay", []Bound{{From: "s", To: "t", Use: UseForbid}, {Relay: "region:us", Use: UseForbid}}, viaB},
		{"all links forbidden", []Bound{{From: "s", Use: UseForbid}}, nil},
	} {
		if got := hops(g.Under(c.bounds).PathSet("s", "t", one)); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.story, got, c.want)
		}
	}
	if all := g.Under([]Bound{{Relay: "a", Use: UseAvoid}}).PathSet("s", "t", anywhere); len(all.Paths) != 3 || all.Paths[2].Nodes[1] != "a" {
		t.Errorf("an avoided relay is the last resort, not gone: %v", hops(all))
	}
}
