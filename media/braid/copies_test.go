package braid

import (
	"testing"
	"time"
)

func TestOneCopyTakesTheBestPathAloneAndMovesWhenItDies(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 200, 1000, time.Millisecond) // full: warms every path
		pause(time.Second)
		before := s.Stats()
		send := func(first, count int) {
			for i := range count {
				s.Send(1, Video|OneCopy, testPacket(uint64(first+i), 1000))
				pause(time.Millisecond)
			}
		}
		send(200, 500)
		pause(time.Second)
		if got := b.rec.got(); got != 700 {
			t.Fatalf("%d of 700 packets arrived", got)
		}
		after := s.Stats()
		if got := sentOn(after.Out, 0) - sentOn(before.Out, 0); got < 400 {
			t.Errorf("the direct path carried %d more frames, want nearly all 500", got)
		}
		if got := sentOn(after.Out, 1) - sentOn(before.Out, 1); got > 100 {
			t.Errorf("a relayed path carried %d more frames, want only what QUIC sends", got)
		}
		n.set(func() {
			n.link = func(from, to NodeID) (time.Duration, float64) {
				if from < 3 && to < 3 {
					return 0, 1
				}
				return 20 * time.Millisecond, 0
			}
		})
		send(700, 2000)
		pause(time.Second)
		if got := b.rec.got(); got < 700+1400 {
			t.Errorf("%d of 2,000 packets arrived after the best path died: the single copy did not move", got-700)
		}
	})
}

// sentOn adds up what paths with so many relays carried.
func sentOn(paths []PathStats, relays int) (sum uint64) {
	for _, p := range paths {
		if len(p.Relays) == relays {
			sum += p.Sent
		}
	}
	return sum
}

// Adaptive redundancy: about one copy on clean paths, another within 200 ms of a brownout, and back over seconds.
func TestAdaptiveFollowsABrownout(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		next := uint64(0)
		send := func(d time.Duration) (copies float64) {
			before := mediaFrames(n)
			count := int(d / (4 * time.Millisecond))
			for range count {
				s.Send(7, Video|Adaptive(0), testPacket(next, 1000))
				next++
				time.Sleep(4 * time.Millisecond)
			}
			return float64(mediaFrames(n)-before) / float64(count)
		}
		watchMedia(n)
		send(20 * time.Second)
		clean := send(5 * time.Second)
		n.set(func() {
			n.link = func(from, to NodeID) (time.Duration, float64) {
				if from == 1 && to == 2 {
					return 20 * time.Millisecond, 0.03
				}
				return 20 * time.Millisecond, 0
			}
		})
		send(200 * time.Millisecond)
		first := next
		brown := send(10 * time.Second)
		repaired := b.session(1).Stats().Repaired
		send(10 * time.Second)
		if more := b.session(1).Stats().Repaired - repaired; more > 0 {
			t.Errorf("%d frames of packets from %d on had to be repaired: the second copy came late", more, first)
		}
		n.set(func() { n.link = func(NodeID, NodeID) (time.Duration, float64) { return 20 * time.Millisecond, 0 } })
		soon := send(time.Second)
		send(60 * time.Second)
		late := send(5 * time.Second)
		pause(time.Second)
		t.Logf("copies: %.2f clean, %.2f in the brownout, %.2f in the second after it, %.2f later", clean, brown, soon, late)
		if clean > 1.2 || brown < 1.95 || soon < 1.9 || late > 1.2 {
			t.Error("want at most 1.2, about 2, still about 2, at most 1.2")
		}
		if got := b.rec.got(); got != int(next) {
			t.Errorf("%d of %d packets arrived", got, next)
		}
	})
}

// Where all paths lose at once, further paths do not help: what is lost comes 30 ms later by a time-shifted copy, and not a
// round trip later by repair.
func TestJointLossIsMetByTimeShiftedCopies(t *testing.T) {
	for name, class := range map[string]Class{"adaptive": Adaptive(1e-3), "full": 0} {
		t.Run(name, func(t *testing.T) { inBubble(t, func(t *testing.T, n *testNet) { meetJointLoss(t, n, class) }) })
	}
}

