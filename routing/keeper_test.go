package routing

import (
	"reflect"
	"testing"
	"time"
)

// mesh is s and t with four relays; ms gives the latency of both links of each relay, negative: down.
func relayMesh(ms map[string]int) *Graph {
	nodes := nodesOf("s", "t")
	var links []Link
	for relay, v := range ms {
		nodes = append(nodes, Node{Name: relay, Region: "eu"})
		down := v < 0
		l, r := link("s", relay, max(v, -v)), link(relay, "t", max(v, -v))
		l.Down, r.Down = down, down
		links = append(links, l, r)
	}
	return NewGraph(nodes, links)
}

func TestKeeperStory(t *testing.T) {
	var k Keeper
	var inUse PathSet
	start := time.Unix(0, 0)
	abc := [][]string{{"s", "a", "t"}, {"s", "b", "t"}, {"s", "c", "t"}}
	for _, step := range []struct {
		at     time.Duration
		story  string
		ms     map[string]int
		forbid []string
		want   [][]string
	}{
		{0, "the first set is taken at once", map[string]int{"a": 10, "b": 11, "c": 12, "d": 30}, nil, abc},
		{1 * time.Second, "1 ms is not worth a change", map[string]int{"a": 10, "b": 11, "c": 12, "d": 11}, nil, abc},
		{20 * time.Second, "not even after long", map[string]int{"a": 10, "b": 11, "c": 12, "d": 11}, nil, abc},
		{21 * time.Second, "a big gain waits", map[string]int{"a": 10, "b": 11, "c": 40, "d": 11}, nil, abc},
		{23 * time.Second, "still waits", map[string]int{"a": 10, "b": 11, "c": 40, "d": 11}, nil, abc},
		{23500 * time.Millisecond, "the gain went away", map[string]int{"a": 10, "b": 11, "c": 12, "d": 11}, nil, abc},
		{24 * time.Second, "and came back: it waits anew", map[string]int{"a": 10, "b": 11, "c": 40, "d": 11}, nil, abc},
		{29900 * time.Millisecond, "almost", map[string]int{"a": 10, "b": 11, "c": 40, "d": 11}, nil, abc},
		{30 * time.Second, "6 s are over", map[string]int{"a": 10, "b": 11, "c": 40, "d": 11}, nil,
			[][]string{{"s", "a", "t"}, {"s", "b", "t"}, {"s", "d", "t"}}},
		{31 * time.Second, "b dies: replaced at once, the others keep their places", map[string]int{"a": 10, "b": -11, "c": 40, "d": 11}, nil,
			[][]string{{"s", "a", "t"}, {"s", "d", "t"}, {"s", "c", "t"}}},
		{32 * time.Second, "b is back: it waits", map[string]int{"a": 10, "b": 11, "c": 40, "d": 11}, nil,
			[][]string{{"s", "a", "t"}, {"s", "d", "t"}, {"s", "c", "t"}}},
		{33 * time.Second, "a is forbidden: gone at once", map[string]int{"a": 10, "b": 11, "c": 12, "d": 11}, []string{"a"},
			[][]string{{"s", "d", "t"}, {"s", "c", "t"}, {"s", "b", "t"}}},
		{34 * time.Second, "only two left", map[string]int{"a": 10, "b": -11, "c": 12, "d": 11}, []string{"a"},
			[][]string{{"s", "d", "t"}, {"s", "c", "t"}}},
		{35 * time.Second, "a third path is taken at once", map[string]int{"a": 40, "b": -11, "c": 12, "d": 11}, nil,
			[][]string{{"s", "d", "t"}, {"s", "c", "t"}, {"s", "a", "t"}}},
		{36 * time.Second, "everything is down", map[string]int{"a": -1, "b": -1, "c": -1, "d": -1}, nil, nil},
	} {
		g := relayMesh(step.ms)
		fresh := g.PathSet("s", "t", Constraints{Regions: []string{"eu"}, Forbid: step.forbid})
		inUse = k.Keep(start.Add(step.at), inUse, fresh, g)
		if got := hops(inUse); !reflect.DeepEqual(got, step.want) {
			t.Fatalf("at %v, %s: got %v, want %v", step.at, step.story, got, step.want)
		}
	}
}

