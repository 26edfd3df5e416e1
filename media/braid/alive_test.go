package braid

import (
	"fmt"
	"testing"
	"time"
)

// delays gives each path of threePaths its one-way delay: the direct one, and those by relay 3 and 4.
func (n *testNet) delays(direct, by3, by4 time.Duration) {
	n.set(func() {
		n.link = func(from, to NodeID) (time.Duration, float64) {
			switch {
			case from == 3 || to == 3:
				return by3 / 2, 0
			case from == 4 || to == 4:
				return by4 / 2, 0
			}
			return direct, 0
		}
	})
}

// expectAllAlive looks at every path from both ends.
func expectAllAlive(t *testing.T, when string, ends ...*Session) bool {
	t.Helper()
	for _, s := range ends {
		st := s.Stats()
		for _, p := range st.Out {
			if !p.Alive || !p.Active {
				t.Errorf("%s: the sender shows its path %v to node %d as alive %v, active %v", when, p.Relays, st.Peer, p.Alive, p.Active)
			}
		}
		for _, p := range st.In {
			if !p.Alive || !p.Active {
				t.Errorf("%s: the receiver shows path %v from node %d as alive %v, active %v", when, p.Relays, st.Peer, p.Alive, p.Active)
			}
		}
	}
	return !t.Failed()
}

// Every path delivers all of the time, however unequal they are; none may ever be shown dead, busy or idle. Only when its
// delay grows at a stroke by more than quickMS, and it is silent for as long, may it seem dead until its next frames come.
func TestUnequalPathsStayAlive(t *testing.T) {
	const ms = time.Millisecond
	for name, busy := range map[string]bool{"with media": true, "idle": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				a, b, _, _ := four(n)
				s := a.session(2)
				back := b.session(1)
				stream(s, 0, 500, 300, ms)
				sent := 500
				for _, d := range [][3]time.Duration{{20, 10, 160}, {160, 20, 10}, {10, 300, 20}, {20, 10, 160}} {
					n.delays(d[0]*ms, d[1]*ms, d[2]*ms)
					for i := range 100 {
						if busy {
							stream(s, sent, 5, 300, 5*ms)
							sent += 5
						} else {
							pause(50 * ms)
						}
						if i >= 20 && !expectAllAlive(t, name+" at delays "+fmt.Sprintf("%d", d), s, back) {
							return
						}
					}
				}
				pause(time.Second)
				if b.rec.got() != sent || back.Stats().Undelivered != 0 {
					t.Errorf("%d of %d packets, %d undelivered", b.rec.got(), sent, back.Stats().Undelivered)
				}
			})
		})
	}
}

// Two sources of "now" may be a moment apart: one is read before a lock is taken, the other by its holder.
func TestTimesAMomentAheadAreNotAges(t *testing.T) {
	var s settle
	s.know(3, 1000, nil)
	s.run(999, nil)
	if s.undelivered != 0 {
		t.Errorf("%d frames given up before they were a moment old", s.undelivered)
	}
	var m missing
	m.know(3, 1000)
	if got := m.poll(999, only(1), func(uint64) bool { return false }, make([]uint64, 0, maxAsked)); len(got) != 0 {
		t.Errorf("asked for %v before they were a moment old", got)
	}
	var c repairCache
	c.put(1, []byte{1}, 1000, 0)
	if c.take(1, 999) == nil {
		t.Error("a frame kept a moment ago counts as too old for repair")
	}
	var in inbound
	arriveOn(&in, 1, 1, 950, 1000)
	if st := in.stats(999); !st[0].Alive || !st[0].Active {
		t.Errorf("a path that delivered a moment ago is shown as %+v", st[0])
	}
}

// A path that stops is dead soon after what the others bring was due on it, be it slower or not.
func TestPathIsDeadOnceItIsOverdue(t *testing.T) {
	var in inbound
	const slower = 200
	for at := uint64(1000); at < 2000; at += 10 {
		arriveOn(&in, 0, uint32(at/10), at, at+20)
		arriveOn(&in, 1, uint32(at/10), at, at+20+slower)
	}
	p := &in.paths[1]
	last := uint64(1990)
	for at := uint64(2000); at < 2600; at += 10 {
		now := at + 20
		arriveOn(&in, 0, uint32(at/10), at, now)
		overdue := now > last+10+20+slower+quickMS
		if p.alive(now) == overdue {
			t.Fatalf("%d ms after its last frame was sent: alive %v", now-last, p.alive(now))
		}
	}
}
