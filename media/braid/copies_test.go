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
