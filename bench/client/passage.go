package client

const (
	// passageSlots is how many packets of a track are remembered: a second of 1,000 packets/s. A power of two.
	passageSlots = 1024
	// passageReach is how far the clocks of two legs of one numbering may be apart, in seconds: one is nearer to the source.
	passageReach = 10
)

// passage takes the packets of one track from the legs that a viewer's session has, each once. Two nodes that send the same
// stream send it under the same sequence numbers and timestamps, as long as they have it from the same beginning; then both
// legs may bring packets, whichever is first. Where the numbers do not fit, the newer leg is taken from its first packet on.
// Pure; the zero value is ready.
type passage struct {
	started bool
	newest  uint32 // leg that brought a packet last joined
	alone   bool   // the newest leg has another numbering than the one before
	before  uint16 // the packet before the first that the newest leg brought
	behind  bool   // the leg before it has not come to that yet
	seq     uint16 // newest that was taken, and its timestamp
	ts      uint32
	slots   [passageSlots]slot
}

// slot is a packet that was taken; leg counts from 1, so that the zero value is none.
type slot struct{ leg, ts uint32 }

// take says whether a packet is to be handed on: false for what the other leg has brought, and for a leg that was left
// behind. What one leg brings twice is the server's doing and passes. rate is the track's clock in ticks per second.
func (p *passage) take(leg uint32, seq uint16, ts uint32, rate uint32) bool {
	switch {
	case !p.started:
		p.started, p.seq, p.ts = true, seq, ts
		p.newest = leg
	case leg > p.newest:
		p.newest, p.alone = leg, !p.fits(seq, ts, rate)
		p.before = seq - 1
		p.behind = !p.alone && int16(p.before-p.seq) > 0
		if p.alone {
			p.seq, p.ts, p.slots = seq, ts, [passageSlots]slot{}
		}
	case leg < p.newest && p.alone:
		return false
	case leg < p.newest && int16(seq-p.before) >= 0:
		p.behind = false
	}
	at := &p.slots[seq%passageSlots]
	if at.leg != 0 && at.leg != leg+1 && at.ts == ts {
		return false
	}
	*at = slot{leg + 1, ts}
	if int16(seq-p.seq) > 0 {
		p.seq, p.ts = seq, ts
	}
	return true
}

// fits says whether a packet of another leg can belong to the numbering so far.
func (p *passage) fits(seq uint16, ts uint32, rate uint32) bool {
	steps, ticks := int32(int16(seq-p.seq)), int64(int32(ts-p.ts))
	reach := passageReach * int64(rate)
	return steps > -passageSlots/2 && steps < passageSlots/2 && ticks > -reach && ticks < reach
}
