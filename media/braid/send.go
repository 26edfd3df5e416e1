package braid

import (
	"context"
	"math"
	"time"
)

// A packet's way out: Session.Send -> sendQueue -> sendLoop -> pack (records, fragments) -> seal -> flow.sendMedia (one
// copy per path, as runs) -> Wire. With carrier datagram: pack -> QUIC DATAGRAM -> virtualConn.WriteTo -> flow.sendQUIC.

const (
	// coalesce is how long after a moment's packets left the next ones are collected. The first packet after a pause
	// leaves at once.
	coalesce = time.Millisecond
	// runEnough is when, in bytes queued, collecting ends early.
	runEnough = 40 << 10
)

// outMedia is the state of the sender goroutine.
type outMedia struct {
	tag     uint8
	epoch   uint8
	key     *mediaKey
	seq     uint64          // next frame
	keyed   uint64          // frames sealed with key
	message uint16          // next fragmented packet
	slab    [][]byte        // made as they are needed
	frames  [][]byte        // of the moment, into slab
	modes   [runFrames]mode // of frames
	held    bool            // budgets hold back what is queued
	began   time.Time       // when the sender came last
	packets int             // bytes of the moment's packets, until the flow's tally has them
}

// sendLoop takes what is queued, moment by moment, until ctx ends.
func (s *Session) sendLoop(ctx context.Context) error {
	s.out.slab = make([][]byte, runFrames)
	s.out.frames = make([][]byte, 0, runFrames)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer s.shift.stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case now := <-s.shift.due():
			s.sendShifted(now)
			continue
		}
		for {
			if wait := coalesce - time.Since(last); wait > 0 && !s.collect(ctx, timer, wait) {
				return nil
			}
			s.sendShifted(time.Now())
			packets, more := s.sendMoment(time.Now())
			last = time.Now()
			// Under load the next packets are awaited by the clock: a wake-up per packet would cost more than it gains.
			if packets < 2 && !more {
				break
			}
		}
		if s.pending() {
			notify(s.wake) // came between the look and the wait
		}
	}
}

func (s *Session) pending() bool {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	return s.queue.len() > 0
}

// collect waits until the moment is over or the queue holds a run's worth; false when ctx ended.
func (s *Session) collect(ctx context.Context, timer *time.Timer, wait time.Duration) bool {
	full := s.full
	if s.out.held {
		full = nil // enough is there: time must pass
	}
	select {
	case <-full: // may be left over from a moment ago: it is only a hint
		if s.enough() {
			return true
		}
	default:
	}
	timer.Reset(wait)
	select {
	case <-ctx.Done():
		return false
	case <-full:
		timer.Stop()
	case <-timer.C:
	}
	return true
}

func (s *Session) enough() bool {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	return s.queue.bytes >= runEnough
}

// waited is how long the oldest packet in the queue has waited. What of that is due to a sender that came late, because the
// machine did not run it, is taken note of.
func (s *Session) waited(now time.Time) time.Duration {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	age := s.queue.age(now)
	since := now.Add(-age)
	if planned := s.out.began.Add(coalesce); planned.After(since) {
		since = planned
	}
	s.out.began = now
	if now.Sub(since) >= stoodLeast {
		s.queue.stand(since, now)
	}
	return age
}

// sendMoment sends what is queued, up to one run; more tells that something is left.
func (s *Session) sendMoment(now time.Time) (packets int, more bool) {
	if s.b.cfg.Carrier(s.f.key.fence) == Datagram {
		return s.sendDatagrams(now)
	}
	waited := s.waited(now)
	s.f.sendMu.Lock()
	s.f.tally.left(&s.out)
	s.f.late(now, waited)
	room, burst := s.f.room(now), s.f.burst.Room(now)
	s.f.sendMu.Unlock()
	packets, more = s.pack(now, mediaHeader, s.f.recordRoom(), room, burst)
	s.out.held = more && min(room, burst) < runBytes
	if len(s.out.frames) == 0 {
		return packets, more
	}
	s.sealAll(now)
	if !s.sendFrames(now) {
		s.drops[DropNoPath].Add(uint64(packets))
		return packets, more
	}
	s.packetsSent.Add(uint64(packets))
	s.framesSent.Add(uint64(len(s.out.frames)))
	return packets, more
}

// sendFrames writes the frames of the moment, neighbours that want the same number of copies together. False means that
// no path took them.
func (s *Session) sendFrames(now time.Time) bool {
	o := &s.out
	first := o.seq - uint64(len(o.frames))
	sent := false
	for from := 0; from < len(o.frames); {
		to := from + 1
		for to < len(o.frames) && o.modes[to] == o.modes[from] {
			to++
		}
		used, shift := s.f.sendMedia(o.frames[from:to], o.modes[from], now)
		if shift {
			s.shift.add(first+uint64(from), first+uint64(to), now)
		}
		sent = used > 0 || sent
		from = to
	}
	return sent
}

