package braid

import (
	"encoding/binary"
	"errors"
)

// First byte of a QUIC DATAGRAM of a session.
const (
	datagramRecords = 1 // carrier datagram: 48-bit sequence, records
	datagramReport  = 2
	datagramRepair  = 3
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
	received, lost, first, rescued uint64
	corrupt                        uint64
	delayUS, overFloorUS, jitterUS int32
}

// report is the feedback that both sides of a session send every reportInterval.
type report struct {
	mediaNext                                   uint64 // next media frame sequence of the sender
	duplicates, undelivered, repaired, received uint64 // of the media that the sender of this report receives
	out                                         []outReport
	in                                          []inReport
}

const (
	inReportSize = 1 + 4 + 5*8 + 3*4
	// brokenBit is set in the id of a path that is broken.
	brokenBit = 0x80
)

func (r *report) append(b []byte) []byte {
	b = append(b, datagramReport, uint8(len(r.out)), uint8(len(r.in)))
	for _, v := range [...]uint64{r.mediaNext, r.duplicates, r.undelivered, r.repaired, r.received} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	for _, o := range r.out {
		b = append(b, o.id, o.relayN)
		b = binary.BigEndian.AppendUint32(b, o.next)
		b = binary.BigEndian.AppendUint64(b, o.sent)
		for _, relay := range o.relays[:o.relayN] {
			b = binary.BigEndian.AppendUint32(b, uint32(relay))
		}
	}
	for _, i := range r.in {
		id := i.id
		if i.broken {
			id |= brokenBit
		}
		b = append(b, id)
		b = binary.BigEndian.AppendUint32(b, i.next)
		for _, v := range [...]uint64{i.received, i.lost, i.first, i.rescued, i.corrupt} {
			b = binary.BigEndian.AppendUint64(b, v)
		}
		for _, v := range [...]int32{i.delayUS, i.overFloorUS, i.jitterUS} {
			b = binary.BigEndian.AppendUint32(b, uint32(v))
		}
	}
	return b
}

// parse decodes a report; slices of r are reused.
func (r *report) parse(b []byte) error {
	if len(b) < 3+5*8 || b[0] != datagramReport || b[1] > pathIDs || b[2] > pathIDs {
		return errReport
	}
	outs, ins := int(b[1]), int(b[2])
	b = b[3:]
	for _, v := range [...]*uint64{&r.mediaNext, &r.duplicates, &r.undelivered, &r.repaired, &r.received} {
		*v, b = binary.BigEndian.Uint64(b), b[8:]
	}
	if r.mediaNext > maxSequence+1 {
		return errReport
	}
	r.out, r.in = r.out[:0], r.in[:0]
	for range outs {
		if len(b) < 14 || b[0] >= pathIDs || b[1] > maxRelays || len(b) < 14+4*int(b[1]) {
			return errReport
		}
		o := outReport{id: b[0], relayN: b[1], next: binary.BigEndian.Uint32(b[2:]), sent: binary.BigEndian.Uint64(b[6:])}
		b = b[14:]
		for i := range int(o.relayN) {
			o.relays[i], b = NodeID(binary.BigEndian.Uint32(b)), b[4:]
		}
		r.out = append(r.out, o)
	}
	if len(b) != ins*inReportSize {
		return errReport
	}
	for range ins {
		if b[0]&^brokenBit >= pathIDs {
			return errReport
		}
		i := inReport{id: b[0] &^ brokenBit, broken: b[0]&brokenBit != 0, next: binary.BigEndian.Uint32(b[1:])}
		b = b[5:]
		for _, v := range [...]*uint64{&i.received, &i.lost, &i.first, &i.rescued, &i.corrupt} {
			*v, b = binary.BigEndian.Uint64(b), b[8:]
		}
		for _, v := range [...]*int32{&i.delayUS, &i.overFloorUS, &i.jitterUS} {
			*v, b = int32(binary.BigEndian.Uint32(b)), b[4:]
		}
		r.in = append(r.in, i)
	}
	return nil
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
