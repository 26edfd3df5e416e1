package client

import (
	"context"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// Track is one track of a Source.
type Track struct {
	Kind  string // "audio" or "video"
	Codec webrtc.RTPCodecCapability
}

// Codecs of the sources here.
var (
	vp8  = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	opus = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}
)

// Source yields the packets of a publisher.
type Source interface {
	// Tracks are fixed, at most one of a kind.
	Tracks() []Track
	// Run calls send at each packet's time until ctx ends or the source is dry. SSRC
	// and payload type are filled in by send. A receive from keyframe means that a
	// viewer needs a keyframe. A source may be run once at a time.
	Run(ctx context.Context, keyframe <-chan struct{}, send func(track int, p *rtp.Packet) error) error
}
