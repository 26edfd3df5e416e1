package access

import (
	"math"
	"slices"
	"time"

	"github.com/pion/rtcp"
)

// What a viewer's last mile carries, from its transport-wide feedback. Every packet to a viewer carries a number; the
// viewer says which arrived and when. Two signs make the estimate fall: a standing queue (the least delay of the last
// 300 ms lies above the least that was ever seen: as in RFC 8289, so that a frame's burst, which waits behind itself, is no
// sign), and heavy loss. Then what was delivered is what the link carries.
const (
	sentMemory = 1024 // packets whose feedback is awaited; a power of two

	queueWindow   = 300 * time.Millisecond // the least delay in it is the standing queue
	queueAllowed  = 50 * time.Millisecond
	floorWindow   = 30 * time.Second // the least delay is forgotten after one to two of it: clocks drift, routes change
	deliverWindow = 600 * time.Millisecond
	lossWindow    = time.Second
	lossHeavy     = 0.10 // of at least lossLeast packets
	lossLeast     = 20

	cutShare    = 0.9 // of what was delivered: the rest lets the queue drain
	cutEvery    = 600 * time.Millisecond
	growPerSec  = 1.08
	growBeyond  = 1.5 // times what was delivered: what was never tried is not known
	rembFor     = 5 * time.Second
	startBps    = 1e6 // until the first feedback
	leastBps    = 50e3
	mostBps     = 1e9
	feedbackMax = sentMemory // statuses that are read of one feedback
)

// estimator is one viewer's. Pure: time is a parameter. Guarded by the shard's lock. The zero value is ready.
type estimator struct {
	number uint16 // of the next packet
	ring   *[sentMemory]sentPacket
	began  time.Time // when the first packet left; delays count from there, so that setting the wall clock changes none

	bps     float64   // 0 until the first feedback
	grown   time.Time // when bps was last raised
	cut     time.Time // when it was last lowered
	trouble bool      // lowered since the last call of took

	remb   float64 // bit/s, by the viewer's own word
	rembAt time.Time

	reference int64 // of the viewer's clock, units of 64 ms, unwrapped
	heard     bool  // reference is set
	floor     [2]time.Duration
	floorAt   time.Time
	delays    []delaySample // of the queue window, oldest first
	arrived   []delivered   // of the delivery window, oldest first

	lossSince     time.Time
	lost, decided int
}

type sentPacket struct {
	at     time.Time
	seq    uint16
	size   uint16
	waited bool // no feedback yet that it arrived
	missed bool // by a feedback
}

type delaySample struct {
	at    time.Time // of sending
	delay time.Duration
}

type delivered struct {
	at   time.Duration // of arrival, by the viewer's clock
	size int
}

// sent numbers a packet of size bytes that leaves at now.
func (e *estimator) sent(now time.Time, size int) (seq uint16) {
	if e.ring == nil {
		e.ring, e.began = new([sentMemory]sentPacket), now
	}
	seq = e.number
	e.ring[seq%sentMemory] = sentPacket{at: now, seq: seq, size: uint16(size), waited: true}
	e.number++
	return seq
}

// feedback takes what the viewer says arrived.
func (e *estimator) feedback(now time.Time, f *rtcp.TransportLayerCC) {
	if e.ring == nil {
		return
	}
	if !e.heard {
		e.reference, e.heard = int64(f.ReferenceTime), true
		e.floor, e.floorAt = [2]time.Duration{math.MaxInt64, math.MaxInt64}, now
		e.lossSince = now
	}
	e.reference += int64(int32((f.ReferenceTime-uint32(e.reference))<<8)) >> 8 // 24 bits, either direction
	clock := time.Duration(e.reference) * 64 * time.Millisecond
	statuses(f, func(seq uint16, delta int64, arrived bool) {
		clock += time.Duration(delta) * time.Microsecond
		p := &e.ring[seq%sentMemory]
		if p.seq != seq || !p.waited {
			return // another packet has its place, or it was told already
		}
		if !p.missed { // a report may come by both tracks, and name what the one before named
			e.decided++
		}
		if !arrived {
			if !p.missed {
				p.missed = true
				e.lost++ // waited stays: a late packet may be reported later
			}
			return
		}
		p.waited = false
		e.sample(p, clock)
	})
	e.decide(now)
}

// sample notes one arrival.
func (e *estimator) sample(p *sentPacket, clock time.Duration) {
	delay := clock - p.at.Sub(e.began)
	if p.at.Sub(e.floorAt) > floorWindow {
		e.floor[1], e.floor[0], e.floorAt = e.floor[0], delay, p.at
	}
	e.floor[0] = min(e.floor[0], delay)
	e.delays = append(latest(e.delays), delaySample{p.at, delay})
	e.arrived = append(latest(e.arrived), delivered{clock, int(p.size)})
}

