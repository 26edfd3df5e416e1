package mesh

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/linkstate"
)

// rest counts the links between a node and others than the observer that the observer takes for up.
func rest(observer, of *stepper) (up int) {
	for _, l := range observer.Graph().Links() {
		if !l.Down && (l.From == of.name && l.To != observer.name || l.To == of.name && l.From != observer.name) {
			up++
		}
	}
	return up
}

// Of 24 nodes one dies: its links are down for others before the slow probes have missed it. It comes back and has them again. Then
// eight others say that they lost it, which is not so: it says its row once more, and is believed.
func TestANodeThatManyLostHasFallen(t *testing.T) {
	l := newMeshLockstep(t, 1, 24)
	for _, s := range l.nodes {
		l.start(s)
	}
	l.until(l.now.Add(6 * time.Second))
	dead, others := l.nodes[7], append(l.nodes[:7:7], l.nodes[8:]...)
	everywhere := func(ok func(links int) bool) func() bool {
		return func() bool {
			return !slices.ContainsFunc(others[12:18], func(s *stepper) bool { return !ok(rest(s, dead)) })
		}
	}
	before := rest(others[12], dead)
	dead.dead = true
	took := l.within(5*time.Second, everywhere(func(links int) bool { return links == 0 }))
	t.Logf("a dead node's %d links are down everywhere after %v", before, took)
	if took > 1200*time.Millisecond {
		t.Errorf("a dead node's links are down everywhere after %v; probes alone need two seconds and the time to say so", took)
	}
	l.revive([]*stepper{dead})
	took = l.within(20*time.Second, everywhere(func(links int) bool { return links >= before*9/10 }))
	t.Logf("they are back after %v", took)
	if took > 5*time.Second {
		t.Errorf("its links are back after %v", took)
	}

	l.until(l.now.Add(2 * time.Second))
	_, said := dead.core.Held(dead.id)
	for _, liar := range others[:8] {
		row, _, _ := liar.links.row(true)
		row.Links = maps.Clone(row.Links)
		lost := row.Links[dead.id]
		lost.Down = true
		row.Links[dead.id] = lost
		liar.publishRow(l.now, row)
	}
	l.until(l.now.Add(1500 * time.Millisecond))
	if _, again := dead.core.Held(dead.id); !again.Newer(said) {
		t.Error("eight others say that they lost it, and it says nothing to that")
	}
	if honest := before - 2*8; !everywhere(func(links int) bool { return links >= honest })() {
		t.Error("what eight others made up is believed of its other links")
	}
}

// Few do not matter, nor does who lost it by what it says itself; and once it says anything, all is as before.
func TestWhoCountsAsFallen(t *testing.T) {
	p := &peer{row: linkstate.Row{Links: make(map[uint32]linkstate.Link)}}
	for id := range uint32(30) {
		p.row.Links[id] = linkstate.Link{To: id, Down: id == 0}
	}
	for id, want := range []bool{false, false, false, false, false, true, false} { // five that it does not say itself: a sixth
		if fell := p.missedBy(uint32(id), true); fell != want {
			t.Errorf("%d say that they lost it, itself one: fell %v", id+1, fell)
		}
		p.missedBy(uint32(id), true) // twice is once
	}
	if p.missedBy(6, false) || !p.missedBy(5, false) || p.fallen || !p.missedBy(6, true) {
		t.Error("of six two have it again, and it is taken for fallen; or a third says again that it has not, and it is not")
	}
	if !p.fallen || !p.rises() || p.fallen || p.missedBy(9, true) {
		t.Error("it has spoken and is still taken for fallen")
	}
	p.row.Links = map[uint32]linkstate.Link{1: {}, 2: {}, 3: {}}
	if p.rises(); p.missedBy(1, true) || p.missedBy(2, true) || p.missedBy(77, true) || !p.missedBy(3, true) {
		t.Error("of few links, three must be lost, and it must have them")
	}
}

// named finds a node.
func (l *lockstep) named(name string) *stepper {
	return l.nodes[slices.IndexFunc(l.nodes, func(s *stepper) bool { return s.name == name })]
}

// A node says for a while that it has perfect links to everybody. Nobody takes one of them for better than the other end measures it, and
// those that nobody else measures carry nothing.
func TestALiarAttractsNothing(t *testing.T) {
	l := newMeshLockstep(t, 1, 10)
	for _, s := range l.nodes {
		l.start(s)
	}
	l.until(l.now.Add(6 * time.Second))
	liar := l.nodes[3]
	var lie linkstate.Row
	lie.Links = make(map[uint32]linkstate.Link)
	for _, other := range l.nodes {
		if other != liar {
			lie.Links[other.id] = linkstate.Link{To: other.id}
		}
	}
	believed := 0
	for range 20 {
		liar.publishRow(l.now, lie)
		l.until(l.now.Add(100 * time.Millisecond))
		for _, s := range l.nodes[5:8] {
			s.mu.Lock()
			said := s.peers[liar.name].row.Links
			s.mu.Unlock()
			if len(said) != len(lie.Links) || said[l.nodes[0].id] != lie.Links[l.nodes[0].id] {
				continue // one of its honest rows came last
			}
			believed++
			for _, link := range s.Graph().Links() {
				if link.Down || link.From != liar.name && link.To != liar.name {
					continue
				}
				if real := l.latency(l.named(link.From), l.named(link.To)); link.Latency < real*9/10 {
					t.Fatalf("%s takes %s to %s for %v; it is %v", s.name, link.From, link.To, link.Latency, real)
				}
			}
		}
	}
	if believed < 20 {
		t.Errorf("its lies came %d times in 60; the test has lost its point", believed)
	}
}
