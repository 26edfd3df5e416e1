package access

import (
	"reflect"
	"strings"

	"github.com/pion/dtls/v3"
	"github.com/pion/sdp/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"
)

// The library negotiates a viewer's tracks; what it would do to write them (a chain of
// interceptors, a copy and an allocation each, a system call for every packet) is done
// here instead, with its ICE and DTLS kept. viewerTrack implements webrtc.TrackLocal.

// Bind implements webrtc.TrackLocal: what was negotiated.
func (t *viewerTrack) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	for _, p := range c.CodecParameters() {
		if !strings.EqualFold(p.MimeType, t.codec.mime) {
			continue
		}
		t.ssrc, t.payload, t.plain = uint32(c.SSRC()), uint8(p.PayloadType), c.WriteStream()
		if t.codec.rtx != 0 && c.SSRCRetransmission() != 0 {
			t.rtxSSRC, t.rtxPayload = uint32(c.SSRCRetransmission()), t.codec.rtx
		}
		for _, h := range c.HeaderExtensions() {
			// Without RTX a packet goes again under its own number, and must be the same then: AES-GCM uses that number once. Audio never
			// goes again.
			if h.URI == sdp.TransportCCURI && h.ID > 0 && h.ID < 15 && (t.rtxPayload != 0 || t.Kind() == webrtc.RTPCodecTypeAudio) {
				t.number = uint8(h.ID)
			}
		}
		return p, nil
	}
	return webrtc.RTPCodecParameters{}, webrtc.ErrUnsupportedCodec
}

// Unbind implements webrtc.TrackLocal.
func (t *viewerTrack) Unbind(webrtc.TrackLocalContext) error { return nil }

// ID implements webrtc.TrackLocal.
func (t *viewerTrack) ID() string { return t.id }

// RID implements webrtc.TrackLocal.
func (t *viewerTrack) RID() string { return "" }

// StreamID implements webrtc.TrackLocal.
func (t *viewerTrack) StreamID() string { return t.stream }

// Kind implements webrtc.TrackLocal.
func (t *viewerTrack) Kind() webrtc.RTPCodecType { return t.codec.codecType() }

// keys derives what protects RTP to this viewer from its DTLS connection, as the library
// does for itself; nil where that is not to be had, and then the library writes. Only
// one of the two ever writes RTP, so no key stream is used twice.
//
// The library does not hand the connection out, so it is taken from where it is; a test
// guards against a version that has it elsewhere.
func (v *viewer) keys() *sealer {
	if !v.answers || v.tcp.Load() {
		return nil // a counter-offer: the client may be the DTLS server; TCP has its own framing
	}
	conn := dtlsOf(v.s.pc.SCTP().Transport())
	if conn == nil {
		return nil
	}
	chosen, ok := conn.SelectedSRTPProtectionProfile()
	state, known := conn.ConnectionState()
	if !ok || !known {
		return nil
	}
	cfg := srtp.Config{Profile: srtp.ProtectionProfile(chosen)} // both are IANA's numbers
	if cfg.ExtractSessionKeysFromDTLS(&state, false) != nil {
		return nil
	}
	c, err := newSealer(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	if err != nil {
		return nil
	}
	return c
}

func dtlsOf(t *webrtc.DTLSTransport) *dtls.Conn {
	field := reflect.ValueOf(t).Elem().FieldByName("conn")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*dtls.Conn]() {
		return nil
	}
	return (*dtls.Conn)(field.UnsafePointer())
}
