package braid

import "encoding/binary"

const (
	recordHeader   = 4
	fragmentHeader = recordHeader + 4
	fragmentBit    = 1 << 15
	// maxFragments bounds the pieces of one packet.
	maxFragments = 4
	// MaxPacket is the largest packet that Send takes, in bytes.
	MaxPacket = 2048
)

// record is one packet, or one piece of a packet, inside a media frame.
type record struct {
	stream   uint16
	fragment bool
	message  uint16 // of the pieces of one packet; unique among those of a stream for a while
	index    uint8
	count    uint8
	data     []byte
}

// appendRecord adds a record to the records of a frame.
func appendRecord(dst []byte, r record) []byte {
	dst = binary.BigEndian.AppendUint16(dst, r.stream)
	if !r.fragment {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.data)))
		return append(dst, r.data...)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r.data))|fragmentBit)
	dst = binary.BigEndian.AppendUint16(dst, r.message)
	dst = append(dst, r.index, r.count)
	return append(dst, r.data...)
}

// nextRecord takes the first record off b. The data aliases b.
func nextRecord(b []byte) (r record, rest []byte, ok bool) {
	if len(b) < recordHeader {
		return record{}, nil, false
	}
	r.stream = binary.BigEndian.Uint16(b)
	length := int(binary.BigEndian.Uint16(b[2:]))
	r.fragment = length&fragmentBit != 0
	length &^= fragmentBit
	b = b[recordHeader:]
	if r.fragment {
		if len(b) < fragmentHeader-recordHeader {
			return record{}, nil, false
		}
		r.message, r.index, r.count = binary.BigEndian.Uint16(b), b[2], b[3]
		if r.count < 2 || r.count > maxFragments || r.index >= r.count {
			return record{}, nil, false
		}
		b = b[fragmentHeader-recordHeader:]
	}
	if len(b) < length || r.fragment && length > maxRecords {
		return record{}, nil, false
	}
	r.data = b[:length:length]
	return r, b[length:], true
}

// pieces says into how many fragments a packet must go when a frame has room bytes for records; 1 = it fits whole.
func pieces(length, room int) int {
	if recordHeader+length <= room {
		return 1
	}
	part := room - fragmentHeader
	return (length + part - 1) / part
}

// piece returns the bounds of fragment index of count: even parts, so that they pack well with their neighbours.
func piece(length, index, count int) (from, to int) {
	return length * index / count, length * (index + 1) / count
}
