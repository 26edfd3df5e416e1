package access

import (
	"time"

	"github.com/pion/rtp"
)

// backAfter is how long the current source must have been silent for the one before to be back, and not late.
const backAfter = 2 * time.Second

// splice joins the packets of one source after another (a publisher that came back
// has another SSRC, sequence and clock) into one sequence, so that a viewer's decoder
// sees a stream that goes on. Within a source packets pass with their distances kept:
// losses and reordering stay visible. The zero value is ready. Not for concurrent use.
type splice struct {
	ssrc, before uint32 // current and previous source
	started      bool
	from         uint16 // the current source's first packet as it was sent, or later: keptPackets before lastSeq
	seq          uint16 // added to sequence numbers
	ts           uint32 // added to timestamps
	lastSeq      uint16 // highest sent
	lastTS       uint32
	lastAt       time.Time // arrival of lastTS
}

// apply rewrites h; rate is the clock rate in ticks per second.
// False: a late packet of the source before, or of the current one from before it was
// taken up, to be dropped: its number was another packet's, which a cipher must not see
// twice.
func (s *splice) apply(h *rtp.Header, now time.Time, rate uint32) bool {
	switch {
	case !s.started:
		s.started, s.ssrc = true, h.SSRC
		s.from = h.SequenceNumber - keptPackets // what arrives out of order at the beginning passes
		s.mark(h.SequenceNumber, h.Timestamp, now)
		return true
	case h.SSRC == s.before && h.SSRC != s.ssrc && now.Sub(s.lastAt) < backAfter:
		return false
	case h.SSRC != s.ssrc:
		s.before, s.ssrc = s.ssrc, h.SSRC
		s.from = s.lastSeq + 1
		s.seq = s.from - h.SequenceNumber
		gap := max(now.Sub(s.lastAt), 0)
		s.ts = s.lastTS + max(1, uint32(gap.Microseconds()*int64(rate)/1e6)) - h.Timestamp
	case s.from-(h.SequenceNumber+s.seq)-1 < keptPackets:
		return false
	}
	h.SequenceNumber += s.seq
	h.Timestamp += s.ts
	if int16(h.SequenceNumber-s.lastSeq) > 0 {
		s.mark(h.SequenceNumber, h.Timestamp, now)
	}
	return true
}

func (s *splice) mark(seq uint16, ts uint32, now time.Time) {
	s.lastSeq, s.lastTS, s.lastAt = seq, ts, now
	if seq-s.from > keptPackets {
		s.from = seq - keptPackets
	}
}

// sent says whether a number that went out was the current source's.
func (s *splice) sent(seq uint16) bool { return seq-s.from <= s.lastSeq-s.from }

// change says that the next source is meant: one that was left before may come back.
func (s *splice) change() { s.before = s.ssrc }
