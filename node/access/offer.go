package access

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// Two ways in which an SDP is refused: it cannot be read (400), or it can be read but
// not served (422).
var (
	errBadSDP        = errors.New("bad SDP")
	errUnprocessable = errors.New("SDP cannot be served")
)

// offer is what a client's SDP says, as far as this package decides by it.
type offer struct {
	desc     *sdp.SessionDescription // cleaned: see clean
	sections []section
	ufrag    string // of the first section
}

// section is one media section that is not rejected.
type section struct {
	mid       string
	kind      string // audio or video
	direction string // sendrecv, sendonly, recvonly, inactive
	codecs    []codec
	rids      []string // of the simulcast layers that the client will send; nil: one encoding
}

// codec is one payload type of a section. RTX is 0 where the client offers none.
type codec struct {
	mime      string // as media.Track.Mime
	payload   uint8
	rtx       uint8
	clockRate uint32
	channels  uint16
	fmtp      string
}

// parseOffer reads an offer (or an answer to a counter-offer) and refuses what no
// session could come of. It is total: any bytes give an offer or one of two errors.
func parseOffer(body []byte) (offer, error) {
	var o offer
	desc := new(sdp.SessionDescription)
	if err := desc.Unmarshal(body); err != nil {
		return o, fmt.Errorf("%w: %w", errBadSDP, err)
	}
	if len(desc.MediaDescriptions) == 0 {
		return o, fmt.Errorf("%w: no media", errBadSDP)
	}
	if err := bounded(desc); err != nil {
		return o, err
	}
	o.desc = desc
	live := 0
	for _, m := range desc.MediaDescriptions {
		_, bundleOnly := m.Attribute("bundle-only")
		if m.MediaName.Port.Value == 0 && !bundleOnly {
			continue // rejected by the client itself
		}
		live++
		s, err := o.section(m)
		if err != nil {
			return o, err
		}
		o.sections = append(o.sections, s)
	}
	if live > 1 && !bundled(desc) {
		return o, fmt.Errorf("%w: %d media sections without BUNDLE", errUnprocessable, live)
	}
	o.clean()
	return o, nil
}

// maxReadings bounds the product of payload types and lines, over all media sections. A browser's camera and microphone have 15000.
const maxReadings = 1 << 16

// bounded refuses what would cost the library seconds and hundreds of megabytes: for every payload type named it reads all of
// the section's lines again, as often as one is repeated, and in sections that nobody wants too.
func bounded(d *sdp.SessionDescription) error {
	readings := 0
	for _, m := range d.MediaDescriptions {
		seen := map[string]bool{}
		for _, f := range m.MediaName.Formats {
			if seen[f] {
				return fmt.Errorf("%w: payload type %.20q is named twice in one section", errBadSDP, f)
			}
			seen[f] = true
		}
		if readings += len(seen) * (1 + len(m.Attributes)); readings > maxReadings {
			return fmt.Errorf("%w: more than %d lines to read, counted once for each payload type of their section", errUnprocessable, maxReadings)
		}
	}
	return nil
}

// section reads one media section.
func (o *offer) section(m *sdp.MediaDescription) (section, error) {
	s := section{kind: m.MediaName.Media, direction: "sendrecv"}
	if s.kind != "audio" && s.kind != "video" {
		return s, fmt.Errorf("%w: media of kind %.20q", errUnprocessable, s.kind)
	}
	s.mid, _ = m.Attribute("mid")
	for _, d := range []string{"sendonly", "recvonly", "inactive"} {
		if _, ok := m.Attribute(d); ok {
			s.direction = d
		}
	}
	ufrag, okUfrag := either(o.desc, m, "ice-ufrag")
	pwd, okPwd := either(o.desc, m, "ice-pwd")
	_, okPrint := either(o.desc, m, "fingerprint")
	switch {
	case !okUfrag || !okPwd || !iceChars(ufrag, 4) || !iceChars(pwd, 22):
		return s, fmt.Errorf("%w: ICE credentials", errBadSDP)
	case !okPrint:
		return s, fmt.Errorf("%w: fingerprint", errBadSDP)
	}
	if o.ufrag == "" {
		o.ufrag = ufrag
	}
	s.codecs = codecsOf(m)
	if s.kind == "video" && (s.direction == "sendonly" || s.direction == "sendrecv") {
		s.rids = layersOf(m)
	}
	return s, nil
}

