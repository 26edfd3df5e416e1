package braid

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// adversities are what a bad network or a hostile neighbour does; false swallows the frame.
var adversities = map[string]func(n *testNet) func(from, to NodeID, frame []byte) bool{
	"1 % corrupted": func(n *testNet) func(NodeID, NodeID, []byte) bool {
		return func(_, _ NodeID, frame []byte) bool {
			if n.rng.Float64() < 0.01 {
				frame[n.rng.IntN(len(frame))] ^= 1 << n.rng.IntN(8)
			}
			return true
		}
	},
	"30 % duplicated": func(n *testNet) func(NodeID, NodeID, []byte) bool {
		return func(_, to NodeID, frame []byte) bool {
			if n.rng.Float64() < 0.3 {
				n.later(to, slices.Clone(frame), 25*time.Millisecond)
			}
			return true
		}
	},
	"30 % reordered": func(n *testNet) func(NodeID, NodeID, []byte) bool {
		return func(_, to NodeID, frame []byte) bool {
			if n.rng.Float64() < 0.3 {
				n.later(to, slices.Clone(frame), 30*time.Millisecond)
				return false
			}
			return true
		}
	},
	"truncated and oversized copies of each frame": func(n *testNet) func(NodeID, NodeID, []byte) bool {
		return func(_, to NodeID, frame []byte) bool {
			n.later(to, slices.Clone(frame[:n.rng.IntN(len(frame))]), 10*time.Millisecond)
			n.later(to, append(slices.Clone(frame), make([]byte, MaxDatagram)...), 10*time.Millisecond)
			return true
		}
	},
	"one path flaps every 100 ms": func(n *testNet) func(NodeID, NodeID, []byte) bool {
		return func(from, to NodeID, _ []byte) bool {
			return from != 3 && to != 3 || time.Now().UnixMilli()/100%2 == 0
		}
	},
	"two of three paths are down, by turns, 100 ms each": func(n *testNet) func(NodeID, NodeID, []byte) bool {
		return func(from, to NodeID, _ []byte) bool { // at their entries: what is on its way arrives
			up := []NodeID{1, 3, 4}[time.Now().UnixMilli()/100%3]
			relay := max(from, to)
			return from > 2 || relay == up || relay == 2 && up == 1
		}
	},
	"copies of each frame with another relay key epoch, media key epoch or time": func(n *testNet) func(NodeID, NodeID, []byte) bool {
		return func(_, to NodeID, frame []byte) bool {
			relay, media, age := slices.Clone(frame), slices.Clone(frame), slices.Clone(frame)
			relay[1] ^= byte(1+n.rng.IntN(3)) << epochShift
			if at := headerLen(int(frame[2]&3)) + 1; frame[3]&0xf == kindMedia {
				media[at] += byte(1 + n.rng.IntN(255))
			}
			age[10] ^= 1 << n.rng.IntN(8) // seconds off
			for i, f := range [][]byte{relay, media, age} {
				n.later(to, f, time.Duration(5+10*i)*time.Millisecond) // the first two are there before the true one
			}
			return true
		}
	},
}

// All paths at once suffer: every packet arrives exactly once and whole.
func TestAdverseNetworks(t *testing.T) {
	const ms = time.Millisecond
	for name, adverse := range adversities {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				a, b, _, _ := four(n)
				s := a.session(2)
				n.set(func() { n.inspect = adverse(n) })
				stream(s, 0, 3000, 300, 2*ms)
				pause(2 * time.Second)
				if b.rec.got() != 3000 || b.rec.bad != 0 {
					t.Errorf("%d of 3000 packets, %d damaged", b.rec.got(), b.rec.bad)
				}
				for seq, times := range b.rec.packets {
					if times != 1 {
						t.Fatalf("packet %d came %d times", seq, times)
					}
				}
			})
		})
	}
}

