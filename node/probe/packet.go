package probe

import (
	"encoding/binary"
	"time"
)

const (
	headerBytes = 12
	magic       = 0x7465726e
	// MinBytes is the smallest packet that carries a stamp.
	MinBytes = headerBytes + 4 + 8 + 8
	// recordBytes is the size of an arrival in an answer.
	recordBytes = 24
)

// stamp fills a packet of at least MinBytes.
func stamp(p []byte, number uint64, now time.Time) {
	b := binary.BigEndian
	p[0], p[1] = 0x80, 96
	b.PutUint16(p[2:], uint16(number))
	b.PutUint32(p[4:], uint32(now.UnixMilli()*90))
	b.PutUint32(p[headerBytes:], magic)
	b.PutUint64(p[headerBytes+4:], number)
	b.PutUint64(p[headerBytes+12:], uint64(now.UnixNano()))
}

// Arrival is one packet that came; Sent is on the sender's clock, At on the receiver's, both Unix nanoseconds.
type Arrival struct {
	Number   uint64
	Sent, At int64
}

// read turns a packet into an arrival; false if it carries no stamp.
func read(p []byte, now time.Time) (Arrival, bool) {
	b := binary.BigEndian
	if len(p) < MinBytes || b.Uint32(p[headerBytes:]) != magic {
		return Arrival{}, false
	}
	return Arrival{Number: b.Uint64(p[headerBytes+4:]), Sent: int64(b.Uint64(p[headerBytes+12:])), At: now.UnixNano()}, true
}

func (a Arrival) append(to []byte) []byte {
	b := binary.BigEndian
	return b.AppendUint64(b.AppendUint64(b.AppendUint64(to, a.Number), uint64(a.Sent)), uint64(a.At))
}

// Arrivals reads the records of an answer; a cut-off one at the end is left out.
func Arrivals(records []byte) (out []Arrival) {
	b := binary.BigEndian
	for ; len(records) >= recordBytes; records = records[recordBytes:] {
		out = append(out, Arrival{Number: b.Uint64(records), Sent: int64(b.Uint64(records[8:])), At: int64(b.Uint64(records[16:]))})
	}
	return out
}
