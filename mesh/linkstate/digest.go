package linkstate

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// sliceMost is how many nodes one digest speaks of: 18 bytes each at most.
const sliceMost = (MaxMessage - msgHeader - 8) / 18

// summary is what a node holds of another.
type summary struct{ origin, epoch, card, row uint32 }

func (c *Core) summaryOf(origin uint32) summary {
	s := summary{origin: origin}
	if h := c.have[origin]; h != nil {
		s.epoch, s.card = h.card.Epoch, h.card.Counter
		if row := h.row(); row.Epoch == s.epoch {
			s.row = row.Counter
		}
	}
	return s
}

func appendSummary(b []byte, s summary) []byte {
	b = binary.BigEndian.AppendUint32(b, s.origin)
	b = binary.BigEndian.AppendUint32(b, s.epoch)
	b = binary.AppendUvarint(b, uint64(s.card))
	return binary.AppendUvarint(b, uint64(s.row))
}

// digest is the next slice of what is held: everything from its lowest to its highest id.
func (c *Core) digest() []byte {
	if c.slice >= len(c.ids) {
		c.slice = 0
	}
	part := c.ids[c.slice:min(c.slice+sliceMost, len(c.ids))]
	low, high := uint32(0), uint32(math.MaxUint32)
	if c.slice > 0 {
		low = part[0]
	}
	if c.slice += len(part); c.slice < len(c.ids) {
		high = c.ids[c.slice] - 1
	}
	b := binary.BigEndian.AppendUint32(header(kindDigest, c.self), low)
	b = binary.BigEndian.AppendUint32(b, high)
	for _, id := range part {
		b = appendSummary(b, c.summaryOf(id))
	}
	return b
}

// Handle takes a message in. Items that are news are returned, for their signatures to be checked and for Put; what is to be
// answered is returned as packets.
func (c *Core) Handle(message []byte) (items []Item, answer []Packet, err error) {
	r := cursor{b: message}
	kind, from := r.u8(), r.u32()
	switch {
	case r.short || len(message) > MaxMessage:
		return nil, nil, fmt.Errorf("%w: message of %d bytes", ErrForm, len(message))
	case kind == kindItems:
		items, err = c.unpack(r.b)
		return items, nil, err
	case kind == kindDigest:
		low, high := r.u32(), r.u32()
		theirs, err := summaries(r.b, low, high)
		if err != nil || r.short {
			return nil, nil, fmt.Errorf("%w: digest", ErrForm)
		}
		return nil, c.answer(from, low, high, theirs), nil
	case kind == kindWant:
		theirs, err := summaries(r.b, 0, math.MaxUint32)
		if err != nil {
			return nil, nil, err
		}
		return nil, c.deliver(from, theirs), nil
	}
	return nil, nil, fmt.Errorf("%w: message kind %#x", ErrForm, kind)
}

// unpack returns the items of a message that are news.
func (c *Core) unpack(b []byte) (out []Item, err error) {
	r := cursor{b: b}
	for len(r.b) > 0 {
		sealed := r.take(int(r.u16()))
		if r.short {
			return out, fmt.Errorf("%w: items cut short", ErrForm)
		}
		it, err := Open(slices.Clone(sealed))
		if err != nil {
			return out, err
		}
		out = append(out, it)
	}
	return out, nil
}

// summaries reads a list with rising ids inside the bounds.
func summaries(b []byte, low, high uint32) (out []summary, err error) {
	r := cursor{b: b}
	last := int64(low) - 1
	for len(r.b) > 0 {
		s := summary{origin: r.u32(), epoch: r.u32()}
		card, row := r.uvarint(), r.uvarint()
		if r.short || int64(s.origin) <= last || s.origin > high || card > math.MaxUint32 || row > math.MaxUint32 {
			return nil, fmt.Errorf("%w: summary of %08x", ErrForm, s.origin)
		}
		s.card, s.row = uint32(card), uint32(row)
		last = int64(s.origin)
		out = append(out, s)
	}
	return out, nil
}

// answer compares a digest with what is held: what is newer here goes out, what is newer there is asked for.
func (c *Core) answer(from, low, high uint32, theirs []summary) []Packet {
	var behind []summary
	want := header(kindWant, c.self)
	ask := func(s summary) {
		if len(want)+18 <= MaxMessage {
			want = appendSummary(want, s)
		}
	}
	at, _ := slices.BinarySearch(c.ids, low)
	for ; at < len(c.ids) && c.ids[at] <= high; at++ {
		mine := c.summaryOf(c.ids[at])
		for len(theirs) > 0 && theirs[0].origin < mine.origin {
			c.missing(theirs[0], ask)
			theirs = theirs[1:]
		}
		other := summary{origin: mine.origin}
		if len(theirs) > 0 && theirs[0].origin == mine.origin {
			other, theirs = theirs[0], theirs[1:]
		}
		if mine.ahead(other) {
			behind = append(behind, other)
		}
		if other.ahead(mine) {
			ask(mine)
		}
	}
	for _, s := range theirs {
		c.missing(s, ask)
	}
	out := c.deliver(from, behind)
	if len(want) > msgHeader {
		out = append(out, Packet{from, want})
	}
	return out
}

// missing asks for a node that is not held, unless what the other has is no newer than what was forgotten.
func (c *Core) missing(s summary, ask func(summary)) {
	if d := c.departed[s.origin]; d.expected || (Version{s.epoch, max(s.card, s.row)}).Newer(d.last) {
		ask(summary{origin: s.origin})
	}
}

// ahead tells whether s has something that t lacks.
func (s summary) ahead(t summary) bool {
	return s.card > 0 && (s.epoch > t.epoch || s.epoch == t.epoch && (s.card > t.card || s.row > t.row))
}

// deliver sends what the other lacks, as far as answerMost messages hold it; where it does not fit, the next digest goes on.
// Rows that need their card first follow it.
func (c *Core) deliver(from uint32, theirs []summary) (out []Packet) {
	p := packer{self: c.self}
	for i := range theirs {
		// Not always the same nodes first: what does not fit must have its turn.
		t := theirs[(i+c.ticks)%len(theirs)]
		h := c.have[t.origin]
		if h == nil {
			continue
		}
		if len(p.done) >= answerMost-1 {
			break
		}
		if h.card.Version.Newer(Version{t.epoch, t.card}) {
			p.add(h.card.Sealed)
		}
		if t.epoch != h.card.Epoch {
			t.row = 0
		}
		if h.full.Sealed != nil && h.full.Counter > t.row {
			p.add(h.full.Sealed)
		}
		if h.delta.Sealed != nil && h.delta.Counter > t.row {
			p.add(h.delta.Sealed)
		}
	}
	for _, m := range p.messages() {
		out = append(out, Packet{from, m})
	}
	return out
}