// A clock that somebody sets by some seconds is followed without loss; while one is an hour wrong nobody takes its node's frames,
// and once it is right again the stream goes on, each packet once.
func TestClockJumps(t *testing.T) {
	for name, c := range map[string]struct {
		node  NodeID
		jump  time.Duration
		lost  int // packets of 500 a second while the clock is wrong, and a second after, at most
		least int
	}{
		"the sender's, 3 s ahead":           {1, 3 * time.Second, 0, 0},
		"the receiver's, 3 s behind":        {2, -3 * time.Second, 0, 0},
		"a relay's, an hour ahead":          {3, time.Hour, 0, 0},
		"the sender's, an hour ahead":       {1, time.Hour, 2000, 1000},
		"the sender's, an hour behind":      {1, -time.Hour, 2000, 1000},
		"the receiver's, an hour ahead":     {2, time.Hour, 2000, 1000},
		"the receiver's, an hour behind":    {2, -time.Hour, 2000, 1000},
		"the receiver's, into the next day": {2, 24 * time.Hour, 2000, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				var skew [5]atomic.Int64
				clock := func(cfg *Config) {
					id := cfg.Self
					cfg.Skew = func() time.Duration { return time.Duration(skew[id].Load()) }
				}
				a, b := n.add(1, 1, threePaths, clock), n.add(2, 1, threePaths, clock)
				n.add(3, 1, direct, clock)
				n.add(4, 1, direct, clock)
				s := a.session(2)
				stream(s, 0, 500, 300, 2*time.Millisecond)
				skew[c.node].Store(int64(c.jump))
				stream(s, 500, 1500, 300, 2*time.Millisecond)
				skew[c.node].Store(0)
				stream(s, 2000, 500, 300, 2*time.Millisecond)
				stream(s, 2500, 1000, 300, 2*time.Millisecond)
				pause(2 * time.Second)
				lost, late := 0, 0
				for seq := range uint64(3500) {
					switch times := b.rec.packets[seq]; {
					case times > 1:
						t.Fatalf("packet %d came %d times", seq, times)
					case times == 0 && seq >= 2500:
						late++
					case times == 0:
						lost++
					}
				}
				if lost > c.lost || lost < c.least || late > 0 || b.rec.bad > 0 {
					t.Errorf("%d packets lost while the clock was wrong and in the second after, want %d to %d; %d later, %d damaged",
						lost, c.least, c.lost, late, b.rec.bad)
				}
			})
		})
	}
}

// later delivers a frame by itself, past the emulated link. Called with the network's lock held.
func (n *testNet) later(to NodeID, frame []byte, after time.Duration) {
	x := n.nodes[to]
	n.unique = (n.unique + 1) % 1000
	time.AfterFunc(after+n.unique, func() {
		select {
		case x.inbox <- arrived{frame, time.Now()}:
		default:
		}
	})
}

// A stream that begins on an idle braid is not starved: 2,000 packets/s at once over 200 ms round trip.
func TestWarmStart(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		n.delays(100*time.Millisecond, 110*time.Millisecond, 130*time.Millisecond)
		s := a.session(2)
		pause(5 * time.Second)
		stream(s, 0, 4000, 1150, 500*time.Microsecond)
		pause(2 * time.Second)
		if lost := 4000 - b.rec.got(); lost > 4 {
			t.Errorf("%d of the first 4,000 packets undelivered, at most 4", lost)
		}
	})
}

// After an outage of all paths of one second the gap in what arrives is at most 1.1 s.
func TestOutageOfAllPathsLeavesItsOwnGapOnly(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 1000, 300, 2*time.Millisecond)
		n.set(func() { n.inspect = func(NodeID, NodeID, []byte) bool { return false } })
		stream(s, 1000, 500, 300, 2*time.Millisecond)
		n.set(func() { n.inspect = nil })
		stream(s, 1500, 1000, 300, 2*time.Millisecond)
		pause(time.Second)
		var at []time.Time
		for _, when := range b.rec.at {
			at = append(at, when)
		}
		slices.SortFunc(at, time.Time.Compare)
		var gap time.Duration
		for i := 1; i < len(at); i++ {
			gap = max(gap, at[i].Sub(at[i-1]))
		}
		if gap > 1100*time.Millisecond {
			t.Errorf("a gap of %v after an outage of 1 s", gap)
		}
		t.Log(fmt.Sprint("gap ", gap))
	})
}