func meetJointLoss(t *testing.T, n *testNet, class Class) {
	a, b, _, _ := four(n)
	n.set(func() {
		n.link = func(NodeID, NodeID) (time.Duration, float64) { return 50 * time.Millisecond, 0 }
		n.slot = func(from NodeID, at time.Time) bool { return from == 1 && at.UnixMilli()%200 < 5 } // 2.5 %, 5 ms long
	})
	m := &media{s: a.session(2), sent: map[uint64]time.Time{}}
	m.class = class
	m.run(10, 3*time.Second)
	first := m.next
	m.run(10, 4*time.Second)
	pause(time.Second)
	b.rec.mu.Lock()
	defer b.rec.mu.Unlock()
	var shifted, slow, lost int
	for i := first; i < m.next; i++ {
		at, ok := b.rec.at[i]
		switch d := at.Sub(m.sent[i]); {
		case !ok:
			lost++
		case d > 150*time.Millisecond: // repaired: three times the way
			slow++
		case d > 75*time.Millisecond:
			shifted++
		}
	}
	t.Logf("of %d packets %d came by a time-shifted copy, %d by repair, %d not at all; %.2f copies", m.next-first, shifted, slow, lost, m.s.Stats().Copies)
	if shifted < 60 || slow > shifted/10 || lost > 0 {
		t.Error("want what all paths lost to come by time-shifted copies")
	}
}

// Paths that lose much, but each on its own, get no more copies than there are paths.
func TestFullSendsNoMoreCopiesWhereLossesAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		n.set(func() {
			n.link = func(from, to NodeID) (time.Duration, float64) {
				if from == 1 {
					return 20 * time.Millisecond, 0.1
				}
				return 20 * time.Millisecond, 0
			}
		})
		watchMedia(n)
		m := &media{s: a.session(2), sent: map[uint64]time.Time{}}
		m.run(10, 8*time.Second)
		copies := float64(mediaFrames(n)) / float64(m.next)
		pause(time.Second)
		lost, _ := m.outcome(b.rec, 0, m.next)
		t.Logf("%.2f copies; %d of %d lost", copies, lost, m.next)
		if copies > 3.1 {
			t.Errorf("%.2f copies on three paths", copies)
		}
	})
}

// In full, the second copy goes where there is a way: later on the only path, if that loses.
func TestFullWithOnePathSendsTheSecondCopyLater(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b := n.add(1, 1, direct), n.add(2, 1, direct)
		n.set(func() { n.link = func(NodeID, NodeID) (time.Duration, float64) { return 50 * time.Millisecond, 0 } })
		watchMedia(n)
		m := &media{s: a.session(2), sent: map[uint64]time.Time{}}
		m.run(5, 2*time.Second)
		clean := float64(mediaFrames(n)) / float64(m.next)
		n.set(func() { n.link = func(NodeID, NodeID) (time.Duration, float64) { return 50 * time.Millisecond, 0.05 } })
		m.run(5, 2*time.Second)
		first, before := m.next, mediaFrames(n)
		m.run(5, 4*time.Second)
		lossy := float64(mediaFrames(n)-before) / float64(m.next-first)
		pause(time.Second)
		lost, _ := m.outcome(b.rec, first, m.next)
		t.Logf("copies: %.2f clean, %.2f at 5 %% loss; %d of %d lost", clean, lossy, lost, m.next-first)
		if clean > 1.3 || lossy < 1.9 || lost > 3 {
			t.Error("want one copy, then two, and next to nothing lost")
		}
	})
}

// watchMedia counts the media frames that node 1 sends.
func watchMedia(n *testNet) {
	n.set(func() {
		n.inspect = func(from, _ NodeID, frame []byte) bool {
			if from == 1 && frame[3]&0xf == kindMedia {
				n.media++
			}
			return true
		}
	})
}

func mediaFrames(n *testNet) (count int) {
	n.set(func() { count = n.media })
	return count
}

func TestAdaptiveClassKeepsItsTarget(t *testing.T) {
	for _, c := range []struct{ asked, got float64 }{
		{0, 1e-4}, {1e-4, 1e-4}, {3e-4, 2e-4}, {1, 1e-2}, {1e-9, 1e-6}, {2e-6, 2e-6},
	} {
		class := Adaptive(c.asked) // of Audio, which is the zero class
		if m := class.mode(); !m.adaptive() || m.single() || m.residual() != c.got || class&kindMask != Audio {
			t.Errorf("a target of %g became %g", c.asked, m.residual())
		}
	}
}