// passive says whether the client insists on being the DTLS server.
func (o offer) passive() bool {
	for _, m := range o.desc.MediaDescriptions {
		if setup, _ := either(o.desc, m, "setup"); setup == "passive" {
			return true
		}
	}
	return false
}

// either returns an attribute of the section, or of the session.
func either(d *sdp.SessionDescription, m *sdp.MediaDescription, key string) (string, bool) {
	if v, ok := m.Attribute(key); ok {
		return v, true
	}
	return d.Attribute(key)
}

func bundled(d *sdp.SessionDescription) bool {
	for _, a := range d.Attributes {
		if a.Key == "group" && strings.HasPrefix(a.Value, "BUNDLE") {
			return true
		}
	}
	return false
}

// clean takes out what must not reach the library: simulcast that is not served (the
// client then sends one encoding), and candidates that cannot be used.
func (o *offer) clean() {
	candidates := 0
	for _, m := range o.desc.MediaDescriptions {
		layered := o.layered(m)
		m.Attributes = slices.DeleteFunc(m.Attributes, func(a sdp.Attribute) bool {
			switch a.Key {
			case "simulcast", "rid":
				return !layered
			case "candidate":
				candidates++
				return candidates > maxCandidates || !usableCandidate(a.Value)
			}
			return false
		})
	}
}

func (o *offer) layered(m *sdp.MediaDescription) bool {
	mid, _ := m.Attribute("mid")
	return slices.ContainsFunc(o.sections, func(s section) bool { return s.mid == mid && s.rids != nil })
}

// layersOf reads the rids of a section that offers to send simulcast (RFC 8853): two to maxLayers, without alternatives or
// another direction, each with its a=rid line, and with the extensions that name them in packets. Anything else is taken
// for one encoding.
func layersOf(m *sdp.MediaDescription) []string {
	list, _ := m.Attribute("simulcast")
	send, ok := strings.CutPrefix(strings.TrimSpace(list), "send ")
	rids := strings.Split(send, ";")
	if _, named := m.Attribute("mid"); !named || !ok || len(rids) < 2 || len(rids) > maxLayers || !extended(m, sdp.SDESMidURI) || !extended(m, sdp.SDESRTPStreamIDURI) {
		return nil
	}
	for i, rid := range rids {
		rid = strings.TrimPrefix(rid, "~") // paused at first
		if !validRID(rid) || slices.Contains(rids[:i], rid) || !slices.ContainsFunc(m.Attributes, func(a sdp.Attribute) bool {
			return a.Key == "rid" && (a.Value == rid+" send" || strings.HasPrefix(a.Value, rid+" send "))
		}) {
			return nil
		}
		rids[i] = rid
	}
	return rids
}

