package braid

import (
	"testing"
	"time"
)

// corrupts makes relay 3 change one byte of every media payload on its way from 1 to 2: which one, at says.
func (n *testNet) corrupts(at func(payload []byte) int) {
	n.set(func() {
		n.inspect = func(from, to NodeID, frame []byte) bool {
			var h pathHeader
			if from == 3 && to == 2 && parsePathFrame(frame, &h) == DropNone && h.kind == kindMedia {
				payload := h.payload(frame)
				payload[at(payload)] ^= 0x55
			}
			return true
		}
	})
}

// pathBy finds the path by a relay.
func pathBy(t *testing.T, paths []PathStats, relay NodeID) PathStats {
	t.Helper()
	for _, p := range paths {
		if len(p.Relays) == 1 && p.Relays[0] == relay {
			return p
		}
	}
	t.Fatalf("no path by relay %d in %+v", relay, paths)
	return PathStats{}
}

func TestRelayThatChangesPayloadsIsFoundOut(t *testing.T) {
	for name, at := range map[string]func(payload []byte) int{
		"last byte":   func(p []byte) int { return len(p) - 1 },
		"session tag": func([]byte) int { return 0 },
		"key epoch":   func([]byte) int { return 1 },
		"sequence":    func([]byte) int { return 7 },
	} {
		for speed, delay := range map[string]time.Duration{"fastest": 10 * time.Millisecond, "slowest": 80 * time.Millisecond} {
			t.Run(name+", "+speed+" path", func(t *testing.T) {
				inBubble(t, func(t *testing.T, n *testNet) {
					a, b, _, _ := four(n)
					n.delays(20*time.Millisecond, delay, 40*time.Millisecond)
					s := a.session(2)
					pause(5 * time.Second)
					n.corrupts(at)
					stream(s, 0, 1000, 300, time.Millisecond)
					pause(300 * time.Millisecond)
					out, in := s.Stats(), b.session(1).Stats()
					for end, p := range map[string]PathStats{"sender": pathBy(t, out.Out, 3), "receiver": pathBy(t, in.In, 3)} {
						if p.Alive || p.Corrupt < 980 || p.Lost < 980 || p.First != 0 {
							t.Errorf("the %s shows the path as alive %v, lost %d, corrupt %d, first %d; all of its 1000 frames were changed",
								end, p.Alive, p.Lost, p.Corrupt, p.First)
						}
					}
					if p := pathBy(t, out.Out, 4); !p.Alive || p.Lost != 0 || p.Corrupt != 0 {
						t.Errorf("the path by the honest relay: %+v", p)
					}
					if b.rec.got() != 1000 || in.Undelivered != 0 {
						t.Errorf("%d of 1000 packets, %d undelivered", b.rec.got(), in.Undelivered)
					}
					n.set(func() { n.inspect = nil })
					stream(s, 1000, 100, 300, time.Millisecond)
					pause(time.Second)
					if p := pathBy(t, s.Stats().Out, 3); !p.Alive {
						t.Error("the path is dead still, though what it brings is good again")
					}
				})
			})
		}
	}
}

// Single copies leave the path that corrupts them as soon as the receiver's report says so; what it spoiled till then,
// and each time it is tried again, is repaired.
func TestSingleCopiesLeaveACorruptingRelay(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		best3 := func(NodeID) []Path { return []Path{{Relays: []NodeID{3}}, {}, {Relays: []NodeID{4}}} }
		a, b := n.add(1, 1, best3), n.add(2, 1, best3)
		n.add(3, 1, direct)
		n.add(4, 1, direct)
		s := a.session(2)
		pause(5 * time.Second)
		n.corrupts(func(p []byte) int { return len(p) - 1 })
		for i := range uint64(2000) {
			s.Send(7, Video|OneCopy, testPacket(i, 300))
			time.Sleep(time.Millisecond)
		}
		pause(time.Second)
		in := b.session(1).Stats()
		p := pathBy(t, s.Stats().Out, 3)
		if b.rec.got() != 2000 || in.Undelivered != 0 {
			t.Errorf("%d of 2000 packets, %d undelivered, %d repaired", b.rec.got(), in.Undelivered, in.Repaired)
		}
		if p.Alive || p.Corrupt == 0 || p.Corrupt > 400 {
			t.Errorf("the corrupting path: alive %v, %d frames corrupt; want some 200 until it was left", p.Alive, p.Corrupt)
		}
	})
}

func TestSealHistory(t *testing.T) {
	var s sealHistory
	for i := range 4 * sampleCopies {
		if s.sample() != (i%sampleCopies == sampleCopies-1) {
			t.Errorf("copy %d: wrongly opened, or not", i)
		}
	}
	for i := range brokenOf {
		if s.broken(0) {
			t.Errorf("broken after %d corrupt frames", i)
		}
		s.note(true, 0)
		if !s.sample() {
			t.Error("a copy on a path under suspicion was not opened")
		}
	}
	if !s.broken(brokenMS-1) || s.broken(brokenMS) {
		t.Errorf("broken %v within %d ms of the last corrupt frame and %v after", s.broken(brokenMS-1), brokenMS, s.broken(brokenMS))
	}
	for range 16 - brokenOf + 1 {
		s.note(false, 1)
	}
	if s.broken(1) || s.corrupt != brokenOf {
		t.Errorf("broken %v after good frames; %d corrupt", s.broken(1), s.corrupt)
	}
}
