package braid

import (
	"testing"
	"time"
)

func TestAudioFirstThenVideoByTurns(t *testing.T) {
	var q sendQueue
	now := time.Unix(1000, 0)
	push := func(stream uint16, class Class) {
		if why := q.push(stream, class, []byte{byte(stream)}, now); why != DropNone {
			t.Fatal(why)
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

func TestQueueBoundsAndDeadlines(t *testing.T) {
	var q sendQueue
	now := time.Unix(1000, 0)
	for i := range queueStream + 1 {
		if why := q.push(1, Video, []byte("v"), now); (why == DropQueueFull) != (i == queueStream) {
			t.Fatalf("video packet %d: %v", i, why)
		}
	}
	for i := range queueAudio + 1 {
		if why := q.push(1, Audio, []byte("a"), now); (why == DropQueueFull) != (i == queueAudio) {
			t.Fatalf("audio packet %d: %v", i, why)
		}
	}
	var stale uint64
	if p, ok := q.pop(now.Add(deadlineAudio+1), &stale); !ok || string(p.buf) != "v" || stale != queueAudio {
		t.Errorf("after the audio deadline: %q, %d stale", p.buf, stale)
	}
	if _, ok := q.pop(now.Add(time.Hour), &stale); ok || stale != queueAudio+queueStream-1 || q.bytes != 0 {
		t.Errorf("after an hour: %v, %d stale, %d bytes", ok, stale, q.bytes)
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
