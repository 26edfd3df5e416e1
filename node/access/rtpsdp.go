package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ternmesh/tern/media"
)

// rtpRequest is the optional body of an RTP ingest.
type rtpRequest struct {
	rtpBoth
	Tracks []rtpTrack `json:"tracks"`
	Source string     `json:"source"` // the sender's address; "": with SRTP any, else who asks

	pin    netip.Addr
	codecs []codec
}

// rtpBoth is what both directions name.
type rtpBoth struct {
	Stream string `json:"stream"` // in: the name to publish under, "" for any; out: the stream, "" for the one live longest
	SRTP   string `json:"srtp"`   // suite; "": plain

	suite suite
}

// check reads what was decoded.
func (b *rtpBoth) check() (err error) {
	if b.Stream != "" && !validStream(b.Stream) {
		return errors.New("stream is not 1 to 64 of A-Z a-z 0-9 _ -")
	}
	if b.SRTP != "" {
		b.suite, err = suiteOf(b.SRTP)
	}
	return err
}

// addressOf reads an address that a body may name.
func addressOf(key, text string) (addr netip.Addr, err error) {
	if text == "" {
		return addr, nil
	}
	if addr, err = netip.ParseAddr(text); err != nil {
		return addr, fmt.Errorf("%s: %.60q is not an IP address", key, text)
	}
	return addr.Unmap().WithZone(""), nil
}

type rtpTrack struct {
	Kind        string `json:"kind"`         // audio or video
	Codec       string `json:"codec"`        // opus, VP8, VP9, H264, AV1; any case
	PayloadType uint8  `json:"payload_type"` // 96 to 127
}

// rtpDefault is what a client gets that asks for nothing: ffmpeg's own payload types
// would be 96 for the first and 97 for the second, 111 is what browsers use for Opus.
var rtpDefault = []rtpTrack{{media.KindVideo, "VP8", 96}, {media.KindAudio, "opus", 111}}

// rtpPayload is the payload type of a kind where we choose.
func rtpPayload(kind string) uint8 {
	i := slices.IndexFunc(rtpDefault, func(t rtpTrack) bool { return t.Kind == kind })
	return rtpDefault[max(i, 0)].PayloadType
}

// h264Params name what encoders commonly send: several NAL units to a packet,
// constrained baseline. The payload is not looked at, so this is a label.
const h264Params = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"

// decodeRTP reads a body strictly; an empty one leaves what is there.
func decodeRTP(body []byte, into any) error {
	if len(body) == 0 {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

// parseRTP reads the body of an ingest; an empty one asks for the default. At most one
// track of a kind, as everywhere.
func parseRTP(body []byte) (req rtpRequest, err error) {
	req.Tracks = slices.Clone(rtpDefault) // decoding writes into it
	if err := decodeRTP(body, &req); err != nil {
		return req, err
	}
	if err := req.check(); err != nil {
		return req, err
	}
	if req.pin, err = addressOf("source", req.Source); err != nil {
		return req, err
	}
	if len(req.Tracks) == 0 || len(req.Tracks) > 2 {
		return req, fmt.Errorf("%d tracks, 1 or 2 are possible", len(req.Tracks))
	}
	for i, t := range req.Tracks {
		info, ok := served[t.Kind+"/"+strings.ToLower(t.Codec)]
		switch {
		case !ok:
			return req, fmt.Errorf("track %d: no codec %.20q of kind %.20q", i, t.Codec, t.Kind)
		case t.PayloadType < 96 || t.PayloadType > 127:
			return req, fmt.Errorf("track %d: payload type %d is not 96 to 127", i, t.PayloadType)
		case i > 0 && t.Kind == req.Tracks[0].Kind:
			return req, fmt.Errorf("two %s tracks, one is possible", t.Kind)
		}
		c := codec{mime: info.name, payload: t.PayloadType, clockRate: info.clockRate, channels: info.channels}
		if strings.EqualFold(t.Codec, "h264") {
			c.fmtp = h264Params
		}
		req.codecs = append(req.codecs, c)
	}
	return req, nil
}

// rtpOutRequest is the optional body of an RTP egress.
type rtpOutRequest struct {
	rtpBoth
	To    string            `json:"to"`    // the address that asks, which is also the default
	Ports map[string]uint16 `json:"ports"` // by kind; even, RTCP goes one above

	to netip.Addr
}

// rtpOutPorts are where packets go by default.
var rtpOutPorts = map[string]uint16{media.KindVideo: 5004, media.KindAudio: 5006}

// parseRTPOut reads the body of an egress.
func parseRTPOut(body []byte) (req rtpOutRequest, err error) {
	if err := decodeRTP(body, &req); err != nil {
		return req, err
	}
	if err := req.check(); err != nil {
		return req, err
	}
	if req.to, err = addressOf("to", req.To); err != nil {
		return req, err
	}
	for kind, port := range req.Ports {
		switch {
		case rtpOutPorts[kind] == 0:
			return req, fmt.Errorf("ports: %.20q is neither video nor audio", kind)
		case port < 1024 || port%2 != 0:
			return req, fmt.Errorf("ports: %d for %s is not an even port from 1024 on", port, kind)
		}
	}
	merged := map[string]uint16{}
	for kind, port := range rtpOutPorts {
		if merged[kind] = port; req.Ports[kind] != 0 {
			merged[kind] = req.Ports[kind]
		}
	}
	if req.Ports = merged; merged[media.KindVideo] == merged[media.KindAudio] {
		return req, fmt.Errorf("ports: audio and video cannot share %d", merged[media.KindVideo])
	}
	return req, nil
}

// sdpOf describes plain RTP: an ingest as its receiver (recvonly), an egress as its
// sender (sendonly). Host and ports are where packets go.
type sdpOf struct {
	session   uint64
	host      netip.Addr
	direction string
	media     []sdpMedia
}

type sdpMedia struct {
	codec  codec
	port   uint16
	crypto string // a=crypto, "" for plain RTP
	ssrc   uint32 // of what we send; some receivers need it beside the key. 0: none
}

func (d sdpOf) text() string {
	family := "IP4"
	if d.host.Unmap().Is6() {
		family = "IP6"
	}
	addr := d.host.Unmap().WithZone("").String()
	var b strings.Builder
	fmt.Fprintf(&b, "v=0\r\no=- %d 1 IN %s %s\r\ns=tern\r\nc=IN %s %s\r\nt=0 0\r\n", d.session, family, addr, family, addr)
	for _, m := range d.media {
		m.append(&b, d.direction)
	}
	return b.String()
}

func (m sdpMedia) append(b *strings.Builder, direction string) {
	c := m.codec
	kind, name, _ := strings.Cut(c.mime, "/")
	profile := "RTP/AVP"
	if m.crypto != "" {
		profile = "RTP/SAVP"
	}
	fmt.Fprintf(b, "m=%s %d %s %d\r\na=rtpmap:%d %s/%d", kind, m.port, profile, c.payload, c.payload, name, c.clockRate)
	if c.channels > 1 {
		fmt.Fprintf(b, "/%d", c.channels)
	}
	b.WriteString("\r\n")
	if c.fmtp != "" {
		fmt.Fprintf(b, "a=fmtp:%d %s\r\n", c.payload, c.fmtp)
	}
	if m.crypto != "" {
		b.WriteString("a=crypto:" + m.crypto + "\r\n")
	}
	if m.ssrc != 0 {
		fmt.Fprintf(b, "a=ssrc:%d cname:tern\r\n", m.ssrc)
	}
	b.WriteString("a=" + direction + "\r\n")
}
