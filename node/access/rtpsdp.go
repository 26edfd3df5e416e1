package access

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ternmesh/tern/media"
)

// rtpRequest is the optional body of an RTP ingest.
type rtpRequest struct {
	Stream string     `json:"stream"`
	Tracks []rtpTrack `json:"tracks"`
}

type rtpTrack struct {
	Kind        string `json:"kind"`         // audio or video
	Codec       string `json:"codec"`        // opus, VP8, VP9, H264, AV1; any case
	PayloadType uint8  `json:"payload_type"` // 96 to 127
}

// rtpDefault is what a client gets that asks for nothing: ffmpeg's own payload types
// would be 96 for the first and 97 for the second, 111 is what browsers use for Opus.
var rtpDefault = []rtpTrack{{media.KindVideo, "VP8", 96}, {media.KindAudio, "opus", 111}}

// h264Params name what encoders commonly send: several NAL units to a packet,
// constrained baseline. The payload is not looked at, so this is a label.
const h264Params = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"

// parseRTP reads the body; an empty one asks for the default. At most one track of a
// kind, as everywhere.
func parseRTP(body []byte) (stream string, codecs []codec, err error) {
	req := rtpRequest{Tracks: slices.Clone(rtpDefault)} // decoding writes into it
	if len(body) > 0 {
		dec := json.NewDecoder(strings.NewReader(string(body)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&req); err != nil {
			return "", nil, fmt.Errorf("body: %w", err)
		}
	}
	if req.Stream != "" && !validStream(req.Stream) {
		return "", nil, fmt.Errorf("stream is not 1 to 64 of A-Z a-z 0-9 _ -")
	}
	if len(req.Tracks) == 0 || len(req.Tracks) > 2 {
		return "", nil, fmt.Errorf("%d tracks, 1 or 2 are possible", len(req.Tracks))
	}
	for i, t := range req.Tracks {
		info, ok := served[t.Kind+"/"+strings.ToLower(t.Codec)]
		switch {
		case !ok:
			return "", nil, fmt.Errorf("track %d: no codec %.20q of kind %.20q", i, t.Codec, t.Kind)
		case t.PayloadType < 96 || t.PayloadType > 127:
			return "", nil, fmt.Errorf("track %d: payload type %d is not 96 to 127", i, t.PayloadType)
		case i > 0 && t.Kind == req.Tracks[0].Kind:
			return "", nil, fmt.Errorf("two %s tracks, one is possible", t.Kind)
		}
		c := codec{mime: info.name, payload: t.PayloadType, clockRate: info.clockRate, channels: info.channels}
		if strings.EqualFold(t.Codec, "h264") {
			c.fmtp = h264Params
		}
		codecs = append(codecs, c)
	}
	return req.Stream, codecs, nil
}

// rtpSDP describes the ingest as its receiver: where packets are to be sent.
func rtpSDP(session uint64, host netip.Addr, codecs []codec, ports []uint16) string {
	family := "IP4"
	if host.Unmap().Is6() {
		family = "IP6"
	}
	addr := host.Unmap().WithZone("").String()
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=- %d 1 IN %s %s\r\ns=tern\r\nc=IN %s %s\r\nt=0 0\r\n", session, family, addr, family, addr)
	for i, c := range codecs {
		kind, name, _ := strings.Cut(c.mime, "/")
		fmt.Fprintf(&b, "m=%s %d RTP/AVP %d\r\na=rtpmap:%d %s/%d", kind, ports[i], c.payload, c.payload, name, c.clockRate)
		if c.channels > 1 {
			fmt.Fprintf(&b, "/%d", c.channels)
		}
		b.WriteString("\r\n")
		if c.fmtp != "" {
			fmt.Fprintf(&b, "a=fmtp:%d %s\r\n", c.payload, c.fmtp)
		}
		b.WriteString("a=recvonly\r\n")
	}
	return b.String()
}
