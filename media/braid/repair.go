package braid

const (
	// repairFrames bounds the frames kept for repair, a power of two; the cache begins small and grows to it.
	repairFrames    = 1 << 12
	repairFramesMin = 1 << 6
	// repairBytes is what the frames kept may take up, in bytes, unless frames that the peer may only be about to ask for need more.
	repairBytes = 384 << 10
	// repairRound is what buffers are rounded up to, in bytes.
	repairRound = 256
	// repairSpare bounds the buffers that wait for the next frames.
	repairSpare = 8
	// repairMS is the deadline of a repair: older frames are not sent again. Milliseconds.
	repairMS = 600
	// askedMS is how long after a round trip by the slowest path most frames that will be asked for have been: a hole shows when the
	// slowest path has passed it. Milliseconds.
	askedMS = 40
)

// repairCache keeps the newest sealed frames of a session, so that a frame which all paths lost is sent again as the same
// bytes. Each frame is sent again at most once. The zero value is ready. Guarded by Session.repairMu.
type repairCache struct {
	slots       []repairSlot // by sequence modulo their number
	first, next uint64       // frames held: first <= seq < next
	bytes       int          // in their buffers
	spare       [][]byte
}

type repairSlot struct {
	atMS uint64
	used bool
	buf  []byte
}

// put copies a sealed frame; sequences follow each other. It forgets frames that nobody can ask for any more, and where those
// that are left take up repairBytes, the ones that are older than wait, in milliseconds.
func (c *repairCache) put(seq uint64, frame []byte, nowMS, wait uint64) {
	if seq != c.next {
		for c.first < c.next {
			c.forget()
		}
		c.first, c.next = seq, seq
	}
	for c.first < c.next {
		age := nowMS - min(nowMS, c.slot(c.first).atMS)
		full := c.next-c.first == repairFrames
		if !full && age <= repairMS && (age <= wait || c.bytes+len(frame) <= repairBytes) {
			break
		}
		c.forget()
	}
	if c.next-c.first == uint64(len(c.slots)) {
		c.grow()
	}
	s := c.slot(seq)
	*s = repairSlot{atMS: nowMS, buf: append(c.buffer(len(frame)), frame...)}
	c.bytes += cap(s.buf)
	c.next++
}

func (c *repairCache) slot(seq uint64) *repairSlot { return &c.slots[seq%uint64(len(c.slots))] }

// forget drops the oldest frame.
func (c *repairCache) forget() {
	s := c.slot(c.first)
	c.bytes -= cap(s.buf)
	if len(c.spare) < repairSpare {
		c.spare = append(c.spare, s.buf[:0])
	}
	*s = repairSlot{}
	c.first++
}

// buffer is an empty one with room for n bytes.
func (c *repairCache) buffer(n int) []byte {
	for i, b := range c.spare {
		if cap(b) >= n && cap(b) < n+2*repairRound {
			last := len(c.spare) - 1
			c.spare[i] = c.spare[last]
			c.spare = c.spare[:last]
			return b
		}
	}
	return make([]byte, 0, (n+repairRound-1)/repairRound*repairRound)
}

func (c *repairCache) grow() {
	old := *c
	c.slots = make([]repairSlot, max(repairFramesMin, 2*len(old.slots)))
	for seq := c.first; seq < c.next; seq++ {
		*c.slot(seq) = *old.slot(seq)
	}
}

// get returns frame seq if it is there and in time; valid until the next put.
func (c *repairCache) get(seq, nowMS uint64) []byte {
	if seq < c.first || seq >= c.next {
		return nil
	}
	if s := c.slot(seq); nowMS <= s.atMS+repairMS {
		return s.buf
	}
	return nil
}

// take returns frame seq if it is there, in time and was not taken before; valid until the next put.
func (c *repairCache) take(seq, nowMS uint64) []byte {
	frame := c.get(seq, nowMS)
	if frame == nil || c.slot(seq).used {
		return nil
	}
	c.slot(seq).used = true
	return frame
}
