package braid

const (
	// settleFrames is how many media frames may be unsettled at once, a power of two; older ones settle early. The window
	// begins with settleFramesMin and grows to what a second brings.
	settleFrames    = 1 << 14
	settleFramesMin = 1 << 6
	// settleMS is how long a frame may take to arrive, repair included, before it counts as undelivered.
	settleMS = 1000
	// noPath marks arrival by other means than a path frame: a QUIC DATAGRAM.
	noPath = 0xff
)

// settleSlot is one media frame inside the settle window.
type settleSlot struct {
	atMS  uint32 // when it was first known of, milliseconds, wrapping
	first uint8  // the path that delivered first
	flags uint8
	sent  uint8 // slots on which it went out, as the copies that arrived say
	got   uint8 // slots that delivered it
}

const (
	slotArrived  = 1 << iota
	slotByLowest // a copy came by the source's lowest-cost path
	slotAsked    // a repair was asked for before it arrived
)

// settle keeps, per media frame, which paths delivered it, and counts when a frame leaves the window: only then is it
// known what a path rescued and what nobody delivered. Guarded by flow.rxMu.
type settle struct {
	slots        []settleSlot
	oldest, next uint64 // unsettled frames: oldest <= seq < next

	joint joint

	undelivered, duplicates, repaired uint64
}

// arrive notes a copy of frame seq on a path. lowest: the path is the source's lowest-cost one; copies: the slots on which
// the source sent it; first: nobody delivered it before. rescued is called for frames that settle on the way.
func (s *settle) arrive(seq uint64, path, copies uint8, lowest, first bool, nowMS uint64, rescued func(path uint8)) {
	s.know(seq, nowMS, rescued)
	if !first {
		s.duplicates++
	}
	if seq < s.oldest {
		return
	}
	slot := s.slot(seq)
	if first {
		slot.first = path
		slot.flags |= slotArrived
		if slot.flags&slotAsked != 0 {
			s.repaired++
		}
	}
	if lowest {
		slot.flags |= slotByLowest
	}
	if copies != 0 && path != noPath && slot.flags&slotAsked == 0 { // a repair tells nothing about the path that lost it
		s.joint.arrive(path, seq)
		slot.sent |= copies
		slot.got |= 1 << (path & slotMask)
	}
}

// know extends the window to seq: whatever lies between is awaited from now on.
func (s *settle) know(seq, nowMS uint64, rescued func(path uint8)) {
	if s.slots == nil {
		s.slots = make([]settleSlot, settleFramesMin)
	}
	if seq >= s.next+settleFrames {
		// A gap wider than the window: nothing of it can be told apart any more.
		for s.oldest < s.next {
			s.settleOne(rescued)
		}
		s.undelivered += seq - s.next
		s.oldest, s.next = seq, seq
	}
	for ; s.next <= seq; s.next++ {
		if s.next-s.oldest >= uint64(len(s.slots)) {
			s.makeRoom(nowMS, rescued)
		}
		*s.slot(s.next) = settleSlot{atMS: uint32(nowMS)}
	}
}

func (s *settle) slot(seq uint64) *settleSlot { return &s.slots[seq%uint64(len(s.slots))] }

// makeRoom settles what is due, or doubles the window, or settles the oldest frame early.
func (s *settle) makeRoom(nowMS uint64, rescued func(path uint8)) {
	if s.run(nowMS, rescued); s.next-s.oldest < uint64(len(s.slots)) {
		return
	}
	if len(s.slots) >= settleFrames {
		s.settleOne(rescued)
		return
	}
	old := *s
	s.slots = make([]settleSlot, 2*len(old.slots))
	for seq := s.oldest; seq < s.next; seq++ {
		*s.slot(seq) = *old.slot(seq)
	}
}

// asked notes that a repair of seq was asked for.
func (s *settle) asked(seq uint64) {
	if seq >= s.oldest && seq < s.next {
		s.slot(seq).flags |= slotAsked
	}
}

// run settles what has been in the window for settleMS.
func (s *settle) run(nowMS uint64, rescued func(path uint8)) {
	// Signed: a frame may be a moment younger than nowMS, which was read before the lock was taken.
	for s.oldest < s.next && int32(uint32(nowMS)-s.slot(s.oldest).atMS) >= settleMS {
		s.settleOne(rescued)
	}
}

func (s *settle) settleOne(rescued func(path uint8)) {
	slot := *s.slot(s.oldest)
	s.joint.settled(s.oldest, slot.sent, slot.got)
	s.oldest++
	switch {
	case slot.flags&slotArrived == 0:
		s.undelivered++
	case slot.flags&(slotByLowest|slotAsked) == 0 && slot.first != noPath && rescued != nil:
		// The lowest-cost path alone would have lost this frame. Repaired frames prove nothing about paths.
		rescued(slot.first)
	}
}
