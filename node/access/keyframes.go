package access

import "strings"

// startsKeyframe says whether a payload is the first of a keyframe, as far as the codec's own header shows it. Only the
// choice between simulcast layers depends on it: where end-to-end encryption hides that header, a viewer stays with its
// layer. It is total: any bytes give an answer.
func startsKeyframe(mime string, payload []byte) bool {
	switch strings.ToLower(mime) {
	case "video/vp8":
		return vp8Keyframe(payload)
	case "video/vp9": // RFC 9628: not inter-picture predicted, begins a frame, of the lowest spatial layer
		if len(payload) == 0 || payload[0]&0x40 != 0 || payload[0]&0x08 == 0 {
			return false
		}
		return payload[0]&0x20 == 0 || vp9Spatial(payload) == 0
	case "video/h264":
		return h264Keyframe(payload)
	case "video/av1": // the aggregation header's N: first packet of a coded video sequence
		return len(payload) > 0 && payload[0]&0x08 != 0
	}
	return false
}

// vp8Keyframe reads RFC 7741's descriptor: the start of the first partition, and then the frame's own inverse key bit.
func vp8Keyframe(b []byte) bool {
	if len(b) == 0 || b[0]&0x10 == 0 || b[0]&0x07 != 0 {
		return false
	}
	at := 1
	if b[0]&0x80 != 0 { // extended
		if len(b) < 2 {
			return false
		}
		ext := b[1]
		at = 2
		if ext&0x80 != 0 { // picture id, of 7 or 15 bits
			if len(b) <= at {
				return false
			}
			if b[at]&0x80 != 0 {
				at++
			}
			at++
		}
		if ext&0x40 != 0 {
			at++
		}
		if ext&0x30 != 0 {
			at++
		}
	}
	return len(b) > at && b[at]&1 == 0
}

// vp9Spatial is the spatial layer that a descriptor with layer indices names; 7 if it is cut short.
func vp9Spatial(b []byte) byte {
	at := 1
	if b[0]&0x80 != 0 { // picture id
		if len(b) <= at {
			return 7
		}
		if b[at]&0x80 != 0 {
			at++
		}
		at++
	}
	if len(b) <= at {
		return 7
	}
	return b[at] >> 1 & 7
}

// h264Keyframe finds an IDR slice or the parameter sets that stand before it (RFC 6184).
func h264Keyframe(b []byte) bool {
	const idr, sps, stapA, fuA = 5, 7, 24, 28
	if len(b) == 0 {
		return false
	}
	switch kind := b[0] & 0x1f; kind {
	case idr, sps:
		return true
	case fuA:
		return len(b) > 1 && b[1]&0x80 != 0 && b[1]&0x1f == idr
	case stapA:
		for b = b[1:]; len(b) > 2; {
			size := int(b[0])<<8 | int(b[1])
			if kind := b[2] & 0x1f; kind == idr || kind == sps {
				return true
			}
			if size == 0 || len(b) < 2+size {
				return false
			}
			b = b[2+size:]
		}
	}
	return false
}
