package braid

import (
	"encoding/binary"
)

// The layout of a path frame: see doc.go. Every offset is fixed, so that a relay (today this package, later an XDP
// program) finds each field without walking the frame.
const (
	classPath   = 5 // first byte of every path frame on the mesh port
	version     = 1
	maxRelays   = 2
	fixedHeader = 24 // bytes in front of the relay ids
	macSize     = 6
	// MaxHeader is the size of the largest path header, two relays, in bytes.
	MaxHeader = fixedHeader + maxRelays*4 + (maxRelays+1)*macSize
	// MaxDatagram is the largest UDP payload that a braid writes, in bytes.
	MaxDatagram = 1372
)

// Low nibble of byte 1.
const (
	flagCongestion = 1 << 0 // relays may set it; not under the MAC
	flagLowestCost = 1 << 1 // the first path of the sender's set, by which the receiver counts what the others rescued
	epochShift     = 2
)

// Kinds of payload.
const (
	kindQUIC  = 1
	kindMedia = 2
	kindProbe = 3
	kindSize  = 4 // nothing but its size; to peers of protocol 2
)

// pathHeader is a decoded path frame header, MACs and payload left where they are.
type pathHeader struct {
	flags  uint8 // low nibble of byte 1, the epoch's two bits included
	relayN uint8
	hop    uint8 // index of the next hop; relayN = the egress
	path   uint8
	kind   uint8
	copies uint8 // bit per slot (joint.go) on which this payload goes out; 0: the source does not say
	length uint16
	seq    uint32
	time   uint16 // low 16 bits of the source's Unix milliseconds
	fence  FenceID
	source NodeID
	dest   NodeID
	relays [maxRelays]NodeID

	waitedMS uint16 // in this node's socket; not on the wire
}

func headerLen(relays int) int { return fixedHeader + 4*relays + macSize*(relays+1) }

// macOffset is where the MAC of hop number hop lies; the egress is hop number relays.
func macOffset(relays, hop int) int { return fixedHeader + 4*relays + macSize*hop }

// parsePathFrame decodes the header of frame and checks everything that needs no key and no policy.
func parsePathFrame(frame []byte, h *pathHeader) DropReason {
	if len(frame) < headerLen(0) || len(frame) > MaxDatagram || frame[0] != classPath {
		return DropMalformed
	}
	if frame[1]>>4 != version {
		return DropVersion
	}
	h.flags = frame[1] & 0x0f
	h.relayN, h.hop, h.path = frame[2]&3, frame[2]>>2&3, frame[2]>>4
	if h.relayN > maxRelays || h.hop > h.relayN {
		return DropMalformed
	}
	h.kind, h.copies = frame[3]&0x0f, frame[3]>>4
	h.length = binary.BigEndian.Uint16(frame[4:])
	if len(frame) < headerLen(int(h.relayN))+int(h.length) {
		return DropMalformed
	}
	h.seq = binary.BigEndian.Uint32(frame[6:])
	h.time = binary.BigEndian.Uint16(frame[10:])
	h.fence = FenceID(binary.BigEndian.Uint32(frame[12:]))
	h.source = NodeID(binary.BigEndian.Uint32(frame[16:]))
	h.dest = NodeID(binary.BigEndian.Uint32(frame[20:]))
	for i := range int(h.relayN) {
		h.relays[i] = NodeID(binary.BigEndian.Uint32(frame[fixedHeader+4*i:]))
	}
	return DropNone
}

// payload of a frame that parsePathFrame accepted; padding cut off.
func (h *pathHeader) payload(frame []byte) []byte {
	start := headerLen(int(h.relayN))
	return frame[start : start+int(h.length) : start+int(h.length)]
}

// epochBits are the relay-key epoch modulo 4.
func (h *pathHeader) epochBits() uint8 { return h.flags >> epochShift }

// put writes the header without its MACs into dst, which must hold headerLen bytes.
func (h *pathHeader) put(dst []byte) {
	dst[0] = classPath
	dst[1] = version<<4 | h.flags&0x0f
	dst[2] = h.relayN | h.hop<<2 | h.path<<4
	dst[3] = h.kind | h.copies<<4
	binary.BigEndian.PutUint16(dst[4:], h.length)
	binary.BigEndian.PutUint32(dst[6:], h.seq)
	binary.BigEndian.PutUint16(dst[10:], h.time)
	binary.BigEndian.PutUint32(dst[12:], uint32(h.fence))
	binary.BigEndian.PutUint32(dst[16:], uint32(h.source))
	binary.BigEndian.PutUint32(dst[20:], uint32(h.dest))
	for i := range int(h.relayN) {
		binary.BigEndian.PutUint32(dst[fixedHeader+4*i:], uint32(h.relays[i]))
	}
}

// advanceHop moves a frame on to its next hop in place: the one change that a relay makes.
func advanceHop(frame []byte) { frame[2] += 1 << 2 }

// macInputSize bounds what a MAC covers.
const macInputSize = fixedHeader + maxRelays*4 + 8

// macInput gathers what the MACs of a frame cover: the header with the congestion bit and the hop index masked (relays
// change those two), the relay ids, and the send time in full, so that a replay of a later wrap of the 16-bit time fails.
func macInput(buf *[macInputSize]byte, frame []byte, relays int, sentMS uint64) []byte {
	n := fixedHeader + 4*relays
	// In whole words, as the hash reads them: a byte changed in place would make it wait for the store.
	const masked = flagCongestion<<8 | 3<<2<<16
	binary.LittleEndian.PutUint64(buf[0:], binary.LittleEndian.Uint64(frame)&^masked)
	binary.LittleEndian.PutUint64(buf[8:], binary.LittleEndian.Uint64(frame[8:]))
	binary.LittleEndian.PutUint64(buf[16:], binary.LittleEndian.Uint64(frame[16:]))
	for at := fixedHeader; at < n; at += 4 {
		binary.LittleEndian.PutUint32(buf[at:], binary.LittleEndian.Uint32(frame[at:]))
	}
	binary.BigEndian.PutUint64(buf[n:], sentMS)
	return buf[:n+8]
}

// sign writes the MAC of one hop into frame.
func sign(frame, input []byte, relays, hop int, key *hopKey) {
	sum := key.sum(input)
	at := frame[macOffset(relays, hop):]
	_ = at[macSize-1]
	for i := range macSize {
		at[i] = byte(sum >> (8 * i))
	}
}

// verify compares the MAC of one hop. A timing difference tells nothing of use: the attacker has one 48-bit guess per
// frame, each frame has its own sequence and time, and a hit admits one frame whose payload is sealed anyway.
func verify(frame, input []byte, relays, hop int, key *hopKey) bool {
	at := frame[macOffset(relays, hop):][:macSize]
	got := uint64(binary.LittleEndian.Uint32(at)) | uint64(binary.LittleEndian.Uint16(at[4:]))<<32
	return got == key.sum(input)&(1<<(8*macSize)-1)
}

// nearestTime rebuilds a full time in milliseconds from its low 16 bits: the value nearest to now.
func nearestTime(nowMS uint64, low uint16) uint64 {
	return nowMS + uint64(int64(int16(low-uint16(nowMS))))
}
