package braid

const (
	// repairFrames bounds the frames kept for repair, a power of two; the cache begins small and grows to it.
	repairFrames    = 1 << 12
	repairFramesMin = 1 << 6
	// repairRound is what buffers are rounded up to, in bytes.
	repairRound = 256
	// repairMS is the deadline of a repair: older frames are not sent again. Milliseconds.
	repairMS = 600
)

// repairCache keeps the newest sealed frames of a session, so that a frame which all paths lost is sent again as the same
// bytes. Each frame is sent again at most once. The zero value is ready. Guarded by Session.repairMu.
type repairCache struct {
	slots []repairSlot
}

type repairSlot struct {
	seq  uint64
	atMS uint64
	used bool
	buf  []byte
}

// put copies a sealed frame. The cache doubles while it would forget frames that could still be asked for.
func (c *repairCache) put(seq uint64, frame []byte, nowMS uint64) {
	if c.slots == nil {
		c.slots = make([]repairSlot, repairFramesMin)
	}
	s := c.slot(seq)
	if s.buf != nil && nowMS < s.atMS+repairMS && len(c.slots) < repairFrames {
		c.grow()
		s = c.slot(seq)
	}
	s.seq, s.atMS, s.used = seq, nowMS, false
	if cap(s.buf) < len(frame) {
		s.buf = make([]byte, 0, (len(frame)+repairRound-1)/repairRound*repairRound)
	}
	s.buf = append(s.buf[:0], frame...)
}

func (c *repairCache) slot(seq uint64) *repairSlot { return &c.slots[seq%uint64(len(c.slots))] }

func (c *repairCache) grow() {
	old := c.slots
	c.slots = make([]repairSlot, 2*len(old))
	for _, s := range old {
		if s.buf != nil {
			*c.slot(s.seq) = s
		}
	}
}

// get returns frame seq if it is there and in time; valid until the next put.
func (c *repairCache) get(seq, nowMS uint64) []byte {
	if c.slots == nil {
		return nil
	}
	if s := c.slot(seq); s.buf != nil && s.seq == seq && nowMS <= s.atMS+repairMS {
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
