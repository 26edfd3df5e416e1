package braid

const (
	// rejoinSlots bounds the packets that wait for their missing pieces; the oldest gives way.
	rejoinSlots = 64
	// rejoinMS is how long a packet waits for its pieces, in milliseconds.
	rejoinMS = 1000
)

// rejoin puts fragmented packets together again. The zero value is ready; buffers are kept for reuse, so that a steady
// stream allocates nothing. Not safe for concurrent use.
type rejoin struct {
	slots   [rejoinSlots]rejoinSlot
	next    int    // where the search for a victim goes on
	expired uint64 // packets given up for want of a piece
}

type rejoinSlot struct {
	count   uint8 // pieces; 0 = free
	have    uint8 // bit per piece
	stream  uint16
	message uint16
	atMS    uint64
	parts   [maxFragments][]byte
	whole   []byte
}

// add takes one fragment. When it was the last one missing it returns the packet, valid until the next call of add.
func (j *rejoin) add(r record, nowMS uint64) []byte {
	s := j.find(r, nowMS)
	if s.have&(1<<r.index) != 0 {
		return nil
	}
	s.have |= 1 << r.index
	s.parts[r.index] = append(s.parts[r.index][:0], r.data...)
	if s.have != 1<<s.count-1 {
		return nil
	}
	s.whole = s.whole[:0]
	for i := range int(s.count) {
		s.whole = append(s.whole, s.parts[i]...)
	}
	s.count = 0
	return s.whole
}

// find returns the slot of a fragment's packet; a new one if there is none.
func (j *rejoin) find(r record, nowMS uint64) *rejoinSlot {
	free := -1
	for i := range j.slots {
		s := &j.slots[i]
		if s.count != 0 && nowMS > s.atMS+rejoinMS {
			s.count = 0
			j.expired++
		}
		if s.count == 0 {
			free = i
		} else if s.stream == r.stream && s.message == r.message && s.count == r.count {
			return s
		}
	}
	if free < 0 {
		// Slots fill in turn, so the one after the last victim is among the oldest.
		free = j.next
		j.next = (j.next + 1) % rejoinSlots
		j.expired++
	}
	s := &j.slots[free]
	s.count, s.have, s.stream, s.message, s.atMS = r.count, 0, r.stream, r.message, nowMS
	return s
}
