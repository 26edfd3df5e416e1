package routing

import (
	"fmt"
	"testing"
	"time"
)

// square: a and b, and two relays between them, r the better one.
func square() *Graph {
	ms := time.Millisecond
	both := func(a, b string, d time.Duration) []Link {
		return []Link{{From: a, To: b, Latency: d}, {From: b, To: a, Latency: d}}
	}
	links := append(both("a", "r", 10*ms), both("r", "b", 10*ms)...)
	links = append(append(links, both("a", "s", 30*ms)...), both("s", "b", 30*ms)...)
	return NewGraph([]Node{{Name: "a"}, {Name: "b"}, {Name: "r"}, {Name: "s"}}, links)
}

func TestADrainedNodeIsAnEndButNoRelay(t *testing.T) {
	g := square()
	c := Constraints{AnyRegion: true, NoRelay: []string{"r"}}
	if set := g.PathSet("a", "b", c); fmt.Sprint(set.Paths) != "[{[a s b] 60}]" {
		t.Errorf("%v", set.Paths)
	}
	if set := g.PathSet("a", "r", c); len(set.Paths) == 0 {
		t.Error("a drained node is still reached: its sessions go on")
	}
	var k Keeper
	now := time.Unix(0, 0)
	old := k.Keep(now, PathSet{}, g.PathSet("a", "b", Constraints{AnyRegion: true}), g)
	if kept := k.Keep(now, old, g.PathSet("a", "b", c), g); len(kept.Paths) != 1 || kept.Paths[0].Nodes[1] != "s" {
		t.Errorf("a path in use moves away at once: %v", kept.Paths)
	}
}

func TestACordonedNodeKeepsWhatItHas(t *testing.T) {
	g := square()
	c := Constraints{AnyRegion: true, NoNewRelay: []string{"r"}}
	if set := g.PathSet("a", "b", c); fmt.Sprint(set.Paths) != "[{[a s b] 60}]" {
		t.Errorf("a new path goes elsewhere: %v", set.Paths)
	}
	var k Keeper
	old := k.Keep(time.Unix(0, 0), PathSet{}, g.PathSet("a", "b", Constraints{AnyRegion: true}), g)
	for s := range 10 { // longer than any gain must last
		old = k.Keep(time.Unix(int64(s), 0), old, g.PathSet("a", "b", c), g)
	}
	if len(old.Paths) != 2 || old.Paths[0].Nodes[1] != "r" {
		t.Errorf("a path in use stays: %v", old.Paths)
	}
}
