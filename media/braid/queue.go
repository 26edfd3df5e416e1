package braid

import (
	"slices"
	"time"
)

// Bounds of a session's send queue, in packets. Where one is reached, the oldest packet gives way and is counted.
const (
	queueAudio  = 256
	queueStream = 512  // video, one stream
	queueVideo  = 2048 // video, all streams
	// queueSpare bounds the buffers of each size that wait for the next packets.
	queueSpare = 64
	queueSmall = 256 // bytes: audio
)

// How long a packet may wait for budgets before it is dropped as stale: this and the queue that a budget tolerates in the network
// stay below 300 ms together. The time for which the machine did not run the sender is not counted, up to stoodMost: nothing was
// in the way, and one who asked for no packet to be lost gets it late.
const (
	deadlineAudio = 120 * time.Millisecond
	deadlineVideo = 160 * time.Millisecond
	stoodMost     = 2 * time.Second
	// stoodLeast is how late a sender may come before it counts.
	stoodLeast = 10 * time.Millisecond
)

// queued is one packet that waits.
type queued struct {
	buf    []byte
	stream uint16
	at     time.Time
	stood  time.Duration // of its wait, when the sender did not run
	mode   mode          // how many copies
}

// stale says whether a packet has waited for longer than a deadline.
func (p *queued) stale(now time.Time, deadline time.Duration) bool {
	return now.Sub(p.at)-p.stood > deadline
}

// fifo is a ring that grows to what it is used for.
type fifo struct {
	ring    []queued
	head, n int
}

func (f *fifo) push(q queued) {
	if f.n == len(f.ring) {
		ring := make([]queued, max(8, 2*f.n))
		for i := range f.n {
			ring[i] = f.ring[(f.head+i)%len(f.ring)]
		}
		f.ring, f.head = ring, 0
	}
	f.ring[(f.head+f.n)%len(f.ring)] = q
	f.n++
}

func (f *fifo) pop() queued {
	q := f.ring[f.head]
	f.ring[f.head] = queued{}
	f.head, f.n = (f.head+1)%len(f.ring), f.n-1
	return q
}

// sendQueue holds what a session has to send: audio first, then video by turns between the streams, so that one stream's
// keyframe delays no other. The zero value is ready. Guarded by Session.queueMu.
type sendQueue struct {
	audio   fifo
	streams map[uint16]*fifo
	turns   []*fifo // streams with packets, in the order of their turns
	video   int     // packets in streams
	bytes   int
	small   [][]byte // buffers for reuse, of queueSmall bytes
	large   [][]byte // the same, of MaxDatagram bytes
}

func (q *sendQueue) len() int { return q.audio.n + q.video }

// age is how long the oldest packet has waited, as far as the next of each stream shows.
func (q *sendQueue) age(now time.Time) (age time.Duration) {
	if q.audio.n > 0 {
		age = now.Sub(q.audio.ring[q.audio.head].at)
	}
	for _, f := range q.turns {
		age = max(age, now.Sub(f.ring[f.head].at))
	}
	return age
}

// stand tells that the sender did not run from an instant until now, though it should have.
func (q *sendQueue) stand(since, now time.Time) {
	q.audio.stand(since, now)
	for _, f := range q.turns {
		f.stand(since, now)
	}
}

func (f *fifo) stand(since, now time.Time) {
	for i := range f.n {
		p := &f.ring[(f.head+i)%len(f.ring)]
		from := since
		if p.at.After(since) {
			from = p.at
		}
		p.stood = min(p.stood+now.Sub(from), stoodMost)
	}
}

// push copies a packet into the queue; full is how many older ones had to make room.
func (q *sendQueue) push(stream uint16, class Class, packet []byte, now time.Time) (full int) {
	if class&kindMask == Audio {
		if q.audio.n >= queueAudio {
			q.shed(&q.audio)
			full = 1
		}
		q.audio.push(queued{buf: q.copy(packet), stream: stream, at: now, mode: class.mode()})
		return full
	}
	f := q.streams[stream]
	if f == nil {
		f = q.newStream(stream)
	}
	if f.n >= queueStream || q.video >= queueVideo {
		victim := f
		for _, o := range q.turns { // where all are full: of the longest
			if o.n > victim.n {
				victim = o
			}
		}
		q.shed(victim)
		q.video--
		if victim.n == 0 {
			q.turns = slices.DeleteFunc(q.turns, func(o *fifo) bool { return o == victim })
		}
		full = 1
	}
	if f.n == 0 {
		q.turns = append(q.turns, f)
	}
	f.push(queued{buf: q.copy(packet), stream: stream, at: now, mode: class.mode()})
	q.video++
	return full
}

// shed drops the oldest packet of a queue: what is newest is worth most.
func (q *sendQueue) shed(f *fifo) {
	p := f.pop()
	q.bytes -= len(p.buf)
	q.release(p.buf)
}

// newStream adds a queue and sweeps out those of streams long gone.
func (q *sendQueue) newStream(stream uint16) *fifo {
	if q.streams == nil {
		q.streams = make(map[uint16]*fifo)
	}
	if len(q.streams) >= 256 {
		for id, f := range q.streams {
			if f.n == 0 {
				delete(q.streams, id)
			}
		}
	}
	f := &fifo{}
	q.streams[stream] = f
	return f
}

// pop takes the next packet that is not stale; stale ones are freed and counted. The caller gives the buffer back with
// release.
func (q *sendQueue) pop(now time.Time, stale *uint64) (queued, bool) {
	for q.audio.n > 0 {
		p := q.audio.pop()
		q.bytes -= len(p.buf)
		if !p.stale(now, deadlineAudio) {
			return p, true
		}
		q.release(p.buf)
		*stale++
	}
	for len(q.turns) > 0 {
		f := q.turns[0]
		p := f.pop()
		q.video--
		q.bytes -= len(p.buf)
		// Turn over: to the back of the line, or out of it.
		copy(q.turns, q.turns[1:])
		q.turns = q.turns[:len(q.turns)-1]
		if f.n > 0 {
			q.turns = append(q.turns, f)
		}
		if !p.stale(now, deadlineVideo) {
			return p, true
		}
		q.release(p.buf)
		*stale++
	}
	return queued{}, false
}

func (q *sendQueue) copy(packet []byte) []byte {
	q.bytes += len(packet)
	from, size := &q.large, MaxDatagram
	switch {
	case len(packet) > MaxDatagram:
		return append(make([]byte, 0, len(packet)), packet...)
	case len(packet) <= queueSmall:
		from, size = &q.small, queueSmall
	}
	if n := len(*from); n > 0 {
		buf := (*from)[n-1]
		*from = (*from)[:n-1]
		return append(buf[:0], packet...)
	}
	return append(make([]byte, 0, size), packet...)
}

// release takes a buffer back; beyond queueSpare the garbage collector has it.
func (q *sendQueue) release(buf []byte) {
	switch {
	case cap(buf) == queueSmall && len(q.small) < queueSpare:
		q.small = append(q.small, buf)
	case cap(buf) == MaxDatagram && len(q.large) < queueSpare:
		q.large = append(q.large, buf)
	}
}
