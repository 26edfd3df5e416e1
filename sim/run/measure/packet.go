package measure

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// Stamp is what a synthetic packet says of itself.
type Stamp struct {
	Stream uint32 // number of the stream in its scenario
	Number uint64 // of the packet in its stream, from 0
	Sent   int64  // nanoseconds on the sender's clock
	Frame  uint32 // of video; 0 otherwise
	Index  uint16 // of the packet in its frame
	Count  uint16 // packets of the frame
	Key    bool   // the frame needs no other
}

// Body of a stamp, big-endian: magic u32, stream u32, number u64, sent u64, frame u32, index u16, count u16, key u8, CRC-32 of
// everything else, filling. It follows the RTP header, or the first byte of a payload that a client makes a packet of.
const (
	headerBytes = 12
	stampBytes  = 4 + 4 + 8 + 8 + 4 + 2 + 2 + 1
	magic       = 0x5445524e
	// MinPacketBytes is the smallest packet that a stamp fits into.
	MinPacketBytes = headerBytes + 1 + stampBytes + 4
	// partitionStart makes a payload look like the start of a VP8 partition.
	partitionStart = 0x10
)

// ErrAltered is a packet that is not what was sent.
var ErrAltered = errors.New("not a synthetic packet, or altered")

// Write fills packet, of at least MinPacketBytes. The RTP header carries the low bits of number and stream.
func (s Stamp) Write(packet []byte) {
	b := binary.BigEndian
	clear(packet[:headerBytes])
	packet[0], packet[1] = 0x80, 96
	b.PutUint16(packet[2:], uint16(s.Number))
	b.PutUint32(packet[4:], uint32(s.Sent/1e6*90))
	b.PutUint32(packet[8:], s.Stream)
	s.WritePayload(packet[headerBytes:])
}

// WritePayload fills what follows an RTP header, 12 bytes less than a packet.
func (s Stamp) WritePayload(payload []byte) {
	clear(payload)
	payload[0] = partitionStart
	b, p := binary.BigEndian, payload[1:]
	b.PutUint32(p, magic)
	b.PutUint32(p[4:], s.Stream)
	b.PutUint64(p[8:], s.Number)
	b.PutUint64(p[16:], uint64(s.Sent))
	b.PutUint32(p[24:], s.Frame)
	b.PutUint16(p[28:], s.Index)
	b.PutUint16(p[30:], s.Count)
	if s.Key {
		p[32] = 1
	}
	b.PutUint32(p[stampBytes:], sum(p))
}

// Read takes a packet's stamp; ErrAltered if it has none or the checksum does not match.
func Read(packet []byte) (Stamp, error) {
	if len(packet) < MinPacketBytes {
		return Stamp{}, ErrAltered
	}
	return ReadPayload(packet[headerBytes:])
}

// ReadPayload takes the stamp of what follows an RTP header.
func ReadPayload(payload []byte) (s Stamp, err error) {
	if len(payload) < MinPacketBytes-headerBytes {
		return s, ErrAltered
	}
	b, p := binary.BigEndian, payload[1:]
	if b.Uint32(p) != magic || b.Uint32(p[stampBytes:]) != sum(p) {
		return s, ErrAltered
	}
	return Stamp{
		Stream: b.Uint32(p[4:]), Number: b.Uint64(p[8:]), Sent: int64(b.Uint64(p[16:])),
		Frame: b.Uint32(p[24:]), Index: b.Uint16(p[28:]), Count: b.Uint16(p[30:]), Key: p[32] == 1,
	}, nil
}

// sum is the checksum of a body without the field that holds it.
func sum(body []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(body[:stampBytes]), crc32.IEEETable, body[stampBytes+4:])
}
