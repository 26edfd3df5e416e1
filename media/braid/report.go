package braid

import (
	"encoding/binary"
	"errors"
	"time"
)

// First byte of a QUIC DATAGRAM of a session.
const (
	datagramRecords  = 1 // carrier datagram: 48-bit sequence, records
	datagramReport   = 2 // protocol 1
	datagramRepair   = 3
	datagramSections = 4 // the report of protocol 2
	datagramPace     = 5 // protocol 2: feedback for budgets and redundancy
)

const (
	datagramHeader = 7
	// maxDatagramRecords is the room for records in a DATAGRAM: 1,243 bytes fit while path MTU discovery is off.
	maxDatagramRecords = 1243 - datagramHeader
	// maxAsked bounds the frames in one repair request.
	maxAsked = 64
)

var errReport = errors.New("malformed report")

// outReport is what a source says about one of its paths.
type outReport struct {
	id     uint8
	relayN uint8
	relays [maxRelays]NodeID
	next   uint32 // next path sequence
	sent   uint64
}

// inReport is what a receiver says about one path of its peer.
type inReport struct {
	id                             uint8
	next                           uint32 // one past the highest sequence that arrived
	broken                         bool   // what it brings is mostly corrupt: no media should count on it
	silent                         bool   // it brings nothing of what other paths bring
	received, lost, first, rescued uint64
	corrupt                        uint64
	delayUS, overFloorUS, jitterUS int32

	// Since protocol 2.
	congested     uint64 // frames that arrived with the congestion bit, or marked by an IP router
	bursts, burst uint64 // runs of media frames that it lost, and the longest
	sizes         uint64 // bit per probe size that arrived lately (mtu.go)
	bytes         uint64 // UDP payload that arrived
}

// pairReport is what a receiver says about two paths at once.
type pairReport struct {
	a, b uint8 // path ids
	pairCount
}

// report is the feedback that both sides of a session send; rhythm.go says when.
type report struct {
	mediaNext                                   uint64 // next media frame sequence of the sender
	duplicates, undelivered, repaired, received uint64 // of the media that the sender of this report receives
	out                                         []outReport
	in                                          []inReport
	pairs                                       []pairReport
	patience                                    time.Duration // without a report, until its sender takes the way back for dead; 0 = not told

	moved uint64 // bytes that moved on the paths, both ways; not told
}

// What the parts of a report take, in bytes, roughly.
const (
	outBytes  = 20
	inBytes   = 40
	pairBytes = 16
)

// Sections of a report: u8 section, uvarint length, body. A reader skips sections that it does not know and what follows
// the fields that it knows; fields that are missing at the end of a body are 0. So fields and sections can be added
// without a new protocol. All counts are totals: a lost report costs nothing but time.
const (
	sectionMedia = 1 // uvarints: mediaNext, duplicates, undelivered, repaired, received
	sectionOut   = 2 // one path of the sender: u8 id, u8 relays, u32 each, uvarints: next, sent
	sectionIn    = 3 // one path of the receiver: u8 id and flags, then uvarints as inReport.fields has them
	sectionPair  = 4 // u8 the two ids, uvarints: sent, lost on the first, on the second, on both
	sectionWait  = 5 // uvarint: report.patience in milliseconds
	// maxSections bounds the paths and pairs of one report.
	maxSections = 64
	// maxPatience is as long as anybody may say that it waits, in milliseconds.
	maxPatience = 60_000
)

// Flags of sectionIn's first byte, above the id.
const (
	inBroken = 1 << 4
	inSilent = 1 << 5
	// inFields is how many fields of sectionIn this version knows.
	inFields = 14
)

func (i *inReport) fields() [inFields]uint64 {
	return [inFields]uint64{
		uint64(i.next), i.received, i.lost, i.first, i.rescued, i.corrupt,
		zigzag(i.delayUS), zigzag(i.overFloorUS), zigzag(i.jitterUS), i.congested, i.bursts, i.burst, i.sizes, i.bytes,
	}
}

func (i *inReport) setFields(v *[inFields]uint64) {
	i.next, i.received, i.lost, i.first, i.rescued, i.corrupt = uint32(v[0]), v[1], v[2], v[3], v[4], v[5]
	i.delayUS, i.overFloorUS, i.jitterUS = unzigzag(v[6]), unzigzag(v[7]), unzigzag(v[8])
	i.congested, i.bursts, i.burst, i.sizes, i.bytes = v[9], v[10], v[11], v[12], v[13]
}

func zigzag(v int32) uint64   { return uint64(uint32(v<<1) ^ uint32(v>>31)) }
func unzigzag(u uint64) int32 { return int32(uint32(u)>>1) ^ -int32(u&1) }

// appendSections encodes the report for protocol 2.
func (r *report) appendSections(b []byte) []byte {
	b = append(b, datagramSections)
	b, at := openSection(b, sectionMedia)
	b = closeSection(appendUvarints(b, r.mediaNext, r.duplicates, r.undelivered, r.repaired, r.received), at)
	b, at = openSection(b, sectionWait)
	b = closeSection(appendUvarints(b, uint64(r.patience.Milliseconds())), at)
	for _, o := range r.out {
		b, at = openSection(b, sectionOut)
		b = append(b, o.id, o.relayN)
		for _, relay := range o.relays[:o.relayN] {
			b = binary.BigEndian.AppendUint32(b, uint32(relay))
		}
		b = closeSection(appendUvarints(b, uint64(o.next), o.sent), at)
	}
	for _, i := range r.in {
		id := i.id
		if i.broken {
			id |= inBroken
		}
		if i.silent {
			id |= inSilent
		}
		b, at = openSection(b, sectionIn)
		fields := i.fields()
		n := len(fields)
		for n > 0 && fields[n-1] == 0 {
			n--
		}
		b = closeSection(appendUvarints(append(b, id), fields[:n]...), at)
	}
	for _, p := range r.pairs {
		b, at = openSection(b, sectionPair)
		b = closeSection(appendUvarints(append(b, p.a|p.b<<4), p.sent, p.lostA, p.lostB, p.both), at)
	}
	return b
}

