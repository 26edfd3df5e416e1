package braid

import (
	"testing"
	"time"
)

// Both ends of every link count the same frames but for what the link lost: direct, to a relay and from a relay; frames that
// somebody made up, size probes and link probes count nowhere.
func TestBothEndsOfALinkCountItsFrames(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		nodes := map[NodeID]*testNode{}
		for id := NodeID(1); id <= 4; id++ {
			nodes[id] = n.add(id, 1, threePaths)
			for other := NodeID(1); other <= 4; other++ {
				nodes[id].braid.Traffic(other) // counting begins
			}
		}
		lost, over := map[[2]NodeID]uint64{}, false
		n.set(func() {
			n.inspect = func(from, to NodeID, frame []byte) bool {
				if kind := frame[3] & 0x0f; kind != kindQUIC && kind != kindMedia {
					return true
				}
				drop := over || n.rng.Float64() < float64(from+to)/100 // each link its own
				if drop {
					lost[[2]NodeID{from, to}]++
				}
				return !drop
			}
		})
		s := nodes[1].session(2)
		for range 20 {
			_ = nodes[1].braid.SendProbe(2, []byte("probe"))
		}
		stream(s, 0, 1000, 300, 1e6)
		stream(nodes[2].session(1), 1000, 1000, 300, 1e6)
		pause(1e9)
		n.set(func() { over = true }) // all that is under way arrives, and no more
		pause(1e9)
		for _, ends := range [][2]NodeID{{1, 2}, {1, 3}, {3, 2}, {1, 4}, {4, 2}, {2, 1}} {
			sent := nodes[ends[0]].braid.Traffic(ends[1]).Sent
			got := nodes[ends[1]].braid.Traffic(ends[0])
			arrived := got.Arrived
			if sent < 900 || lost[ends] == 0 || sent != arrived+lost[ends] {
				t.Errorf("%d to %d: %d sent, %d arrived, %d lost", ends[0], ends[1], sent, arrived, lost[ends])
			}
			own, delay := ends[0] <= 2, time.Duration(0) // 1 and 2 make frames; 3 and 4 relay them
			if own {
				delay, _ = n.link(ends[0], ends[1])
			}
			if own && got.Timed != arrived || !own && got.Timed > 0 || (got.Transit-delay).Abs() > 3*time.Millisecond {
				t.Errorf("%d to %d: %d of %d frames carry its time, the newest took %v; a packet takes %v", ends[0], ends[1], got.Timed, arrived, got.Transit, delay)
			}
		}
		for _, relay := range []NodeID{3, 4} { // both ends of a relay's link speak of the source's frames
			before, _ := n.link(1, relay)
			behind, _ := n.link(relay, 2)
			passed, got := nodes[relay].braid.Traffic(2), nodes[2].braid.Traffic(relay)
			if p := passed.Passed; p.Count != passed.Sent || p.Source != 1 || (p.Transit-before).Abs() > 3*time.Millisecond {
				t.Errorf("%d passed %+v of %d on; they took %v to it", relay, p, passed.Sent, before)
			}
			if b := got.Brought; b.Count != got.Arrived || b.Source != 1 || (b.Transit-before-behind).Abs() > 3*time.Millisecond {
				t.Errorf("%d brought %+v of %d; they took %v", relay, b, got.Arrived, before+behind)
			}
		}
		if m := markOf(7, 1_700_000_000_123, 1_699_999_990_123); m.of(1) != (Relayed{Count: 1, Source: 7, SentMS: uint16(1_700_000_000_123 & 0xffff), Transit: -10 * time.Second}) {
			t.Errorf("a mark of a clock 10 s ahead: %x", m)
		}
	})
}

func TestForgedFramesAreNoTraffic(t *testing.T) {
	b := still(t, 3, &nullHandler{}, &nullWire{})
	b.Traffic(1)
	run, segment := relayRun(b, 2, 2, 2)
	run[segment+7]++ // under the MAC
	b.HandleFrame(run[:segment], addrOf(1))
	b.HandleFrame(run[segment:2*segment], addrOf(1))
	if arrived := b.Traffic(1).Arrived; arrived != 1 {
		t.Errorf("%d frames count as traffic of the link, one had a good MAC", arrived)
	}
}

// A frame of others counts once its mark can be read, not before.
func TestMarksAreThereBeforeTheirFramesCount(t *testing.T) {
	var o others
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := NodeID(1); n <= 20_000; n++ {
			o.note(1, markOf(n, 0, 0))
		}
	}()
	for o.count.Load() < 20_000 {
		if r := o.relayed(); uint64(r.Source) < r.Count {
			t.Errorf("%d frames, and the newest known is number %d", r.Count, r.Source)
			break
		}
	}
	<-done
}
