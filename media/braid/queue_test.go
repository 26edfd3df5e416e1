package braid

import (
	"testing"
	"time"
)

func TestAudioFirstThenVideoByTurns(t *testing.T) {
	var q sendQueue
	now := time.Unix(1000, 0)
	push := func(stream uint16, class Class) {
		if full := q.push(stream, class, []byte{byte(stream)}, now); full != 0 {
			t.Fatal("full")
		}
	}
	for range 3 {
		push(1, Video)
	}
	push(2, Video)
	push(3, Video)
	push(2, Video)
	push(9, Audio)
	var got string
	var stale uint64
	for {
		p, ok := q.pop(now, &stale)
		if !ok {
			break
		}
		got += string('0' + p.buf[0])
		q.release(p.buf)
	}
	if got != "9123121" || q.bytes != 0 || q.len() != 0 {
		t.Errorf("order %s, want 9123121; %d bytes, %d packets left", got, q.bytes, q.len())
	}
}

// A full queue sheds its oldest packet: the newest is worth most.
func TestQueueBoundsAndDeadlines(t *testing.T) {
	var q sendQueue
	now := time.Unix(1000, 0)
	for i := range queueStream + 1 {
		if full := q.push(1, Video, []byte{'v', byte(i)}, now); (full == 1) != (i == queueStream) {
			t.Fatalf("video packet %d: %d gave way", i, full)
		}
	}
	for i := range queueAudio + 1 {
		if full := q.push(1, Audio, []byte("a"), now); (full == 1) != (i == queueAudio) {
			t.Fatalf("audio packet %d: %d gave way", i, full)
		}
	}
	var stale uint64
	if p, ok := q.pop(now.Add(deadlineAudio+1), &stale); !ok || string(p.buf) != "v\x01" || stale != queueAudio {
		t.Errorf("after the audio deadline: %q, want the second video packet; %d stale", p.buf, stale)
	}
	if _, ok := q.pop(now.Add(time.Hour), &stale); ok || stale != queueAudio+queueStream-1 || q.bytes != 0 {
		t.Errorf("after an hour: %v, %d stale, %d bytes", ok, stale, q.bytes)
	}
}

// A sender that comes late because the machine did not run it sends what is there.
func TestNothingGrowsStaleWhileTheSenderDoesNotRun(t *testing.T) {
	var q sendQueue
	now := time.Unix(1000, 0)
	q.push(1, Video, []byte("video"), now)
	q.push(2, Audio, []byte("audio"), now)
	q.stand(now.Add(50*time.Millisecond), now.Add(time.Second))
	var stale uint64
	for _, want := range []string{"audio", "video"} {
		if p, ok := q.pop(now.Add(time.Second+deadlineAudio-50*time.Millisecond), &stale); !ok || string(p.buf) != want || stale > 0 {
			t.Errorf("%q, %v, %d stale; want %q", p.buf, ok, stale, want)
		}
	}
	q.push(1, Video, []byte("video"), now)
	q.stand(now, now.Add(stoodMost+deadlineVideo+1))
	if _, ok := q.pop(now.Add(stoodMost+deadlineVideo+1), &stale); ok || stale != 1 {
		t.Errorf("after a stand of more than %v: %v, %d stale", stoodMost, ok, stale)
	}
}

// At the session's bound the longest queue gives way, even where all are short.
func TestQueueOfTheSessionIsBounded(t *testing.T) {
	for _, streams := range []uint16{8, queueVideo} {
		var q sendQueue
		now := time.Unix(1000, 0)
		shed := 0
		for i := range queueVideo + 100 {
			shed += q.push(uint16(i)%streams, Video, []byte("v"), now)
		}
		if q.video != queueVideo || shed != 100 {
			t.Errorf("%d streams: %d packets queued, %d gave way", streams, q.video, shed)
		}
		var stale uint64
		n := 0
		for _, ok := q.pop(now, &stale); ok; _, ok = q.pop(now, &stale) {
			n++
		}
		if n != queueVideo || q.bytes != 0 || len(q.turns) != 0 {
			t.Errorf("%d streams: %d packets came out, %d bytes and %d turns left", streams, n, q.bytes, len(q.turns))
		}
	}
}

func TestQueueForgetsStreamsThatEnded(t *testing.T) {
	var q sendQueue
	var stale uint64
	for id := range uint16(2000) {
		q.push(id, Video, []byte("v"), time.Unix(0, 0))
		q.pop(time.Unix(0, 0), &stale)
	}
	if len(q.streams) > 256 {
		t.Errorf("%d streams kept, none has packets", len(q.streams))
	}
}

func TestRunsPadALittleAndEndShort(t *testing.T) {
	sizes := func(s ...int) (out [][]byte) {
		for _, n := range s {
			out = append(out, make([]byte, n))
		}
		return out
	}
	for _, tc := range []struct {
		frames []int
		want   int
	}{
		{[]int{1000}, 1},
		{[]int{1000, 1000, 1000}, 3},
		{[]int{1000, 950, 1000}, 3},       // padded
		{[]int{1000, 1000, 100, 1000}, 3}, // a short one ends the run
		{[]int{1000, 1001}, 1},            // a longer one begins another
	} {
		if got := runLength(sizes(tc.frames...)); got != tc.want {
			t.Errorf("sizes %v: a run of %d, want %d", tc.frames, got, tc.want)
		}
	}
}