// validRID: letters and digits, of which as many as fit a header extension of one byte's length.
func validRID(rid string) bool {
	return rid != "" && len(rid) <= 16 && !strings.ContainsFunc(rid, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

// extended says whether a section offers a header extension.
func extended(m *sdp.MediaDescription, uri string) bool {
	return slices.ContainsFunc(m.Attributes, func(a sdp.Attribute) bool {
		_, named, _ := strings.Cut(a.Value, " ")
		return a.Key == "extmap" && (named == uri || strings.HasPrefix(named, uri+" "))
	})
}

// text is the cleaned SDP.
func (o offer) text() (string, error) {
	b, err := o.desc.Marshal()
	return string(b), err
}

// withCredentials is the cleaned SDP as a new ICE generation: other credentials, and
// the candidates of f.
func (o offer) withCredentials(f frag) (string, error) {
	text, err := o.text()
	if err != nil {
		return "", err
	}
	desc := new(sdp.SessionDescription)
	if err := desc.UnmarshalString(text); err != nil {
		return "", err
	}
	desc.Attributes = renewed(desc.Attributes, f)
	for i, m := range desc.MediaDescriptions {
		m.Attributes = renewed(m.Attributes, f)
		if i == 0 { // bundled: one transport
			for _, c := range f.candidates {
				m.Attributes = append(m.Attributes, sdp.Attribute{Key: "candidate", Value: c.line})
			}
		}
	}
	b, err := desc.Marshal()
	return string(b), err
}

// renewed replaces the credentials and drops the old candidates.
func renewed(attrs []sdp.Attribute, f frag) []sdp.Attribute {
	var out []sdp.Attribute
	for _, a := range attrs {
		switch a.Key {
		case "candidate", "end-of-candidates":
			continue
		case "ice-ufrag":
			a.Value = f.ufrag
		case "ice-pwd":
			a.Value = f.pwd
		}
		out = append(out, a)
	}
	return out
}

// named gives the rejected sections of an answer the mid that the offer gave them. The
// library leaves it out, and clients of the same library then cannot make another offer.
func (o offer) named(answer string) string {
	desc := new(sdp.SessionDescription)
	if desc.UnmarshalString(answer) != nil || len(desc.MediaDescriptions) != len(o.desc.MediaDescriptions) {
		return answer
	}
	changed := false
	for i, m := range desc.MediaDescriptions {
		mid, offered := o.desc.MediaDescriptions[i].Attribute("mid")
		if _, has := m.Attribute("mid"); !has && offered {
			m.Attributes = append(m.Attributes, sdp.Attribute{Key: "mid", Value: mid})
			changed = true
		}
	}
	if b, err := desc.Marshal(); changed && err == nil {
		return string(b)
	}
	return answer
}

// codecsOf reads rtpmap and fmtp in the order of preference of the m= line.
func codecsOf(m *sdp.MediaDescription) []codec {
	maps, fmtps, rtx := attributes(m)
	var out []codec
	for _, format := range m.MediaName.Formats {
		payload, err := strconv.ParseUint(format, 10, 7)
		if err != nil {
			continue
		}
		if c, ok := codecOf(m.MediaName.Media, uint8(payload), maps[format], fmtps[format]); ok {
			c.rtx = rtx[format]
			out = append(out, c)
		}
	}
	return out
}

// attributes collects rtpmap and fmtp by payload type, and rtx by the type it repairs.
func attributes(m *sdp.MediaDescription) (maps, fmtps map[string]string, rtx map[string]uint8) {
	maps, fmtps, rtx = map[string]string{}, map[string]string{}, map[string]uint8{}
	for _, a := range m.Attributes {
		payload, rest, _ := strings.Cut(a.Value, " ")
		switch a.Key {
		case "rtpmap":
			maps[payload] = strings.TrimSpace(rest)
		case "fmtp":
			fmtps[payload] = strings.TrimSpace(rest)
		}
	}
	for payload, name := range maps {
		n, err := strconv.ParseUint(payload, 10, 7)
		if err == nil && strings.HasPrefix(strings.ToLower(name), "rtx/") {
			rtx[params(fmtps[payload])["apt"]] = uint8(n)
		}
	}
	return maps, fmtps, rtx
}

// codecOf reads one rtpmap, "VP8/90000" or "opus/48000/2"; false for what is not served.
func codecOf(kind string, payload uint8, rtpmap, fmtp string) (codec, bool) {
	parts := strings.Split(rtpmap, "/")
	if len(parts) < 2 || len(fmtp) > 512 {
		return codec{}, false
	}
	mime, ok := served[kind+"/"+strings.ToLower(parts[0])]
	rate, err := strconv.ParseUint(parts[1], 10, 32)
	if !ok || err != nil || uint32(rate) != mime.clockRate {
		return codec{}, false
	}
	return codec{mime: mime.name, payload: payload, clockRate: mime.clockRate, channels: mime.channels, fmtp: fmtp}, true
}
