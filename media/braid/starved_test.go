package braid

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A machine with too few processors runs us late: the reader comes to its socket tens of milliseconds after the frames, frames
// leave long after they were stamped, media comes in lumps. None of this is a queue on a path.

// lateness is what a starved process shows: times between low and high, drawn evenly.
func lateness(seed uint64, low, high time.Duration) func() time.Duration {
	rng := rand.New(rand.NewPCG(seed, 5))
	return func() time.Duration { return low + time.Duration(rng.Int64N(int64(high-low))) }
}

// stalls holds all that a node sends while it does not run: from time to time, for so long.
func stalls(node NodeID, seed uint64, low, high time.Duration) func(from, to NodeID, now time.Time) time.Duration {
	next, runs := lateness(seed, low, high), lateness(seed+1, low, high)
	var from, until time.Time // of the present or last stall
	return func(sender, _ NodeID, now time.Time) time.Duration {
		if sender != node {
			return 0
		}
		for !now.Before(until) && !now.Before(from) {
			from = now.Add(runs())
			if !until.IsZero() {
				from = until.Add(runs())
			}
			until = from.Add(next())
		}
		if now.Before(from) {
			return 0
		}
		return until.Sub(now)
	}
}

// lumps sends rate packets a second for d, late by as much as gap says.
func lumps(s *Session, first uint64, rate float64, d time.Duration, gap func() time.Duration) (next uint64) {
	began := time.Now()
	for time.Since(began) < d {
		for next = max(next, first); next < first+uint64(time.Since(began).Seconds()*rate); next++ {
			s.Send(7, Video, testPacket(next, 1150))
		}
		time.Sleep(gap())
	}
	return next
}

func TestAStarvedMachineIsNoQueue(t *testing.T) {
	const low, high = 50 * time.Millisecond, 150 * time.Millisecond
	even := func() time.Duration { return time.Millisecond }
	set := func(x *testNode, seed uint64) {
		f := lateness(seed, low, high)
		x.late.Store(&f)
	}
	late := func(n *testNet, a, b *testNode) {
		set(a, 5)
		set(b, 6)
		n.set(func() { n.hold = stalls(1, 7, low, high) })
	}
	for _, c := range []struct {
		name  string
		setUp func(n *testNet, a, b *testNode) (gap func() time.Duration)
	}{
		{"nobody is late", func(*testNet, *testNode, *testNode) func() time.Duration { return even }},
		{"the receiver reads late", func(_ *testNet, _, b *testNode) func() time.Duration { set(b, 1); return even }},
		{"the receiver reads late, and its kernel does not say", func(_ *testNet, _, b *testNode) func() time.Duration {
			b.mute.Store(true)
			set(b, 1)
			return even
		}},
		{"the sender reads late", func(_ *testNet, a, _ *testNode) func() time.Duration { set(a, 2); return even }},
		{"media comes in lumps", func(*testNet, *testNode, *testNode) func() time.Duration { return lateness(3, low, high) }},
		{"frames leave late", func(n *testNet, _, _ *testNode) func() time.Duration {
			n.set(func() { n.hold = stalls(1, 4, low, high) })
			return even
		}},
		{"the sender runs late", func(_ *testNet, a, _ *testNode) func() time.Duration {
			f := lateness(9, 10*time.Millisecond, 100*time.Millisecond)
			a.slow.Store(&f)
			return even
		}},
		{"the sender runs later than media may wait", func(_ *testNet, a, _ *testNode) func() time.Duration {
			f := lateness(10, 165*time.Millisecond, 220*time.Millisecond)
			a.slow.Store(&f)
			return even
		}},
		{"all of it", func(n *testNet, a, b *testNode) func() time.Duration {
			late(n, a, b)
			return lateness(8, low/2, high/2)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				a, b, _, _ := four(n)
				s := a.session(2)
				pause(time.Second)
				gap := c.setUp(n, a, b)
				const d = 3 * time.Second
				sent := lumps(s, 0, 1000, d, gap)
				st := s.Stats()
				pause(time.Second)
				if b.rec.got() < int(sent) || st.Withheld > sent/100 {
					t.Errorf("%d of %d packets arrived, drops %v; %d copies withheld, limited by %s", b.rec.got(), sent, st.Drops, st.Withheld, st.LimitedBy)
				}
			})
		})
	}
}
