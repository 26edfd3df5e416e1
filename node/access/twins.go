package access

import "time"

const (
	// twinSteps and twinApart are how far packets of one numbering that come by way of two nodes may be apart: one way may
	// be longer than the other, and its node late. A publisher that begins anew meets both by chance once in a million times.
	twinSteps = 256
	twinApart = 3 * time.Second
	// markEvery is how many packets go by until the clock is looked at again. A power of two.
	markEvery = 32
)

// twins recognises a publisher that sends one numbering to two nodes, as it does while it moves: the second comes under
// another SSRC, with sequence numbers and timestamps that go on where the first one is. What counts is then one source, and
// a packet that comes both ways is one packet. The zero value is ready. Pure; not for concurrent use.
type twins struct {
	started    bool
	ssrc       uint32 // under which the source counts
	other      uint32 // under which it comes too
	twin       bool   // other is meant
	left, too  uint32 // the source before, which was no twin: how it counted, and how it came too
	seq        uint16 // newest packet
	markTS     uint32 // timestamp of a packet, and when that came
	marked     int64  // nanoseconds
	sinceMarks uint8  // packets since
}

// source returns the SSRC under which a packet counts; rate is the track's clock in ticks per second, now yields nanoseconds
// and is not called for every packet.
func (t *twins) source(ssrc uint32, seq uint16, ts uint32, rate uint32, now func() int64) uint32 {
	switch {
	case !t.started:
		t.start(ssrc, seq, ts, now())
	case ssrc == t.ssrc || t.twin && ssrc == t.other:
		t.note(seq, ts, now)
	case ssrc == t.left || ssrc == t.too:
		return t.left // late: it is dropped behind this
	case t.fits(seq, ts, rate, now()):
		t.other, t.twin = ssrc, true
		t.note(seq, ts, now)
	default:
		if t.left, t.too = t.ssrc, t.ssrc; t.twin {
			t.too = t.other
		}
		t.start(ssrc, seq, ts, now())
	}
	return t.ssrc
}

func (t *twins) start(ssrc uint32, seq uint16, ts uint32, now int64) {
	*t = twins{started: true, ssrc: ssrc, left: t.left, too: t.too, seq: seq, markTS: ts, marked: now}
}

func (t *twins) note(seq uint16, ts uint32, now func() int64) {
	if int16(seq-t.seq) <= 0 {
		return
	}
	t.seq = seq
	if t.sinceMarks++; t.sinceMarks >= markEvery {
		t.sinceMarks, t.markTS, t.marked = 0, ts, now()
	}
}

// fits says whether a packet can belong to the numbering so far, at this moment.
func (t *twins) fits(seq uint16, ts uint32, rate uint32, now int64) bool {
	steps := int16(seq - t.seq)
	due := t.markTS + uint32(time.Duration(now-t.marked).Seconds()*float64(rate))
	apart := time.Duration(float64(int32(ts-due)) / float64(max(rate, 1)) * float64(time.Second))
	return steps > -twinSteps && steps < twinSteps && apart > -twinApart && apart < twinApart
}

// doubles drops what twins bring twice. The zero value is ready.
type doubles struct {
	twins
	slots [2 * twinSteps]struct {
		from uint32 // SSRC as it came
		ts   uint32
		came bool
	}
}

// take returns the SSRC under which a packet counts; false if its twin has been here.
func (d *doubles) take(ssrc uint32, seq uint16, ts uint32, rate uint32, now func() int64) (uint32, bool) {
	at := &d.slots[seq%uint16(len(d.slots))]
	as := d.source(ssrc, seq, ts, rate, now)
	if at.came && at.from != ssrc && at.ts == ts && d.twin && (at.from == d.ssrc || at.from == d.other) {
		return as, false
	}
	at.from, at.ts, at.came = ssrc, ts, true
	return as, true
}
