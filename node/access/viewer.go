package access

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

const (
	// keyframeEvery bounds how often one viewer's requests go on. Media coalesces those of
	// all viewers.
	keyframeEvery = 250 * time.Millisecond
	// A viewer's packets may be sent again at half the rate of the others, with so many at
	// once: whoever loses more needs a smaller stream, not the same one twice.
	repairBurst = 128
	// A packet is sent again once in a round trip: until then the first answer may be on its
	// way. The round trip is what the viewer's reports say, between these bounds.
	leastAgain, mostAgain = 20 * time.Millisecond, 3 * time.Second
	firstTrip             = 200 * time.Millisecond // before the first report
	againMemory           = 128                    // packets that were sent again, by sequence number

	// srtpRoom is the most that protection adds to a packet.
	srtpRoom = 16
	// bareHeader and numberedHeader are what stands before a packet's payload: without and with its transport-wide number.
	bareHeader, numberedHeader = 12, 20
)

// viewer is media's Sink for one WHEP session. It has no goroutine and no queue of its
// own: the shard that it sits in writes its packets.
type viewer struct {
	s      *session
	tracks []*viewerTrack                 // by track, nil where the viewer wants none; layers of one picture share theirs; fixed
	near   [2]*viewerTrack                // what tracks points to, unless there are layers: beside it, see sealer
	to     atomic.Pointer[netip.AddrPort] // where packets go; nil until ICE has chosen, and over TCP

	// Guarded by the shard's lock.
	crypt  *sealer    // nil: the library writes
	credit int        // packets that may be sent again, in halves
	began  bool       // the first packet has gone out
	header rtp.Header // of the packet being sent: here, so that it costs no allocation
	mile   estimator

	sub      subscription
	audience atomic.Pointer[audience]
	shard    atomic.Pointer[shard] // nil until it is connected
	tcp      atomic.Bool           // ICE has chosen TCP

	answers bool // the client offered, so that we are the DTLS server; set before the peer is made

	estimate atomic.Uint64 // bit/s, what its last mile carries; 0: not known
	asked    atomic.Uint64 // keyframes that the client asked for
}

// viewerTrack is one track's way to the viewer. Its numbers are guarded by the shard's
// lock; what Bind sets is fixed before the viewer sits. What every packet needs stands first and together.
type viewerTrack struct {
	joined  splice
	turns   turns
	rate    uint32
	ssrc    uint32
	packets uint32
	octets  uint32
	last    uint32 // timestamp sent last
	lastAt  time.Time
	payload uint8
	number  uint8 // of the header extension with the transport-wide number; 0: not agreed
	picture bool  // video; fixed
	pick          // its owner holds the shard's lock
	still   still

	rtxPayload uint8 // 0: lost packets go again as they were
	rtxSeq     uint16
	rtxSSRC    uint32
	rtxTurns   turns
	id, stream string
	codec      codec
	plain      webrtc.TrackLocalWriter
	trip       time.Duration // round trip by the last report
	again      [againMemory]againAt
}

// againAt is when a packet was sent again.
type againAt struct {
	seq uint16
	at  time.Time
}

// due says whether a packet may be sent again at now, and takes note if so.
func (t *viewerTrack) due(seq uint16, now time.Time) bool {
	last := &t.again[seq%againMemory]
	if last.seq == seq && now.Sub(last.at) < min(max(t.trip, leastAgain), mostAgain) {
		return false
	}
	*last = againAt{seq, now}
	return true
}

func newViewer(s *session) *viewer { return &viewer{s: s, credit: 2 * repairBurst} }

// Write implements media.Sink. Media brings a packet to every viewer; all but the first find that it is known.
func (v *viewer) Write(track int, data []byte) {
	u := v.audience.Load()
	switch {
	case u != nil && u.known(track, data):
	case u == nil || !v.s.connected.Load():
		v.s.a.counts.early.Add(1)
	case len(data) > maxPacket:
		v.s.a.counts.size.Add(1)
	default:
		u.write(track, data)
	}
}

// AsksItself implements media.Asker: see connected.
func (v *viewer) AsksItself() {}

// Ended implements media.Sink.
func (v *viewer) Ended(reason string) { v.s.end("stream_" + reason) }

// connected takes the viewer's place in the audience and asks for the first keyframes.
func (v *viewer) connected() {
	v.crypt = v.keys()
	if u := v.audience.Load(); u != nil {
		u.sit(v)
	}
	for i, t := range v.tracks {
		if t != nil && t.Kind() == webrtc.RTPCodecTypeVideo && int(t.at.Load()) == i {
			v.askKeyframe(i)
		}
	}
}

func (v *viewer) askKeyframe(track int) {
	v.s.a.counts.asked.Add(1)
	v.sub.RequestKeyframe(track)
}

// moved takes note of where the viewer's packets go from now on.
func (v *viewer) moved(pair *webrtc.ICECandidatePair) {
	ip, err := netip.ParseAddr(pair.Remote.Address)
	tcp := pair.Local.Protocol == webrtc.ICEProtocolTCP
	if was := v.tcp.Swap(tcp); err != nil || tcp {
		v.to.Store(nil)
		if !was && v.shard.Load() != nil { // it sits as one that we write to: it comes back as one of the library's
			v.s.end("moved_to_tcp")
		}
		return
	}
	to := netip.AddrPortFrom(ip.Unmap(), pair.Remote.Port)
	v.to.Store(&to)
}

