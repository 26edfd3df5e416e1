package braid

import (
	"math/rand/v2"
	"testing"
	"time"
)

// The counts of pairs and bursts against a plain recount of a drawn history.
func TestJointLossIsCounted(t *testing.T) {
	const frames = 20_000
	rng := rand.New(rand.NewPCG(5, 6))
	var s settle
	s.know(0, 0, nil)
	for path := range uint8(slots) {
		s.arrive(0, path, 0b111, false, path == 0, 0, nil)
	}
	var want joint
	var run [slots]uint64
	for seq := uint64(1); seq <= frames; seq++ {
		both := rng.Float64() < 0.01 // on 0 and 1 at once
		var got uint8
		for i := range uint8(slots) {
			if lost := rng.Float64() < 0.02 || both && i < 2; !lost {
				s.arrive(seq, i, 0b111, false, got == 0, seq, nil)
				got |= 1 << i
				run[i] = 0
				continue
			}
			if run[i]++; run[i] == 1 {
				want.slots[i].bursts++
			}
			want.slots[i].burst = max(want.slots[i].burst, run[i])
		}
		for i, p := range pairSlots {
			a, b := got>>p[0]&1 == 0, got>>p[1]&1 == 0
			want.pairs[i].sent++
			want.pairs[i].lostA += truth(a)
			want.pairs[i].lostB += truth(b)
			want.pairs[i].both += truth(a && b)
		}
	}
	s.run(frames+settleMS, nil)
	if s.joint.pairs != want.pairs {
		t.Errorf("pairs %+v, want %+v", s.joint.pairs, want.pairs)
	}
	for i, w := range want.slots {
		if got := s.joint.slots[i]; got.bursts != w.bursts || got.burst != w.burst {
			t.Errorf("slot %d: %d bursts, the longest of %d; want %d and %d", i, got.bursts, got.burst, w.bursts, w.burst)
		}
	}
	if p := s.joint.pairs[0]; p.both < 2*s.joint.pairs[1].both {
		t.Errorf("the joint losses of paths 0 and 1 (%d) do not stand out from those of 0 and 2 (%d)", p.both, s.joint.pairs[1].both)
	}
}

func truth(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// Single copies go out on one path, so they say nothing about pairs, and the other paths have not lost them.
func TestSingleCopiesAreNoJointLoss(t *testing.T) {
	var s settle
	for seq := range uint64(100) {
		s.arrive(seq, 0, 0b001, true, true, seq, nil)
		if seq%2 == 0 {
			s.arrive(seq, 0, 0b001, true, false, seq, nil)
		}
	}
	s.arrive(100, 1, 0b110, false, true, 100, nil)
	s.run(100+settleMS, nil)
	if s.joint.pairs != [slots]pairCount{} || s.joint.slots[1].bursts != 0 {
		t.Errorf("%+v", s.joint)
	}
}

func TestAPathThatTakesASlotOverBeginsAnew(t *testing.T) {
	var s settle
	for seq := range uint64(50) {
		s.arrive(seq, 0, 0b011, true, true, 0, nil)
		if seq < 10 {
			s.arrive(seq, 1, 0b011, false, false, 0, nil)
		}
	}
	for seq := uint64(50); seq < 60; seq++ {
		s.arrive(seq, 0, 0b011, true, true, 0, nil)
		s.arrive(seq, 1|1<<2, 0b011, false, false, 0, nil) // another path in slot 1
	}
	s.arrive(20, 1, 0b011, false, false, 0, nil) // a straggler of the one before
	s.run(settleMS, nil)
	if bursts, _ := s.joint.burstsOf(1 | 1<<2); bursts != 0 || s.joint.pairs[0] != (pairCount{sent: 9}) {
		t.Errorf("%d bursts, pair %+v; want none and nine good frames", bursts, s.joint.pairs[0])
	}
}

// Over a whole braid: what the receiver counts as joint loss of two paths is what the network did, and the sender hears of it.
func TestJointLossReachesTheSender(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s := a.session(2)
		stream(s, 0, 100, 300, time.Millisecond)
		n.set(func() {
			n.inspect = func(from, to NodeID, frame []byte) bool { // every tenth frame is lost on both relayed paths
				var h pathHeader
				if from != 1 || to == 2 || parsePathFrame(frame, &h) != DropNone || h.kind != kindMedia {
					return true
				}
				_, _, seq, _ := parseMediaHeader(h.payload(frame))
				return seq%10 != 0
			}
		})
		stream(s, 100, 2000, 300, time.Millisecond)
		pause(2 * time.Second)
		for who, pairs := range map[string][]PairStats{"sender": s.Stats().OutPairs, "receiver": b.session(1).Stats().InPairs} {
			if len(pairs) != 3 {
				t.Fatalf("the %s knows of %d pairs", who, len(pairs))
			}
			for _, p := range pairs {
				if want := 200 * truth(p.A&slotMask == 1); p.Both != want {
					t.Errorf("the %s: %+v, want %d lost on both", who, p, want)
				}
			}
		}
		for _, p := range s.Stats().Out {
			if relayed := len(p.Relays) > 0; relayed && (p.Bursts != 200 || p.LongestBurst != 1) || !relayed && p.Bursts != 0 {
				t.Errorf("path %v: %d bursts, the longest of %d", p.Relays, p.Bursts, p.LongestBurst)
			}
		}
	})
}