// The first path decides how soon packets arrive: one that is much shorter moves in though the whole set gains little.
func TestKeeperLetsAMuchShorterPathLead(t *testing.T) {
	k := Keeper{Patience: 2 * time.Second}
	start := time.Unix(0, 0)
	slow := relayMesh(map[string]int{"a": 40, "b": 41, "c": 42})
	inUse := k.Keep(start, PathSet{}, slow.PathSet("s", "t", anywhere), slow)
	fast := relayMesh(map[string]int{"a": 40, "b": 41, "c": 42, "d": 20})
	want := [][]string{{"s", "d", "t"}, {"s", "a", "t"}, {"s", "b", "t"}}
	for _, step := range []struct {
		at   time.Duration
		g    *Graph
		want [][]string
	}{
		{1 * time.Second, fast, hops(inUse)},
		{8900 * time.Millisecond, fast, hops(inUse)},
		{9 * time.Second, fast, want},
		{10 * time.Second, relayMesh(map[string]int{"a": 40, "b": 41, "c": 10, "d": 13}), want}, // 6 ms are not worth it
	} {
		inUse = k.Keep(start.Add(step.at), inUse, step.g.PathSet("s", "t", anywhere), step.g)
		if got := hops(inUse); !reflect.DeepEqual(got, step.want) {
			t.Fatalf("at %v: got %v, want %v", step.at, got, step.want)
		}
	}
}

func TestKeeperShowsCurrentCosts(t *testing.T) {
	var k Keeper
	g := relayMesh(map[string]int{"a": 10})
	old := g.PathSet("s", "t", anywhere)
	g = relayMesh(map[string]int{"a": 25})
	kept := k.Keep(time.Unix(0, 0), old, g.PathSet("s", "t", anywhere), g)
	if len(kept.Paths) != 1 || kept.Paths[0].CostMS != 50 || !kept.Disjoint {
		t.Fatalf("kept set is %+v; want its cost as of now, 50 ms", kept)
	}
}

// A set whose constraints nobody knows is no set: it might leave the fence.
func TestKeeperFailsClosed(t *testing.T) {
	var k Keeper
	g := relayMesh(map[string]int{"a": 10})
	if kept := k.Keep(time.Unix(0, 0), g.PathSet("s", "t", anywhere), PathSet{}, g); len(kept.Paths) != 0 {
		t.Fatalf("kept %v although nothing is allowed", hops(kept))
	}
}

// What is left to try while nothing is up stays inside the constraints and the operator's bounds.
func TestAdmittedAsksForRightsAndNotForLinks(t *testing.T) {
	g := relayMesh(map[string]int{"a": -10, "b": -11})
	paths := []Path{{Nodes: []string{"s", "a", "t"}}, {Nodes: []string{"s", "b", "t"}}, {Nodes: []string{"s", "x", "t"}}, {Nodes: []string{"s"}}}
	for _, c := range []struct {
		story string
		under Constraints
		bound []Bound
		want  int
	}{
		{"both down, both allowed", anywhere, nil, 2},
		{"one forbidden", Constraints{AnyRegion: true, Forbid: []string{"a"}}, nil, 1},
		{"a link forbidden", anywhere, []Bound{{From: "s", To: "a", Use: UseForbid}}, 1},
		{"one drained", Constraints{AnyRegion: true, NoRelay: []string{"b"}}, nil, 1},
		{"outside the fence", Constraints{Regions: []string{"us"}}, nil, 0},
		{"direct paths only", Constraints{AnyRegion: true, MaxRelays: -1}, nil, 0},
	} {
		under := g.Under(c.bound)
		if got := under.Admitted(paths, under.PathSet("s", "t", c.under)); len(got) != c.want {
			t.Errorf("%s: %v, want %d paths", c.story, got, c.want)
		}
	}
	if got := g.Admitted(paths, PathSet{}); got != nil {
		t.Errorf("under constraints that nobody knows: %v", got)
	}
}
