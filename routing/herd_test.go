package routing

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// crowd is sixty pairs that all could use one cheap relay with room for twenty, or three dearer ones with room for all.
type crowd struct {
	sets    []PathSet
	keepers []Keeper
	graph   *Graph
	known   [12]map[string]int // users of each relay, as of so many steps ago: news takes a second
	moves   int
	peak    float64 // highest load of the cheap relay
	course  []int   // its users, every ten seconds
}

const (
	crowdStep = 100 * time.Millisecond
	crowdSize = 60
)

func newCrowd(patient bool) *crowd {
	c := &crowd{sets: make([]PathSet, crowdSize), keepers: make([]Keeper, crowdSize)}
	nodes := nodesOf("t", "cheap", "dear1", "dear2", "dear3")
	var links []Link
	for _, r := range nodes[1:] {
		ms := 10
		if r.Name == "cheap" {
			ms = 5
		}
		links = append(links, link(r.Name, "t", ms))
		for i := range crowdSize {
			links = append(links, link(source(i), r.Name, ms))
		}
	}
	for i := range crowdSize {
		nodes = append(nodes, Node{Name: source(i), Region: "eu"})
		if patient {
			c.keepers[i].Patience = PatienceOf(source(i), "t")
		}
	}
	c.graph = NewGraph(nodes, links)
	return c
}

func source(i int) string { return fmt.Sprintf("s%02d", i) }

// step lets every pair look at what it knows of the loads and choose.
func (c *crowd) step(now time.Time, cheapIsThere bool) {
	users := make(map[string]int)
	for _, set := range c.sets {
		if len(set.Paths) > 0 {
			users[set.Paths[0].Nodes[1]]++
		}
	}
	copy(c.known[1:], c.known[:])
	c.known[0] = users
	c.peak = max(c.peak, float64(users["cheap"])/20)
	var state []Node
	for _, relay := range []string{"cheap", "dear1", "dear2", "dear3"} {
		room := 200.0
		if relay == "cheap" {
			room = 20
		}
		load := float64(c.known[len(c.known)-1][relay]) / room
		state = append(state, Node{Name: relay, Load: math.Floor(load*10) / 10, Full: load >= 1, Avoid: relay == "cheap" && !cheapIsThere})
	}
	g := c.graph.WithNodes(state...)
	for i := range c.sets {
		before := c.sets[i]
		fresh := g.PathSet(source(i), "t", Constraints{AnyRegion: true, MaxPaths: 1})
		c.sets[i] = c.keepers[i].Keep(now, before, fresh, g)
		if len(before.Paths) > 0 && before.Paths[0].Nodes[1] != c.sets[i].Paths[0].Nodes[1] {
			c.moves++
		}
	}
}

// A cheap relay appears. Pairs of one patience all rush there, find it full, all leave, and so on for ever; pairs of different
// patience fill it and stay: go test ./routing -run NoHerd -v.
func TestNoHerd(t *testing.T) {
	run := func(patient bool) *crowd {
		c := newCrowd(patient)
		now := time.Unix(1000, 0)
		for i := range 1200 { // two minutes
			c.step(now.Add(time.Duration(i)*crowdStep), i >= 50)
			if i%100 == 99 {
				c.course = append(c.course, c.known[0]["cheap"])
			}
		}
		return c
	}
	herd, spread := run(false), run(true)
	users := spread.known[0]["cheap"]
	t.Logf("of 60 pairs on the cheap relay, which has room for 20, every 10 s: all alike %v, spread %v", herd.course, spread.course)
	t.Logf("all alike: load of the cheap relay up to %.1f, %d moves; spread: up to %.1f, %d moves, %d of 20 places taken", herd.peak, herd.moves, spread.peak, spread.moves, users)
	if herd.peak < 2 {
		t.Error("without patience there is no herd; the test has lost its point")
	}
	if spread.peak > 1.5 || spread.moves*4 > herd.moves || users < 10 || users > 25 {
		t.Errorf("peak %.1f, %d moves, %d users at the end; want at most 1.5, a quarter of the herd's moves, and 10 to 25", spread.peak, spread.moves, users)
	}
}
