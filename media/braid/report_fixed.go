package braid

import (
	"encoding/binary"
)

// Reports of protocol 1, for peers that speak no newer one: u8 2, u8 outs, u8 ins, five u64 of media, then the paths.

const (
	inReportSize = 1 + 4 + 5*8 + 3*4
	// brokenBit is set in the id of a path that is broken.
	brokenBit = 0x80
)

func (r *report) appendFixed(b []byte) []byte {
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
		if i.broken || i.silent { // protocol 1 knows one reason not to count on a path
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

// parseFixed decodes a report of protocol 1; slices of r are reused.
func (r *report) parseFixed(b []byte) error {
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
	r.out, r.in, r.pairs = r.out[:0], r.in[:0], r.pairs[:0]
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
