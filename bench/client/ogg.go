package client

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

var errOgg = errors.New("not an Ogg Opus file")

// oggPackets returns the audio packets of an Ogg Opus file, without its two headers. A
// page may hold many packets, and a packet may go over pages.
func oggPackets(file []byte) ([][]byte, error) {
	var out [][]byte
	var part []byte
	for len(file) > 0 {
		if len(file) < 27 || !bytes.HasPrefix(file, []byte("OggS")) {
			return nil, fmt.Errorf("%w: no page where one should be", errOgg)
		}
		table := file[27:]
		segments := int(file[26])
		if len(table) < segments {
			return nil, fmt.Errorf("%w: cut page", errOgg)
		}
		data := table[segments:]
		for _, size := range table[:segments] {
			if len(data) < int(size) {
				return nil, fmt.Errorf("%w: cut page", errOgg)
			}
			part = append(part, data[:size]...)
			data = data[size:]
			if size < 255 { // the packet ends here
				out = append(out, part)
				part = nil
			}
		}
		file = data
	}
	if len(out) < 3 || !bytes.HasPrefix(out[0], []byte("OpusHead")) || !bytes.HasPrefix(out[1], []byte("OpusTags")) {
		return nil, fmt.Errorf("%w: no Opus headers or no audio", errOgg)
	}
	return out[2:], nil
}

// opusSamples is the length of an Opus packet in ticks of 48 kHz (RFC 6716, 3.1).
func opusSamples(packet []byte) uint32 {
	if len(packet) == 0 {
		return 0
	}
	config := packet[0] >> 3
	var frame uint32
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		frame = []uint32{480, 960, 1920, 2880}[config%4]
	case config < 16: // hybrid: 10, 20 ms
		frame = []uint32{480, 960}[config%2]
	default: // CELT: 2.5, 5, 10, 20 ms
		frame = []uint32{120, 240, 480, 960}[config%4]
	}
	switch packet[0] & 3 {
	case 0:
		return frame
	case 1, 2:
		return 2 * frame
	}
	if len(packet) < 2 {
		return 0
	}
	return frame * uint32(packet[1]&63)
}

// ivfFrame is one VP8 frame with its time in ticks of 90 kHz.
type ivfFrame struct {
	data []byte
	at   uint64
}

// key says whether the frame is a keyframe: the first bit of VP8's frame tag is 0.
func (f ivfFrame) key() bool { return len(f.data) > 0 && f.data[0]&1 == 0 }

var errIVF = errors.New("not an IVF VP8 file")

// ivfFrames returns the frames of an IVF file.
func ivfFrames(file []byte) ([]ivfFrame, error) {
	if len(file) < 32 || !bytes.HasPrefix(file, []byte("DKIF")) || string(file[8:12]) != "VP80" {
		return nil, errIVF
	}
	den, num := uint64(binary.LittleEndian.Uint32(file[16:])), uint64(binary.LittleEndian.Uint32(file[20:]))
	header := int(binary.LittleEndian.Uint16(file[6:]))
	if den == 0 || num == 0 || header < 32 || header > len(file) {
		return nil, errIVF
	}
	var out []ivfFrame
	for rest := file[header:]; len(rest) > 0; {
		if len(rest) < 12 || uint64(len(rest)-12) < uint64(binary.LittleEndian.Uint32(rest)) {
			return nil, fmt.Errorf("%w: cut frame", errIVF)
		}
		size := binary.LittleEndian.Uint32(rest)
		out = append(out, ivfFrame{data: rest[12 : 12+size], at: binary.LittleEndian.Uint64(rest[4:]) * 90000 * num / den})
		rest = rest[12+size:]
	}
	if len(out) < 2 || !out[0].key() || out[len(out)-1].at <= out[0].at {
		return nil, fmt.Errorf("%w: fewer than two frames, or it does not begin with a keyframe", errIVF)
	}
	return out, nil
}
