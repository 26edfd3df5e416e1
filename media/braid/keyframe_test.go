package braid

import (
	"testing"
	"time"
)

// A keyframe of 100 packets on one stream leaves the audio of another alone, also where it takes the network a while to carry it.
func TestAKeyframeHardlyDelaysAudio(t *testing.T) {
	for _, mbit := range []float64{30, 100} {
		inBubble(t, func(t *testing.T, n *testNet) {
			each := map[NodeID]*bottleneck{}
			for _, hop := range []NodeID{2, 3, 4} {
				each[hop] = mbits(mbit, 200*time.Millisecond)
			}
			n.narrow = func(from, to NodeID) *bottleneck {
				if from == 1 {
					return each[to]
				}
				return nil
			}
			a, b, _, _ := four(n)
			s := a.session(2)
			const (
				video = 1 << 32
				key   = 2 << 32
			)
			sent := map[uint64]time.Time{}
			for ms := range uint64(4000) {
				if ms%20 == 0 {
					sent[ms] = time.Now()
					s.Send(1, Audio, testPacket(ms, 160))
				}
				if ms%4 == 0 {
					s.Send(2, Video, testPacket(video+ms, 1150)) // 2.3 Mbit/s
				}
				if ms%500 == 477 { // just before audio
					for i := range uint64(100) {
						sent[key+100*ms+i] = time.Now()
						s.Send(3, Video, testPacket(key+100*ms+i, 1150))
					}
				}
				time.Sleep(time.Millisecond)
			}
			pause(time.Second)
			var audio, frame time.Duration
			least := time.Hour
			for k, at := range sent {
				got, ok := b.rec.at[k]
				if !ok {
					t.Fatalf("packet %d is lost", k)
				}
				if took := got.Sub(at); k < video {
					audio, least = max(audio, took), min(least, took)
				} else {
					frame = max(frame, took)
				}
			}
			t.Logf("paths of %v Mbit/s: audio takes %v to %v, a keyframe at most %v", mbit, least, audio, frame)
			if audio-least >= 5*time.Millisecond {
				t.Errorf("paths of %v Mbit/s: audio is up to %v late, want less than 5 ms", mbit, audio-least)
			}
			if frame > least+50*time.Millisecond {
				t.Errorf("paths of %v Mbit/s: a keyframe takes %v", mbit, frame)
			}
		})
	}
}
