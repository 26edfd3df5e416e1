package braid

import (
	"math/rand/v2"
	"os"
	"strconv"
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

// nowAndThen is a process that its machine runs for 5 to 60 ms, and then not for 10 to 150 ms, drawn evenly: it says when what is due
// at an instant, none before the last one, is worked on.
func nowAndThen(seed uint64) func(at time.Time) time.Time {
	runs, stands := lateness(seed, 5*time.Millisecond, 60*time.Millisecond), lateness(seed+1, 10*time.Millisecond, 150*time.Millisecond)
	var from, until time.Time // it runs
	return func(at time.Time) time.Time {
		for !at.Before(until) {
			if from = until.Add(stands()); until.IsZero() {
				from = at
			}
			until = from.Add(runs())
		}
		if at.Before(from) {
			return from
		}
		return at
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

// A relay that its machine runs a third of the time carries 58 Mbit/s on average, in lumps: 20 Mbit/s of media fit. TERN_SEEDS runs more
// than a few.
func TestARelayThatRunsNowAndThenIsNoBottleneck(t *testing.T) {
	var bad, lost, sent int
	all := seeds(t, 2)
	for _, seed := range all {
		inBubble(t, func(t *testing.T, n *testNet) {
			a, b := n.add(1, 1, direct), n.add(2, 1, direct)
			s := a.session(2)
			pause(time.Second)
			process := mbits(200, 2*time.Second)
			process.runs = nowAndThen(seed)
			n.set(func() { n.narrow = func(NodeID, NodeID) *bottleneck { return process } })
			count := int(lumps(s, 0, 2000, 3*time.Second, lateness(seed+2, time.Millisecond, 20*time.Millisecond)))
			pause(2 * time.Second)
			if missing := count - b.rec.got(); missing > 0 {
				bad++
				lost += missing
			}
			sent += count
		})
	}
	t.Logf("%d of %d seeds lost media, %.3f %% of all", bad, len(all), 100*float64(lost)/float64(sent))
	if lost > sent/2000 {
		t.Errorf("%d of %d packets lost, want at most 0.05 %%", lost, sent)
	}
}

// seeds are 1 to few, or to TERN_SEEDS.
func seeds(t *testing.T, few uint64) (all []uint64) {
	if many := os.Getenv("TERN_SEEDS"); many != "" {
		var err error
		if few, err = strconv.ParseUint(many, 10, 32); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range few {
		all = append(all, seed+1)
	}
	return all
}
