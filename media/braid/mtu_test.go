package braid

import (
	"testing"
	"time"
)

// limit makes a relay drop what is larger than size bytes, without a word.
func (n *testNet) limit(relay NodeID, size int) {
	n.set(func() {
		n.inspect = func(from, to NodeID, frame []byte) bool { return from != relay && to != relay || len(frame) <= size }
	})
}

// A path that drops large packets silently is noticed, frames are cut to fit it, and it delivers again; full packets come back
// with it once it carries them.
func TestMTUBlackHoleIsNoticed(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		n.limit(3, 1240)
		s := a.session(2)
		stream(s, 0, 3000, 1250, 2*time.Millisecond) // as frames: more than 1,240 bytes
		before, _ := outPathBy(s, 3)
		if before.MaxBytes != 1232 || a.braid.Stats().BlackHoles != 1 {
			t.Errorf("after 6 s the path's limit is %d bytes, want 1,232; %d black holes counted", before.MaxBytes, a.braid.Stats().BlackHoles)
		}
		stream(s, 3000, 1000, 1250, 2*time.Millisecond)
		pause(time.Second)
		after, _ := outPathBy(s, 3)
		if got := after.Received - before.Received; got < 990 || !after.Alive {
			t.Errorf("the path brought %d frames of the 1,000 packets sent since, alive %v", got, after.Alive)
		}
		for _, p := range s.Stats().Out {
			if len(p.Relays) == 0 && p.MaxBytes != 0 || len(p.Relays) == 1 && p.Relays[0] == 4 && p.MaxBytes != 0 {
				t.Errorf("path %v is limited to %d bytes", p.Relays, p.MaxBytes)
			}
		}
		n.set(func() { n.inspect = nil })
		stream(s, 4000, 7000, 1250, 5*time.Millisecond)
		pause(time.Second)
		if p, _ := outPathBy(s, 3); p.MaxBytes != 0 {
			t.Errorf("35 s after it was mended the path is limited to %d bytes", p.MaxBytes)
		}
		if b.rec.got() != 11_000 || b.rec.bad != 0 {
			t.Errorf("%d of 11,000 packets, %d damaged", b.rec.got(), b.rec.bad)
		}
	})
}

// On a single path nothing but the probes can tell: media is back within three seconds of its start.
func TestMTUBlackHoleOnTheOnlyPath(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b := n.add(1, 1, direct), n.add(2, 1, direct)
		s := a.session(2)
		n.limit(2, 1100)
		stream(s, 0, 3000, 1150, 2*time.Millisecond)
		pause(time.Second)
		if got := b.rec.got(); got < 1500 || b.rec.bad != 0 {
			t.Errorf("%d of 3000 packets in six seconds", got)
		}
		if why := s.Send(1, Video, testPacket(1<<20, MaxPacket)); why != DropNone {
			t.Errorf("the largest packet: %v", why)
		}
		pause(time.Second)
		if b.rec.packets[1<<20] != 1 {
			t.Error("the largest packet did not cross")
		}
	})
}

func TestSizingNeedsEvidence(t *testing.T) {
	var z sizing
	now, bytes := time.Unix(1000, 0), uint64(0)
	step := func(seen uint64) (sent int) {
		for range 40 {
			send, _ := z.step(now, 0, seen, bytes, false)
			sent += len(send)
			now = now.Add(100 * time.Millisecond)
		}
		return sent
	}
	if sent := step(0); sent != 1+2*len(probeSizes) || z.limit != 0 {
		t.Errorf("a path that brings nothing: %d probes, limit %d; want no limit", sent, z.limit)
	}
	now, bytes = now.Add(probeEvery), bytes+probeBytes
	if step(1); z.limit != probeSizes[0] {
		t.Errorf("only the smallest came: limit %d", z.limit)
	}
	now = now.Add(probeEvery)
	if sent := step(fullSize); sent != 1 || z.limit != 0 {
		t.Errorf("the full size came: %d probes, limit %d", sent, z.limit)
	}
	now = now.Add(probeEvery)
	if sent := step(fullSize); sent != 0 {
		t.Errorf("a path on which nothing was sent is tried with %d probes", sent)
	}
	if bytes += probeBytes; step(fullSize) != 1 {
		t.Error("a path on which much was sent is not tried again")
	}
	if now = now.Add(probeRest); step(fullSize) != 1 {
		t.Error("a path is not tried for five minutes")
	}
}

// An idle session answers size probes before they are sent again.
func TestSizeProbesAreAnsweredWithoutMedia(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		probes := 0
		n.set(func() {
			n.inspect = func(from, to NodeID, frame []byte) bool {
				if from <= 2 && frame[3]&0xf == kindSize {
					probes++
				}
				return true
			}
		})
		for _, s := range []*Session{a.session(2), b.session(1)} {
			pause(3 * time.Second)
			s.f.sendMu.Lock()
			for _, p := range s.f.paths {
				if p.size.tries != 0 || p.seen.sizes&fullSize == 0 {
					t.Errorf("node %d's path %v: try %d, sizes %b", s.b.cfg.Self, p.relays[:p.relayN], p.size.tries, p.seen.sizes)
				}
			}
			s.f.sendMu.Unlock()
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if probes != 6 {
			t.Errorf("%d probes on three paths of each node, want one each", probes)
		}
	})
}