// send writes a burst to the viewer. Called with the shard's lock held.
func (v *viewer) send(box *outbox, burst []*shared, now time.Time, counts *counters) {
	out, stale, failed := uint64(0), uint64(0), uint64(0)
	for _, p := range burst {
		t := v.tracks[p.track]
		if t == nil {
			continue // not asked for
		}
		takes, changed := t.takes(p.track, p.key)
		if !takes {
			continue // another layer
		}
		if changed {
			t.joined.change()
			counts.switches.Add(1)
		}
		h := &v.header
		spare := h.Extensions[:0] // the encryption reads the header into it
		*h = p.header
		h.Extensions = spare
		if !t.joined.apply(h, now, t.rate) {
			stale++
			continue
		}
		h.SSRC, h.PayloadType = t.ssrc, t.payload
		if !v.put(box, t, h, p.payload(), nil, now) {
			failed++
			continue
		}
		out++
		if t.picture && (t.packets == 0 || int32(h.Timestamp-t.last) > 0) {
			if frozen := t.still.frame(now); frozen > 0 {
				counts.freezes.Add(1)
				counts.frozen.Add(uint64(frozen))
			}
		}
		t.packets++
		t.octets += uint32(p.size)
		t.last, t.lastAt = h.Timestamp, now
	}
	box.flush()
	if !v.began && out > 0 {
		v.began = true
		v.s.trace.end("")
	}
	v.credit = min(v.credit+int(out), 2*repairBurst)
	counts.out.Add(out)
	if stale > 0 {
		counts.stale.Add(stale)
	}
	if failed > 0 {
		counts.write.Add(failed)
	}
}

// put encrypts one packet into the outbox. before stands in front of the payload.
func (v *viewer) put(box *outbox, t *viewerTrack, h *rtp.Header, payload, before []byte, now time.Time) bool {
	to := v.to.Load()
	switch {
	case v.crypt == nil:
		_, err := t.plain.WriteRTP(h, append(before, payload...))
		return err == nil
	case to == nil: // never by the library: two writers would use a key stream twice
		return false
	}
	box.to(*to)
	head := bareHeader
	if t.number != 0 {
		head = numberedHeader
	}
	size := head + len(before) + len(payload)
	b := box.room(size + srtpRoom)
	if _, err := h.MarshalTo(b); err != nil {
		return false
	}
	if t.number != 0 {
		numbered(b, t.number, v.mile.sent(now, size))
	}
	turns := &t.turns
	if h.SSRC == t.rtxSSRC {
		turns = &t.rtxTurns
	}
	sealed := v.crypt.seal(b, head, before, payload, h, turns)
	if sealed > 0 {
		box.add(sealed)
	}
	return sealed > 0
}

// numbered writes the header extension with a transport-wide number behind a bare header (RFC 8285, one-byte form).
func numbered(b []byte, id uint8, number uint16) {
	b[0] |= 0x10
	binary.BigEndian.PutUint16(b[12:], rtp.ExtensionProfileOneByte)
	binary.BigEndian.PutUint16(b[14:], 1) // words
	b[16] = id<<4 | 1                     // of two bytes
	binary.BigEndian.PutUint16(b[17:], number)
	b[19] = 0
}

// resend answers a NACK from what the audience keeps, as RTX where the viewer has it.
func (v *viewer) resend(t *viewerTrack, lost []uint16) {
	u, s := v.audience.Load(), v.shard.Load()
	if u == nil || s == nil {
		return
	}
	counts := &v.s.a.counts
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, seq := range lost {
		if !t.due(seq, now) {
			counts.repairLimit.Add(1)
			continue
		}
		if v.credit < 2 {
			counts.repairLimit.Add(1)
			continue
		}
		var p *shared
		if t.joined.sent(seq) { // what was sent of a source or layer before is not kept under this one's numbers
			p = u.tracks[t.at.Load()].find(t.joined.ssrc, seq-t.joined.seq)
		}
		if p == nil {
			counts.repairGone.Add(1)
			continue
		}
		v.credit -= 2
		h := p.header
		h.SequenceNumber, h.Timestamp = seq, h.Timestamp+t.joined.ts
		h.SSRC, h.PayloadType = t.ssrc, t.payload
		var before []byte
		if t.rtxPayload != 0 {
			before = binary.BigEndian.AppendUint16(nil, seq)
			h.SSRC, h.PayloadType, h.SequenceNumber = t.rtxSSRC, t.rtxPayload, t.rtxSeq
			t.rtxSeq++
		}
		if v.put(&s.box, t, &h, p.payload(), before, now) {
			counts.repaired.Add(1)
		}
		p.release()
	}
	s.box.flush()
}

// reports are the sender reports of all tracks. Called with the shard's lock held.
func (v *viewer) reports(now time.Time) (all []rtcp.Packet) {
	for i, t := range v.tracks {
		if t == nil || t.packets == 0 || int(t.at.Load()) != i {
			continue
		}
		ahead := uint32(now.Sub(t.lastAt).Seconds() * float64(t.rate))
		all = append(all, &rtcp.SenderReport{SSRC: t.ssrc, NTPTime: ntp(now), RTPTime: t.last + ahead, PacketCount: t.packets, OctetCount: t.octets})
	}
	return all
}
