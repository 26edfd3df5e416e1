package braid

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// swallow drops everything between two nodes, both ways, as of now.
func (n *testNet) swallow(a, b NodeID) {
	n.set(func() {
		n.inspect = func(from, to NodeID, _ []byte) bool { return !(from == a && to == b || from == b && to == a) }
	})
}

// outPathBy finds the path by a relay among those in use.
func outPathBy(s *Session, relay NodeID) (PathStats, bool) {
	for _, p := range s.Stats().Out {
		if p.Active && slices.Equal(p.Relays, []NodeID{relay}) {
			return p, true
		}
	}
	return PathStats{}, false
}

// A path that dies is noticed by its sender within 300 ms at 50 packets/s and more, lossy or not, and no packet is lost for it.
func TestDeadPathIsNoticedWithin300ms(t *testing.T) {
	for _, c := range []struct {
		rate int
		loss float64
	}{{50, 0}, {50, 0.02}, {500, 0.05}} {
		t.Run(fmt.Sprintf("%d packets/s, loss %g per link", c.rate, c.loss), func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				a, b, _, _ := four(n)
				s := a.session(2)
				n.set(func() {
					n.link = func(NodeID, NodeID) (time.Duration, float64) { return 20 * time.Millisecond, c.loss }
				})
				interval := time.Second / time.Duration(c.rate)
				stream(s, 0, 4*c.rate, 300, interval)
				n.swallow(1, 3)
				died := time.Now()
				sent := 4 * c.rate
				for {
					stream(s, sent, 1, 300, interval)
					sent++
					if p, ok := outPathBy(s, 3); ok && !p.Alive {
						break
					}
					if time.Since(died) > 300*time.Millisecond {
						t.Fatal("the sender takes the path for alive after 300 ms")
					}
				}
				t.Logf("noticed after %v", time.Since(died))
				pause(2 * time.Second)
				if st := b.session(1).Stats(); uint64(b.rec.got()) != uint64(sent) || st.Undelivered != 0 {
					t.Errorf("%d of %d packets", b.rec.got(), sent)
				}
			})
		})
	}
}

// Another disjoint path takes the place of a dead one within two seconds, without a packet lost, reordered or delivered twice.
func TestDeadPathIsReplacedWithin2s(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		n.add(5, 1, direct)
		a.instead = func(avoid []Path) (paths []Path) {
			for _, p := range []Path{{}, {Relays: []NodeID{3}}, {Relays: []NodeID{4}}, {Relays: []NodeID{5}}} {
				if len(paths) < 3 && !slices.ContainsFunc(avoid, func(q Path) bool { return slices.Equal(p.Relays, q.Relays) }) {
					paths = append(paths, p)
				}
			}
			return paths
		}
		s := a.session(2)
		stream(s, 0, 200, 300, 10*time.Millisecond)
		n.swallow(1, 3)
		died := time.Now()
		sent := 200
		for {
			stream(s, sent, 1, 300, 10*time.Millisecond)
			sent++
			if p, ok := outPathBy(s, 5); ok && p.Received > 0 && p.Alive {
				break
			}
			if time.Since(died) > 2*time.Second {
				t.Fatalf("no other path after 2 s: %+v", s.Stats().Out)
			}
		}
		t.Logf("the new path delivers after %v", time.Since(died))
		if _, still := outPathBy(s, 3); still {
			t.Error("the dead path is still in use")
		}
		stream(s, sent, 300, 300, 10*time.Millisecond)
		pause(2 * time.Second)
		if st := b.session(1).Stats(); b.rec.got() != sent+300 || st.Undelivered+st.Repaired != 0 || a.braid.Stats().Replaced != 1 {
			t.Errorf("%d of %d packets, %d undelivered, %d repaired, %d paths replaced",
				b.rec.got(), sent+300, st.Undelivered, st.Repaired, a.braid.Stats().Replaced)
		}
		for n, times := range b.rec.packets {
			if times != 1 {
				t.Errorf("packet %d came %d times", n, times)
			}
		}
	})
}

// Where there is no other way, the dead path stays in the set and comes back by itself; while nothing is alive, nothing is replaced.
func TestDeadPathWithoutSubstituteComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		a.instead = func(avoid []Path) (paths []Path) {
			for _, p := range threePaths(2) {
				if !slices.ContainsFunc(avoid, func(q Path) bool { return slices.Equal(p.Relays, q.Relays) }) {
					paths = append(paths, p)
				}
			}
			return paths
		}
		s := a.session(2)
		stream(s, 0, 100, 300, 10*time.Millisecond)
		n.swallow(1, 3)
		stream(s, 100, 200, 300, 10*time.Millisecond)
		if p, ok := outPathBy(s, 3); !ok || p.Alive {
			t.Errorf("in use %v, alive %v; want it in use and dead", ok, p.Alive)
		}
		n.set(func() { n.inspect = nil })
		stream(s, 300, 100, 300, 10*time.Millisecond)
		if p, ok := outPathBy(s, 3); !ok || !p.Alive {
			t.Errorf("a second after the fault: in use %v, alive %v", ok, p.Alive)
		}
		replaced := a.braid.Stats().Replaced
		n.set(func() { n.inspect = func(NodeID, NodeID, []byte) bool { return false } })
		stream(s, 400, 200, 300, 10*time.Millisecond)
		if got := a.braid.Stats().Replaced; got != replaced {
			t.Errorf("%d paths replaced while all were dead", got-replaced)
		}
		n.set(func() { n.inspect = nil })
		pause(time.Second)
		expectAllAlive(t, "after an outage of all paths", s)
		if b.rec.got() < 400 {
			t.Errorf("%d packets of the 400 before the outage", b.rec.got())
		}
	})
}