// pack moves packets from the queue into frames with head free bytes in front and at most room bytes of records, until
// about budget bytes are out, or burst bytes, which do not stop audio.
func (s *Session) pack(now time.Time, head, room int, budget, burst float64) (packets int, more bool) {
	o := &s.out
	o.frames, o.packets = o.frames[:0], 0
	var stale uint64
	s.queueMu.Lock()
	for len(o.frames) <= runFrames-maxFragments && budget > 0 && (burst > 0 || s.queue.audio.n > 0) {
		q, ok := s.queue.pop(now, &stale)
		if !ok {
			break
		}
		o.put(q, head, room)
		budget -= float64(len(q.buf))
		burst -= float64(len(q.buf))
		o.packets += len(q.buf)
		s.queue.release(q.buf)
		packets++
	}
	more = s.queue.len() > 0
	s.queueMu.Unlock()
	if stale > 0 {
		s.drops[DropStale].Add(stale)
	}
	return packets, more
}

// put appends one packet to the frames, in pieces if it is larger than a frame.
func (o *outMedia) put(q queued, head, room int) {
	n := pieces(len(q.buf), room)
	if n == 1 {
		o.add(record{stream: q.stream, data: q.buf}, q.mode, recordHeader+len(q.buf), head, room)
		return
	}
	o.message++
	for i := range n {
		from, to := piece(len(q.buf), i, n)
		r := record{
			stream: q.stream, fragment: true, message: o.message, index: uint8(i), count: uint8(n), data: q.buf[from:to],
		}
		o.add(r, q.mode, fragmentHeader+to-from, head, room)
	}
}

// add appends a record to the last frame, or to a new one if it does not fit or wants another number of copies.
func (o *outMedia) add(r record, m mode, size, head, room int) {
	last := len(o.frames) - 1
	if last < 0 || len(o.frames[last])+size > head+room || o.modes[last] != m {
		last++
		if o.slab[last] == nil {
			o.slab[last] = make([]byte, 0, MaxDatagram)
		}
		o.frames = append(o.frames, o.slab[last][:head])
		o.modes[last] = m
	}
	o.frames[last] = appendRecord(o.frames[last], r)
}

// sealAll seals the frames of the moment, once for all paths, and keeps them for repair.
func (s *Session) sealAll(now time.Time) {
	o := &s.out
	ms := s.b.unixMS(now)
	wait := s.asksAfter.Load()
	s.repairMu.Lock()
	defer s.repairMu.Unlock()
	for i, frame := range o.frames {
		if o.keyed >= s.b.rekey {
			s.nextKey()
		}
		o.frames[i] = o.key.seal(frame, o.tag, o.epoch, o.seq)
		s.cache.put(o.seq, o.frames[i], ms, wait)
		o.keyed++
		o.seq++
	}
	s.nextSeq.Store(o.seq)
}

// nextKey moves on to the next key epoch. The peer holds that key ready, so nothing is lost. Should the export fail, the
// present key goes on: far from its limits still.
func (s *Session) nextKey() {
	key, err := newMediaKey(s.export, s.direction(true), s.out.epoch+1)
	if err != nil {
		s.b.log.Error("no new media key", "peer", uint32(s.f.key.peer), "error", err)
	} else {
		s.out.key = key
		s.out.epoch++
	}
	s.out.keyed = 0
}

// sendDatagrams is sendMoment for the datagram carrier. QUIC's congestion control may make it wait, and meanwhile the
// queue's deadlines drop what is late.
func (s *Session) sendDatagrams(now time.Time) (packets int, more bool) {
	packets, more = s.pack(now, datagramHeader, maxDatagramRecords, math.Inf(1), math.Inf(1))
	for _, frame := range s.out.frames {
		putDatagramHeader(frame, s.out.seq)
		s.out.seq++
		s.nextSeq.Store(s.out.seq)
		if !s.b.allowed(s.f.key) {
			s.drops[DropFence].Add(1)
			continue
		}
		if err := s.conn.SendDatagram(frame); err != nil {
			s.drops[DropWrite].Add(1)
			continue
		}
		s.framesSent.Add(1)
	}
	s.packetsSent.Add(uint64(packets))
	return packets, more
}

// repair sends the frames that the peer missed again, the same bytes, if they are still here and in time. Where budgets hold
// packets back, they hold repairs back first: a burst of losses in a full queue would else spend seconds of a small budget.
func (s *Session) repair(seqs []uint64, now time.Time) {
	ms := s.b.unixMS(now)
	s.repairMu.Lock()
	defer s.repairMu.Unlock()
	var one [1][]byte
	for _, seq := range seqs {
		if one[0] = s.cache.take(seq, ms); one[0] == nil {
			continue
		}
		if !s.f.spares(now) {
			s.drops[DropRepair].Add(1)
			continue
		}
		s.f.sendMedia(one[:], 0, now)
		s.repairsSent.Add(1)
	}
}
