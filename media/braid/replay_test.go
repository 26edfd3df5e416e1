package braid

import (
	"slices"
	"testing"
	"time"
)

// Somebody at the direct path replays every frame that he lets pass, or replays old ones in place of those that he
// swallows: neither counts as received.
func TestReplaysHideNoLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 200, 300, time.Millisecond)
		pause(time.Second)
		before := s.Stats().Out[0]
		var kept [][]byte
		swallow := false
		n.set(func() {
			n.inspect = func(from, to NodeID, frame []byte) bool {
				if from != 1 || to != 2 {
					return true
				}
				again := slices.Clone(frame)
				if !swallow {
					kept = append(kept, slices.Clone(frame))
				} else {
					again = slices.Clone(kept[len(kept)/2])
				}
				time.AfterFunc(25*time.Millisecond, func() { n.nodes[2].inbox <- arrived{again, time.Now()} })
				return !swallow
			}
		})
		stream(s, 200, 300, 300, time.Millisecond)
		pause(500 * time.Millisecond)
		p := s.Stats().Out[0]
		if p.Received > p.Sent || p.Received < before.Received+300 || !p.Alive || p.Lost != 0 {
			t.Errorf("with each frame replayed once: %+v", p)
		}
		if dropped := b.braid.Stats().Frames["replay"]; dropped < 300 {
			t.Errorf("%d replays counted, want 300 and more", dropped)
		}
		n.set(func() { swallow = true })
		stream(s, 500, 1000, 300, time.Millisecond)
		pause(time.Second)
		if p = s.Stats().Out[0]; p.Alive || p.Lost < 1000 {
			t.Errorf("with each frame swallowed and an old one in its place: alive %v, lost %d", p.Alive, p.Lost)
		}
		if b.rec.got() != 1500 || b.rec.bad != 0 {
			t.Errorf("%d of 1500 packets, %d damaged", b.rec.got(), b.rec.bad)
		}
	})
}

// True headers ahead of the true frames, with the payload of an earlier one: on a single path, so that it alone delivers.
func TestReplayedHeaderSuppressesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b := n.add(1, 1, direct), n.add(2, 1, direct)
		s := a.session(2)
		pause(time.Second)
		var early []byte
		n.set(func() {
			n.inspect = func(from, to NodeID, frame []byte) bool {
				var h pathHeader
				if from != 1 || parsePathFrame(frame, &h) != DropNone || h.kind != kindMedia {
					return true
				}
				if early == nil {
					early = slices.Clone(h.payload(frame))
					return true
				}
				forged := slices.Clone(frame)
				copy(h.payload(forged), early)
				time.AfterFunc(time.Millisecond, func() { n.nodes[2].inbox <- arrived{forged, time.Now()} })
				return true
			}
		})
		stream(s, 0, 1, 300, 0)
		pause(100 * time.Millisecond)
		stream(s, 1, 500, 300, time.Millisecond)
		pause(time.Second)
		if st := b.session(1).Stats(); b.rec.got() != 501 || b.rec.bad != 0 || st.Repaired != 0 {
			t.Errorf("%d of 501 packets, %d damaged, %d only by repair", b.rec.got(), b.rec.bad, st.Repaired)
		}
	})
}

func TestReplayAgainstNewCount(t *testing.T) {
	var in inbound
	replayed := func(seq uint32, sent uint64) bool {
		h := pathHeader{seq: seq}
		return in.path(0, 0, h.relays).replayed(&h, sent)
	}
	for i := range uint32(10_000) {
		if replayed(1<<31+i, 1000+uint64(i)) {
			t.Fatalf("frame %d counts as a replay", i)
		}
		arriveOn(&in, 0, 1<<31+i, 1000+uint64(i), 1000+uint64(i))
	}
	const last = 1<<31 + 9_999
	for what, c := range map[string]struct {
		seq  uint32
		sent uint64
		want bool
	}{
		"the newest again":                    {last, 10_999, true},
		"one from far behind":                 {last - 9_000, 1_999, true},
		"one of an earlier, distant count":    {77, 9_000, true},
		"the next":                            {last + 1, 10_999, false},
		"a restarted source, count close by":  {last - 9_000, 12_000, false},
		"a restarted source, count elsewhere": {77, 12_000, false},
	} {
		if replayed(c.seq, c.sent) != c.want {
			t.Errorf("%s: replay %v, want %v", what, !c.want, c.want)
		}
	}
	// The restarted source's count lies among numbers that were there before: it counts from its first frame on.
	p := &in.paths[0]
	had := p.received
	for i := range uint32(500) {
		arriveOn(&in, 0, last-9_000+i, 12_000+uint64(i), 12_000+uint64(i))
	}
	if p.received != had+500 || p.lost() != 0 {
		t.Errorf("of 500 frames of the new count %d are counted, %d as lost", p.received-had, p.lost())
	}
}