func appendUvarints(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// openSection leaves one byte for the length: no section of ours is longer than 127 bytes.
func openSection(b []byte, section uint8) (opened []byte, at int) {
	b = append(b, section, 0)
	return b, len(b)
}

func closeSection(b []byte, at int) []byte {
	b[at-1] = uint8(len(b) - at)
	return b
}

// parseSections decodes a report of protocol 2; slices of r are reused.
func (r *report) parseSections(b []byte) error {
	if len(b) == 0 || b[0] != datagramSections {
		return errReport
	}
	*r = report{out: r.out[:0], in: r.in[:0], pairs: r.pairs[:0]}
	b = b[1:]
	for n := 0; len(b) > 0; n++ {
		section := b[0]
		length, used := binary.Uvarint(b[1:])
		if used <= 0 || n >= maxSections || length > uint64(len(b)-1-used) {
			return errReport
		}
		b = b[1+used:]
		if !r.parseSection(section, b[:length]) {
			return errReport
		}
		b = b[length:]
	}
	return nil
}

func (r *report) parseSection(section uint8, b []byte) bool {
	switch section {
	case sectionMedia:
		var v [5]uint64
		ok := uvarints(b, v[:])
		r.mediaNext, r.duplicates, r.undelivered, r.repaired, r.received = v[0], v[1], v[2], v[3], v[4]
		return ok && r.mediaNext <= maxSequence+1
	case sectionWait:
		var v [1]uint64
		ok := uvarints(b, v[:])
		r.patience = time.Duration(min(v[0], maxPatience)) * time.Millisecond
		return ok
	case sectionOut:
		if len(b) < 2 || b[0] >= pathIDs || b[1] > maxRelays || len(b) < 2+4*int(b[1]) {
			return false
		}
		o := outReport{id: b[0], relayN: b[1]}
		b = b[2:]
		for i := range int(o.relayN) {
			o.relays[i], b = NodeID(binary.BigEndian.Uint32(b)), b[4:]
		}
		var v [2]uint64
		ok := uvarints(b, v[:])
		o.next, o.sent = uint32(v[0]), v[1]
		r.out = append(r.out, o)
		return ok
	case sectionIn:
		if len(b) < 1 {
			return false
		}
		i := inReport{id: b[0] & (pathIDs - 1), broken: b[0]&inBroken != 0, silent: b[0]&inSilent != 0}
		var v [inFields]uint64
		ok := uvarints(b[1:], v[:])
		i.setFields(&v)
		r.in = append(r.in, i)
		return ok
	case sectionPair:
		if len(b) < 1 {
			return false
		}
		var v [4]uint64
		ok := uvarints(b[1:], v[:])
		r.pairs = append(r.pairs, pairReport{b[0] & (pathIDs - 1), b[0] >> 4, pairCount{v[0], v[1], v[2], v[3]}})
		return ok
	}
	return true
}

// uvarints fills out from b. What b does not have stays 0, what it has more is skipped; false: b ends within a number.
func uvarints(b []byte, out []uint64) bool {
	for i := range out {
		if len(b) == 0 {
			return true
		}
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		out[i], b = v, b[n:]
	}
	return true
}

// appendRepair encodes a request for the given frames.
func appendRepair(b []byte, seqs []uint64) []byte {
	b = append(b, datagramRepair, uint8(len(seqs)))
	for _, seq := range seqs {
		b = append(b, byte(seq>>40), byte(seq>>32))
		b = binary.BigEndian.AppendUint32(b, uint32(seq))
	}
	return b
}

// parseRepair appends the frames asked for to out.
func parseRepair(b []byte, out []uint64) ([]uint64, error) {
	if len(b) < 2 || b[0] != datagramRepair || b[1] > maxAsked || len(b) != 2+6*int(b[1]) {
		return out, errors.New("malformed repair request")
	}
	for b = b[2:]; len(b) > 0; b = b[6:] {
		out = append(out, uint64(b[0])<<40|uint64(b[1])<<32|uint64(binary.BigEndian.Uint32(b[2:])))
	}
	return out, nil
}

// putDatagramHeader begins a DATAGRAM of records.
func putDatagramHeader(b []byte, seq uint64) {
	b[0] = datagramRecords
	b[1], b[2] = byte(seq>>40), byte(seq>>32)
	binary.BigEndian.PutUint32(b[3:], uint32(seq))
}

func parseDatagramHeader(b []byte) (seq uint64, records []byte, ok bool) {
	if len(b) < datagramHeader || b[0] != datagramRecords {
		return 0, nil, false
	}
	return uint64(b[1])<<40 | uint64(b[2])<<32 | uint64(binary.BigEndian.Uint32(b[3:])), b[datagramHeader:], true
}
