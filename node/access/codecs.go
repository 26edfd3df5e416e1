package access

import (
	"fmt"
	"strings"

	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/media"
)

// mimeInfo is what a codec's name fixes.
type mimeInfo struct {
	name      string
	clockRate uint32
	channels  uint16
}

// served are the codecs that pass, by lower-case kind/name. Payloads are never read, so
// a codec costs a line here.
var served = map[string]mimeInfo{
	"audio/opus": {webrtc.MimeTypeOpus, 48000, 2},
	"video/vp8":  {webrtc.MimeTypeVP8, 90000, 0},
	"video/vp9":  {webrtc.MimeTypeVP9, 90000, 0},
	"video/h264": {webrtc.MimeTypeH264, 90000, 0},
	"video/av1":  {webrtc.MimeTypeAV1, 90000, 0},
}

// published picks one codec per section of a publisher's offer, the first that it
// prefers and we serve: at most one audio and one video section, all or nothing.
func (o offer) published() ([]codec, error) {
	var out []codec
	seen := map[string]bool{}
	for _, s := range o.sections {
		switch {
		case s.direction != "sendonly" && s.direction != "sendrecv":
			return nil, fmt.Errorf("%w: a publisher offers %s to be %s", errUnprocessable, s.kind, s.direction)
		case seen[s.kind]:
			return nil, fmt.Errorf("%w: more than one %s section", errUnprocessable, s.kind)
		case len(s.codecs) == 0:
			return nil, fmt.Errorf("%w: no %s codec that is served", errUnprocessable, s.kind)
		}
		seen[s.kind] = true
		out = append(out, s.codecs[0])
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: nothing to publish", errUnprocessable)
	}
	return out, nil
}

// viewed matches a stream's tracks with a viewer's offer, in the order of tracks; nil
// for a track that the viewer did not ask for. ok is false where the offer cannot be
// answered: it asks for a kind that the stream has, without a codec that fits, or for
// no kind that it has.
func (o offer) viewed(tracks []media.Track) (matched []*codec, ok bool) {
	taken := make([]bool, len(o.sections))
	found := 0
	for n, t := range tracks {
		if first := firstLayer(tracks, n); first != n {
			matched = append(matched, matched[first])
			continue
		}
		var match *codec
		wanted := false
		for i, s := range o.sections {
			if taken[i] || s.kind != t.Kind || s.direction == "sendonly" || s.direction == "inactive" {
				continue
			}
			wanted = true
			if match = bestCodec(s.codecs, t); match != nil {
				taken[i] = true
				found++
				break
			}
		}
		if wanted && match == nil {
			return nil, false
		}
		matched = append(matched, match)
	}
	return matched, found > 0
}

// firstLayer is the first of the simulcast layers that track i belongs to; i itself if it is none.
func firstLayer(tracks []media.Track, i int) int {
	for j, t := range tracks[:i] {
		if t.RID != "" && tracks[i].RID != "" && t.Kind == tracks[i].Kind {
			return j
		}
	}
	return i
}

// bestCodec returns the offered codec that decodes t, or nil.
func bestCodec(offered []codec, t media.Track) *codec {
	best, bestScore := -1, 0
	for i, c := range offered {
		if score := compatible(c, t); score > bestScore {
			best, bestScore = i, score
		}
	}
	if best < 0 {
		return nil
	}
	c := offered[best]
	return &c
}

// compatible scores an offered codec for a track: 0 cannot decode it, 2 is exact. For
// H.264 the packetization mode must agree; a decoder that names another profile is
// tried when no better is offered, since encoders and relays label profiles loosely.
func compatible(c codec, t media.Track) int {
	if !strings.EqualFold(c.mime, t.Mime) {
		return 0
	}
	has, wants := params(c.fmtp), params(t.Fmtp)
	same := func(key, absent string) bool { return value(has, key, absent) == value(wants, key, absent) }
	switch strings.ToLower(t.Mime) {
	case "video/h264":
		if !same("packetization-mode", "0") {
			return 0
		}
		if profile(has) == profile(wants) {
			return 2
		}
		return 1
	case "video/vp9":
		if !same("profile-id", "0") {
			return 0
		}
	case "video/av1":
		if !same("profile", "0") {
			return 0
		}
	}
	return 2
}

// params reads "a=1;b=2".
func params(fmtp string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(fmtp, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		out[strings.ToLower(k)] = strings.ToLower(v)
	}
	return out
}

func value(m map[string]string, key, absent string) string {
	if v, ok := m[key]; ok {
		return v
	}
	return absent
}

// profile is H.264's profile and constraints without the level.
func profile(m map[string]string) string {
	p := value(m, "profile-level-id", "420010")
	return p[:min(4, len(p))]
}

// track describes a chosen codec to media.
func (c codec) track() media.Track {
	kind, _, _ := strings.Cut(c.mime, "/")
	return media.Track{ID: kind, Kind: kind, Mime: c.mime, ClockRate: c.clockRate, Channels: c.channels, Fmtp: c.fmtp}
}

// tracksOf are the tracks of a codec that a publisher offers: one, or one for each simulcast layer.
func (o offer) tracksOf(c codec) (out []media.Track) {
	for _, s := range o.sections {
		if t := c.track(); s.kind == t.Kind {
			for _, rid := range s.rids {
				t.RID = rid
				out = append(out, t)
			}
		}
	}
	if out == nil {
		out = []media.Track{c.track()}
	}
	return out
}

// counterCodecs are what a counter-offer names: the stream's own codecs.
func counterCodecs(tracks []media.Track) []*codec {
	var out []*codec
	for i, t := range tracks {
		if first := firstLayer(tracks, i); first != i {
			out = append(out, out[first])
			continue
		}
		c := codec{mime: t.Mime, clockRate: t.ClockRate, channels: t.Channels, fmtp: t.Fmtp, payload: uint8(96 + 2*i)}
		if t.Kind == media.KindVideo {
			c.rtx = c.payload + 1
		}
		out = append(out, &c)
	}
	return out
}

// parameters are the codec, and its retransmission format, for the library.
func (c codec) parameters(feedback []webrtc.RTCPFeedback) []webrtc.RTPCodecParameters {
	out := []webrtc.RTPCodecParameters{{
		RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: c.mime, ClockRate: c.clockRate, Channels: c.channels, SDPFmtpLine: c.fmtp, RTCPFeedback: feedback},
		PayloadType: webrtc.PayloadType(c.payload),
	}}
	if c.rtx != 0 {
		out = append(out, webrtc.RTPCodecParameters{
			RTPCodecCapability: webrtc.RTPCodecCapability{
				MimeType: webrtc.MimeTypeRTX, ClockRate: c.clockRate, SDPFmtpLine: fmt.Sprintf("apt=%d", c.payload)},
			PayloadType: webrtc.PayloadType(c.rtx),
		})
	}
	return out
}

// codecType is the library's word for the kind.
func (c codec) codecType() webrtc.RTPCodecType {
	kind, _, _ := strings.Cut(c.mime, "/")
	return webrtc.NewRTPCodecType(kind)
}
