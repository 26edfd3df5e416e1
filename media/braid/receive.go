package braid

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// A frame's way: HandleRun -> (relay.go | egress) -> authenticate -> probe | QUIC | media -> inMedia.accept (check, open,
// mark) -> Session.deliver (records, fragments) -> Handler.Packet.

// lateMost is how late this node's reader may come to its socket before that counts as delay of the path: a node that is busy for a
// moment is no queue, one that does not keep up is.
const lateMost = 200 * time.Millisecond

// HandleRun takes path frames from the mesh port's reader: one behind the other, of segment bytes each, the last may be
// shorter. marked: the network marked them as having waited (ECN). waited is how long they were in this node's socket: a reader that
// comes late is no delay of a path. It allocates nothing; run is valid during the call, and
// the call may change it in place. Frames to be relayed have been written to Config.Wire, or dropped, when it returns.
func (b *Braid) HandleRun(run []byte, segment int, _ netip.AddrPort, marked bool, waited time.Duration) {
	nowMS := b.unixMS(time.Now())
	waitedMS := uint16(min(max(0, waited), lateMost).Milliseconds())
	var onward forward
	for at := 0; at < len(run); {
		end := min(at+max(1, segment), len(run))
		frame := run[at:end:end]
		var h pathHeader
		why := parsePathFrame(frame, &h)
		h.waitedMS = waitedMS
		if why == DropNone && marked {
			h.flags |= flagCongestion
			frame[1] |= flagCongestion
		}
		switch {
		case why != DropNone:
		case h.hop < h.relayN:
			why = b.relay(&onward, run, at, end, &h, nowMS)
		default:
			onward.release(b)
			why = b.egress(frame, &h, nowMS)
		}
		if why != DropNone {
			b.counters.drop(why)
		}
		at = end
	}
	onward.release(b)
	b.hear(&onward, nowMS)
	b.flush(&onward, run, nowMS)
}

// HandleFrame is HandleRun for one frame.
func (b *Braid) HandleFrame(frame []byte, from netip.AddrPort) {
	b.HandleRun(frame, len(frame), from, false, 0)
}

// member: the node is one, so its frames are worth checking.
func (b *Braid) member(id NodeID) bool {
	_, ok := b.cfg.Addr(id)
	return ok
}

// authenticate checks the egress's MAC and the freshness of a member's frame. Nothing may be counted against a source before.
func (b *Braid) authenticate(frame []byte, h *pathHeader, nowMS uint64) (sentMS uint64, why DropReason) {
	b.sourceMu.Lock()
	defer b.sourceMu.Unlock()
	src := b.sources.get(h.source, epochOf(nowMS))
	return src.check(frame, h, int(h.hop), nowMS, &b.sources.input)
}

// egress takes a frame that ends here.
func (b *Braid) egress(frame []byte, h *pathHeader, nowMS uint64) DropReason {
	if h.dest != b.cfg.Self {
		return DropNotForUs
	}
	if !b.member(h.source) {
		return DropNotMember
	}
	sentMS, why := b.authenticate(frame, h, nowMS)
	if why != DropNone {
		return why
	}
	if h.counts() {
		b.traffic.arrived(h, 1, sentMS, nowMS)
	}
	payload := h.payload(frame)
	switch h.kind {
	case kindProbe:
		if h.fence != 0 || h.relayN != 0 {
			return DropFence
		}
		if b.cfg.Probe != nil {
			b.cfg.Probe(h.source, payload)
		}
		b.counters.probes.Add(1)
		return DropNone
	case kindQUIC, kindMedia, kindSize:
		if h.fence == 0 || !b.cfg.Allow(h.fence, b.cfg.Self) || !b.cfg.Allow(h.fence, h.source) {
			return DropFence
		}
		f := b.flow(flowKey{h.source, h.fence}, h.kind == kindQUIC)
		if f == nil && h.kind == kindQUIC {
			return DropTooManyFlows
		}
		if f == nil {
			return DropNoSession
		}
		switch h.kind {
		case kindQUIC:
			return f.receiveQUIC(h, payload, sentMS, nowMS)
		case kindSize:
			return f.receiveSize(h, len(frame), sentMS, nowMS)
		}
		return f.receiveMedia(h, payload, sentMS, nowMS)
	}
	return DropMalformed
}

// receiveQUIC hands a QUIC packet to the QUIC stack, which drops the copies itself.
func (f *flow) receiveQUIC(h *pathHeader, payload []byte, sentMS, nowMS uint64) DropReason {
	if len(payload) < 5 {
		return DropMalformed
	}
	incarnation := binary.BigEndian.Uint32(payload)
	f.rxMu.Lock()
	if f.in.path(h.path, h.relayN, h.relays).replayed(h, sentMS) {
		f.rxMu.Unlock()
		return DropReplay
	}
	f.in.arrive(h, sentMS, nowMS)
	if f.virtual == nil || f.incarn != incarnation {
		if f.virtual != nil {
			f.b.keys.renew(h.source, time.Now()) // a restarted peer may have another secret
		}
		f.virtual, f.incarn = virtualAddr(f.key, incarnation), incarnation
	}
	from := f.virtual
	f.rxMu.Unlock()
	f.b.counters.quicReceived.Add(1)
	if !f.b.conn.push(payload[4:], from) {
		return DropInboxFull
	}
	return DropNone
}

