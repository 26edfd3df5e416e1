package braid

import (
	"testing"
	"time"
)

// A stream that moves so many bytes on three paths in a step, for seconds; the steps at which a side reports, in milliseconds.
func reportsOf(perStep uint64, calm bool, patience time.Duration, seconds int, pauses func(step int) bool) (at []int) {
	var t rhythm
	r := report{out: make([]outReport, 3), in: make([]inReport, 3)}
	for step := range seconds * 10 {
		if !pauses(step) {
			r.mediaNext++
			r.moved += perStep
		}
		t.step(&r)
		if t.due(&r, calm, patience) {
			at = append(at, step*100)
			t.sent(&r)
		}
	}
	return at
}

func TestReportsFollowTheBytes(t *testing.T) {
	const audio, video = 3_270, 720_000 // bytes in a step on three paths: 50/s of 160 B, 2,000/s of 1,150 B
	never := func(int) bool { return false }
	ends := func(step int) bool { return step >= 130 }
	for _, c := range []struct {
		name        string
		perStep     uint64
		calm        bool
		patience    time.Duration
		pauses      func(int) bool
		least, most int // in 30 s
	}{
		{"a lone audio stream", audio, true, time.Minute, never, 3, 4},
		{"the same in trouble", audio, false, time.Minute, never, 300, 300},
		{"to a peer that waits for a second", audio, true, time.Second, never, 30, 31},
		{"video", video, true, time.Minute, never, 290, 300},
		{"nothing", 0, true, time.Minute, func(int) bool { return true }, 6, 8},
		{"five lumps a second, in pauses", 4 * audio, true, time.Minute, func(step int) bool { return step%2 == 1 }, 10, 20},
		{"media that ends after thirteen seconds", audio, true, time.Minute, ends, 8, 11},
	} {
		if got := reportsOf(c.perStep, c.calm, c.patience, 30, c.pauses); len(got) < c.least || len(got) > c.most {
			t.Errorf("%s: %d reports in 30 s, want %d to %d: %d", c.name, len(got), c.least, c.most, got)
		}
	}
	var after []int
	for _, at := range reportsOf(audio, true, time.Minute, 16, ends) {
		if at >= 13_000 {
			after = append(after, at)
		}
	}
	if len(after) != len(pausesTold) || after[0] != 13_000 {
		t.Errorf("media ends at 12,900 ms and is told of at %d, want %d times, at 13,000 first", after, len(pausesTold))
	}
}

// callOf is a lone audio stream, long enough for all to be calm, over paths of 30 to 60 ms.
func callOf(n *testNet, a *testNode, class Class) (s *Session, next int) {
	n.delays(30*time.Millisecond, 40*time.Millisecond, 60*time.Millisecond)
	s = a.session(2)
	for range 750 {
		s.Send(1, class, testPacket(uint64(next), 160))
		next++
		time.Sleep(20 * time.Millisecond)
	}
	return s, next
}

// What is not media, both ways and on all hops, is at most a hundredth of it, though there is as little as one audio stream.
func TestStatisticsOfALoneAudioStreamCostLittle(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, _, _, _ := four(n)
		s, next := callOf(n, a, Audio)
		var media, rest int
		n.set(func() {
			n.inspect = func(_, _ NodeID, frame []byte) bool {
				if frame[3]&0xf == kindMedia {
					media += len(frame)
				} else {
					rest += len(frame)
				}
				return true
			}
		})
		for i := range 50 * 36 { // four rounds of reports
			s.Send(1, Audio, testPacket(uint64(next+i), 160))
			time.Sleep(20 * time.Millisecond)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		t.Logf("%d bytes of media, %d of all else: %.2f %%", media, rest, 100*float64(rest)/float64(media))
		if rest*100 > media {
			t.Errorf("statistics are %.2f %% of the media", 100*float64(rest)/float64(media))
		}
	})
}

// However rarely a calm stream is reported on, trouble is told of at once: a dead path within 300 ms of what was due on it, and a lost frame within
// a round trip of the next one.
func TestACalmAudioStreamHearsOfTroubleAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a, b, _, _ := four(n)
		s, next := callOf(n, a, Audio)
		speak := func(packets int) {
			for range packets {
				s.Send(1, Audio, testPacket(uint64(next), 160))
				next++
				time.Sleep(20 * time.Millisecond)
			}
		}
		n.set(func() { n.inspect = func(from, to NodeID, _ []byte) bool { return from != 1 || to != 3 } })
		speak(1)
		n.set(func() { n.inspect = nil })
		speak(6) // the next frame on that path, and 70 ms for the way there and back
		if p, _ := outPathBy(s, 3); p.Loss == 0 {
			t.Error("120 ms after a frame was lost the sender does not know")
		}
		speak(50 * 15)
		n.set(func() { n.inspect = func(from, to NodeID, _ []byte) bool { return from != 1 || to != 4 } })
		speak((300 + 60 + 30) / 20) // due on the path, and the way back
		if p, _ := outPathBy(s, 4); p.Alive {
			t.Error("a path is dead, and 300 ms after its first frame was due the sender does not know")
		}
		pause(time.Second)
		if b.rec.got() != next {
			t.Errorf("%d of %d packets", b.rec.got(), next)
		}
	})
}

// A peer that does not say for how long it waits for reports gets one each second: it takes three seconds of silence for dead paths.
func TestOldPeersHearEverySecond(t *testing.T) {
	for old, want := range map[bool][2]int{true: {9, 14}, false: {2, 5}} {
		inBubble(t, func(t *testing.T, n *testNet) {
			if old {
				n.versions = map[NodeID][]string{2: {"tern-braid/1"}}
			}
			a, _, _, _ := four(n)
			s := a.session(2)
			pause(5 * time.Second)
			reports := 0
			n.set(func() {
				n.inspect = func(from, to NodeID, frame []byte) bool {
					if from == 1 && to == 2 && frame[3]&0xf == kindQUIC && len(frame) > 110 { // no acknowledgement alone
						reports++
					}
					return true
				}
			})
			pause(10 * time.Second)
			n.mu.Lock()
			defer n.mu.Unlock()
			if reports < want[0] || reports > want[1] {
				t.Errorf("protocol %d: %d reports in ten idle seconds, want %d to %d", s.protocol, reports, want[0], want[1])
			}
		})
	}
}
