package clip

import (
	"testing"
	"time"
)

func load(t *testing.T) *Clip {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheClipIsSmallAndWhole(t *testing.T) {
	if size := len(videoFile) + len(audioFile); size > 512<<10 {
		t.Errorf("the clip has %d bytes, the repository allows 512 KiB", size)
	}
	c := load(t)
	if c.Duration() < 5*time.Second || len(c.keys) < 5 {
		t.Errorf("%v long with %d key frames, want about six seconds with one a second", c.Duration(), len(c.keys))
	}
	sound := time.Duration(len(c.audio)) * audioFrame
	if d := sound - c.Duration(); d < -100*time.Millisecond || d > 100*time.Millisecond {
		t.Errorf("the sound lasts %v, the picture %v", sound, c.Duration())
	}
}

// play collects everything sent in a time, asked every 5 ms.
func play(p *Player, length time.Duration) (all []Packet) {
	for at := time.Duration(0); at < length; at += 5 * time.Millisecond {
		all = p.Due(at, all)
	}
	return all
}

func TestTheLoopMakesEnoughPacketsInOrder(t *testing.T) {
	c := load(t)
	packets := play(NewPlayer(c), 3*c.Duration())
	perSecond := float64(len(packets)) / (3 * c.Duration()).Seconds()
	if perSecond < 160 || perSecond > 260 {
		t.Errorf("%.0f packets/s, want at least 160 (150 with a margin) and not many more", perSecond)
	}
	t.Logf("%.0f packets/s", perSecond)
	last := map[string]Packet{}
	for _, p := range packets {
		if before, seen := last[p.Kind]; seen {
			if p.RTP.SequenceNumber != before.RTP.SequenceNumber+1 {
				t.Fatalf("%s jumps from sequence number %d to %d", p.Kind, before.RTP.SequenceNumber, p.RTP.SequenceNumber)
			}
			if step := p.RTP.Timestamp - before.RTP.Timestamp; step != 0 && step != 3000 && step != 960 {
				t.Fatalf("%s timestamps step by %d, want one frame also where the loop closes", p.Kind, step)
			}
		}
		if size := len(p.RTP.Payload); size > 1188 {
			t.Fatalf("a %s packet carries %d bytes", p.Kind, size)
		}
		last[p.Kind] = p
	}
}

func TestNoSecondIsThin(t *testing.T) {
	c := load(t)
	p := NewPlayer(c)
	var out []Packet
	for second := 1; second <= 12; second++ {
		out = p.Due(time.Duration(second)*time.Second-1, out[:0])
		if len(out) < 150 {
			t.Errorf("second %d has %d packets, want at least 150", second, len(out))
		}
	}
}

func TestAKeyframeRequestIsAnsweredWithTheNextPicture(t *testing.T) {
	c := load(t)
	p := NewPlayer(c)
	p.Due(400*time.Millisecond, nil)
	p.Keyframe(400 * time.Millisecond)
	p.Keyframe(410 * time.Millisecond) // the same wish again
	packets := p.Due(440*time.Millisecond, nil)
	for _, packet := range packets {
		if packet.Kind != Video {
			continue
		}
		// VP8 payload descriptor with a picture id of one or two bytes, then the frame header.
		payload := packet.RTP.Payload
		header := payload[3]
		if payload[2]&0x80 != 0 {
			header = payload[4]
		}
		if header&1 != 0 {
			t.Error("the picture after a key frame request is not a key frame")
		}
		return
	}
	t.Error("no picture after a key frame request")
}

func TestNextIsWhenSomethingIsDue(t *testing.T) {
	p := NewPlayer(load(t))
	for range 1000 {
		at := p.Next()
		if got := p.Due(at-1, nil); len(got) != 0 {
			t.Fatalf("%d packets before %v, which Next named", len(got), at)
		}
		if got := p.Due(at, nil); len(got) == 0 {
			t.Fatalf("nothing at %v, which Next named", at)
		}
	}
}