// receiveMedia finds the session whose keys sealed the frame, and delivers what is in it if this is the first copy. A path
// sequence that was there before does not count again, but is no reason not to open the frame: somebody may have sent the
// true frame's header ahead of it, with another payload. That changes what arrives no more than a copy does.
func (f *flow) receiveMedia(h *pathHeader, payload []byte, sentMS, nowMS uint64) DropReason {
	tag, epoch, seq, ok := parseMediaHeader(payload)
	if !ok {
		return DropMalformed
	}
	f.rxMu.Lock()
	path := f.in.path(h.path, h.relayN, h.relays)
	replay := path.replayed(h, sentMS)
	path.lowest = h.flags&flagLowestCost != 0
	var (
		records []byte
		s       *Session
		why     = DropNoSession
	)
	for i := range f.sessions {
		if f.sessions[i].rx.tag != tag {
			continue
		}
		if why == DropBadSeal { // another session's, whose tag is the same: once in 256 when a session is being replaced
			payload = append(payload[:0], f.twinOf[:len(payload)]...)
		}
		s = f.sessions[i]
		if replay && s.rx.window.Seen(seq) {
			f.rxMu.Unlock()
			return DropReplay
		}
		if s.rx.twin {
			copy(f.twinOf[:], payload) // opening ruins what does not open
		}
		if records, why = s.rx.accept(payload, epoch, seq, path, h.copies, nowMS); why != DropBadSeal {
			break
		}
	}
	switch {
	case replay:
	case why == DropNone, why == DropNoSession && f.between(nowMS):
		f.in.arrive(h, sentMS, nowMS)
	default:
		path.spoiled(h, nowMS)
	}
	if why == DropNone {
		f.in.mediaMS = nowMS
		f.watch(s, nowMS)
	}
	if why == DropNone && s.rx.pace.noted(path, uint64(headerLen(int(h.relayN))+int(h.length)), nowMS) {
		s.kick()
	}
	f.rxMu.Unlock()
	if why != DropNone || records == nil {
		return why
	}
	f.b.counters.mediaReceived.Add(1)
	return s.deliver(records, nowMS)
}

// watch looks, after a media frame of session s, for what its sender should hear now: frames that no path will bring (a late
// copy tells as well: it is the slowest path's that show it), and paths that fell silent or came back. Holds rxMu.
func (f *flow) watch(s *Session, nowMS uint64) {
	live := f.live(nowMS)
	ask := s.rx.due(nowMS, live)
	if live != f.shown {
		s.rx.pace.alertMS = nowMS
		f.shown = live
		s.reportNow.Store(true)
		ask = true
	}
	if ask {
		s.kick()
	}
}

// between: no session is there, or one has ended not long ago, so that media of none is no sign of a changed payload.
// Holds rxMu.
func (f *flow) between(nowMS uint64) bool {
	return len(f.sessions) == 0 || nowMS < f.endedMS+uint64(glareTime.Milliseconds())
}

// live is the set of path ids that deliver at present. Holds rxMu.
func (f *flow) live(nowMS uint64) (set uint16) {
	for i := range f.in.paths {
		if p := &f.in.paths[i]; p.used && p.alive(nowMS) {
			set |= 1 << i
		}
	}
	return set
}

// inMedia is a session's receiving end of media frames. Guarded by flow.rxMu.
type inMedia struct {
	tag     uint8
	twin    bool         // another session of the flow has the same tag
	epoch   uint8        // of keys[1]
	keys    [3]*mediaKey // previous, current, next; nil = none (yet)
	window  window
	settle  settle
	missing missing
	frames  bool     // the peer's newest media came in frames, so it can be repaired
	asks    []uint64 // frames to ask for; capacity maxAsked
	pace    paceState
	lastOn  [slots]uint64 // one past the newest frame that went out on a slot, as frames say
	rescued func(path uint8)
}