// latest makes room for one more: a viewer whose clock runs backwards must not make windows grow.
func latest[T any](window []T) []T {
	if len(window) < sentMemory {
		return window
	}
	return slices.Delete(window, 0, sentMemory/2)
}

// decide lowers or raises the estimate.
func (e *estimator) decide(now time.Time) {
	rate := e.delivery()
	if rate == 0 {
		return
	}
	if e.bps == 0 {
		e.bps, e.grown = max(rate, startBps), now
	}
	loss := e.loss(now)
	switch {
	case e.standing() > queueAllowed || loss > lossHeavy:
		if now.Sub(e.cut) < cutEvery {
			break
		}
		e.bps = max(leastBps, min(e.bps, cutShare*rate))
		e.cut, e.trouble = now, true
	case rate > e.bps:
		e.bps = rate
	default:
		grown := e.bps * math.Pow(growPerSec, now.Sub(e.grown).Seconds())
		e.bps = max(e.bps, min(grown, growBeyond*rate, mostBps))
	}
	e.grown = now
}

// standing is the queue that did not drain in the last window, 0 while the window is not full.
func (e *estimator) standing() time.Duration {
	if len(e.delays) == 0 {
		return 0
	}
	newest := e.delays[len(e.delays)-1].at
	old := 0
	for old < len(e.delays) && newest.Sub(e.delays[old].at) > queueWindow {
		old++
	}
	full := old > 0
	e.delays = slices.Delete(e.delays, 0, old)
	least := time.Duration(math.MaxInt64)
	for _, d := range e.delays {
		least = min(least, d.delay)
	}
	if !full {
		return 0
	}
	return least - min(e.floor[0], e.floor[1])
}

// delivery is the rate of arrival in bit/s, 0 while too little is known.
func (e *estimator) delivery() float64 {
	if len(e.arrived) < 2 {
		return 0
	}
	newest := e.arrived[len(e.arrived)-1].at
	old := 0
	for old < len(e.arrived) && newest-e.arrived[old].at > deliverWindow {
		old++
	}
	e.arrived = slices.Delete(e.arrived, 0, old)
	bits := 0
	for _, d := range e.arrived[1:] { // the first stands for the instant that the window begins at
		bits += 8 * d.size
	}
	span := newest - e.arrived[0].at
	if span < deliverWindow/4 {
		return 0
	}
	return float64(bits) / span.Seconds()
}

// loss is the share lost in the window that ends now, 0 before its end.
func (e *estimator) loss(now time.Time) float64 {
	if now.Sub(e.lossSince) < lossWindow {
		return 0
	}
	lost, decided := e.lost, e.decided
	e.lossSince, e.lost, e.decided = now, 0, 0
	if decided < lossLeast {
		return 0
	}
	return float64(lost) / float64(decided)
}

// capped takes the viewer's own estimate.
func (e *estimator) capped(now time.Time, bps float64) {
	if bps > 0 && !math.IsInf(bps, 0) && !math.IsNaN(bps) {
		e.remb, e.rembAt = bps, now
	}
}

// rate is the estimate in bit/s; ok is false while the viewer has said nothing.
func (e *estimator) rate(now time.Time) (bps float64, ok bool) {
	bps, ok = e.bps, e.bps > 0
	if e.remb > 0 && now.Sub(e.rembAt) < rembFor && (!ok || e.remb < bps) {
		return e.remb, true
	}
	return bps, ok
}

// took says whether the estimate was lowered since the last call.
func (e *estimator) took() bool {
	was := e.trouble
	e.trouble = false
	return was
}

// statuses calls f for each packet that a feedback names, in order: its number, the microseconds since the arrival before
// it, and whether it arrived. At most feedbackMax are read.
func statuses(f *rtcp.TransportLayerCC, each func(seq uint16, delta int64, arrived bool)) {
	seq, left, deltas := f.BaseSequenceNumber, min(int(f.PacketStatusCount), feedbackMax), f.RecvDeltas
	one := func(symbol uint16) {
		if left == 0 {
			return
		}
		left--
		arrived := symbol == rtcp.TypeTCCPacketReceivedSmallDelta || symbol == rtcp.TypeTCCPacketReceivedLargeDelta
		var delta int64
		if arrived && len(deltas) > 0 {
			delta, deltas = deltas[0].Delta, deltas[1:]
		}
		each(seq, delta, arrived)
		seq++
	}
	for _, chunk := range f.PacketChunks {
		switch c := chunk.(type) {
		case *rtcp.RunLengthChunk:
			for n := min(int(c.RunLength), left); n > 0; n-- {
				one(c.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			for _, symbol := range c.SymbolList {
				one(symbol)
			}
		}
	}
}