// accept checks the window, opens the frame and marks it, in this order: a frame that does not open leaves no trace,
// so an injector on one path cannot suppress what comes on the others. records is nil for a copy. Of the copies some are
// opened too, or a path that is never the first could bring anything.
func (m *inMedia) accept(frame []byte, epoch uint8, seq uint64, path *inPath, copies uint8, nowMS uint64) (records []byte, why DropReason) {
	if m.window.Seen(seq) {
		if path.seal.sample() || m.twin {
			if _, why = m.open(frame, epoch); why != DropNone {
				return nil, why
			}
			path.seal.note(false, nowMS)
		}
		m.settle.arrive(seq, path.id, copies, path.lowest, false, nowMS, m.rescued)
		m.hold(seq, path.id, copies, nowMS)
		return nil, DropNone
	}
	if records, why = m.open(frame, epoch); why != DropNone {
		return nil, why
	}
	path.seal.note(false, nowMS)
	if epoch == m.epoch+1 {
		m.keys[0], m.keys[1], m.keys[2] = m.keys[1], m.keys[2], nil // the feedback loop derives the next one
		m.epoch++
	}
	m.window.Mark(seq)
	m.frames = true
	path.first++
	m.settle.arrive(seq, path.id, copies, path.lowest, true, nowMS, m.rescued)
	m.hold(seq, path.id, copies, nowMS)
	return records, DropNone
}

// open opens a frame with the key of its epoch. A frame that does not open is ruined.
func (m *inMedia) open(frame []byte, epoch uint8) (records []byte, why DropReason) {
	which := epoch - m.epoch + 1
	if which > 2 || m.keys[which] == nil {
		return nil, DropKeyEpoch
	}
	records, ok := m.keys[which].open(frame)
	if !ok {
		return nil, DropBadSeal
	}
	return records, DropNone
}

// acceptDatagram is accept for records that came in a QUIC DATAGRAM.
func (m *inMedia) acceptDatagram(seq, nowMS uint64) bool {
	if m.window.Seen(seq) {
		return false
	}
	m.window.Mark(seq)
	m.frames = false
	m.settle.arrive(seq, noPath, 0, true, true, nowMS, m.rescued)
	return true
}

// hold notes a frame for finding holes.
func (m *inMedia) hold(seq uint64, path, copies uint8, nowMS uint64) {
	for slot := range m.lastOn {
		if copies&(1<<slot) != 0 {
			m.lastOn[slot] = max(m.lastOn[slot], seq+1)
		}
	}
	m.missing.arrive(seq, path, nowMS)
}

// carriersSpan is how many media frames back a path must have been used to be taken for one that may bring a missing one.
const carriersSpan = 32

// carriers is the set of path ids on which a frame may have gone out, as far as those around it say; all if they do not.
func (m *inMedia) carriers(seq uint64) (ids uint16) {
	for slot, last := range m.lastOn {
		if last+carriersSpan > seq {
			for id := slot; id < pathIDs; id += slotMask + 1 {
				ids |= 1 << id
			}
		}
	}
	if ids == 0 {
		return 1<<pathIDs - 1
	}
	return ids
}

// due moves holes that are due to asks and reports whether there is something to ask for.
func (m *inMedia) due(nowMS uint64, live uint16) bool {
	before := len(m.asks)
	m.asks = m.missing.poll(nowMS, func(seq uint64) uint16 { return live & m.carriers(seq) }, m.window.Seen, m.asks)
	for _, seq := range m.asks[before:] {
		m.settle.asked(seq)
	}
	m.pace.holes += uint64(len(m.asks) - before)
	return len(m.asks) > before
}

// deliver hands the packets in a frame's records to the handler, one call at a time.
func (s *Session) deliver(records []byte, nowMS uint64) DropReason {
	s.deliverMu.Lock()
	defer s.deliverMu.Unlock()
	if s.ended {
		return DropNoSession
	}
	s.open()
	for len(records) > 0 {
		r, rest, ok := nextRecord(records)
		if !ok {
			return DropMalformed // sealed by the peer, so the peer is broken; what came before it is good
		}
		records = rest
		packet := r.data
		if r.fragment {
			if packet = s.rejoin.add(r, nowMS); packet == nil {
				continue
			}
		}
		s.packetsReceived.Add(1)
		s.b.cfg.Handler.Packet(s, r.stream, packet)
	}
	return DropNone
}

// SendProbe sends a link probe straight to a member: at most 1,000 bytes, not encrypted, and not under the MAC.
func (b *Braid) SendProbe(to NodeID, payload []byte) error {
	now := time.Now()
	ms := b.unixMS(now)
	addr, ok := b.cfg.Addr(to)
	if !ok {
		return ErrNoAddress
	}
	if len(payload) > 1000 {
		return errTooLarge
	}
	epoch := epochOf(ms)
	key, ok := b.keys.get(to, epoch, now)
	if !ok {
		return ErrNoKey
	}
	b.probeMu.Lock()
	defer b.probeMu.Unlock()
	b.probeSeq++
	h := pathHeader{
		flags: uint8(epoch) << epochShift & 0x0f, kind: kindProbe, length: uint16(len(payload)), seq: b.probeSeq,
		time: uint16(ms), source: b.cfg.Self, dest: to,
	}
	frame := b.probeBuf[:headerLen(0)+len(payload)]
	h.put(frame)
	sign(frame, macInput(&b.probeInput, frame, 0, ms), 0, 0, &key)
	copy(frame[headerLen(0):], payload)
	return b.cfg.Wire.WriteRun(frame, len(frame), addr)
}
