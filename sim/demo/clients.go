package demo

import (
	"context"
	"log/slog"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/sim/demo/clip"
)

// session is a WHIP or WHEP session.
type session interface {
	// Close ends it and says so to the node.
	Close() error
	// Done is closed when the connection has ended, by whomever.
	Done() <-chan struct{}
}

// clients opens sessions; URLs are those of WHIP and WHEP. Tests bring their own.
type clients interface {
	// Publish returns once connected; the source then plays until Close.
	Publish(ctx context.Context, url, token string, source client.Source) (session, error)
	// Watch calls packet for every RTP packet that arrives, from one goroutine per track; the packet is valid during the call.
	Watch(ctx context.Context, url, token string, packet func(kind string, p *rtp.Packet)) (session, error)
}

// realClients are WebRTC clients over loopback.
type realClients struct{}

func (realClients) Publish(ctx context.Context, url, token string, source client.Source) (session, error) {
	return client.Publish(ctx, client.Config{URL: url, Token: token, Source: source})
}

func (realClients) Watch(ctx context.Context, url, token string, packet func(string, *rtp.Packet)) (session, error) {
	return client.View(ctx, client.Config{URL: url, Token: token, OnPacket: func(kind string, p *rtp.Packet, _ time.Time) { packet(kind, p) }})
}

// testStream plays the clip as a client.Source until its context or stop ends it.
type testStream struct {
	clip *clip.Clip
	stop <-chan struct{}                    // nil: only the context
	sent func(kind string, sequence uint16) // called just before a packet leaves; nil: nobody is told
}

// Tracks implements client.Source: the order is that of trackOf.
func (t *testStream) Tracks() []client.Track {
	return []client.Track{
		{Kind: clip.Video, Codec: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}},
		{Kind: clip.Audio, Codec: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}},
	}
}

func trackOf(kind string) int {
	if kind == clip.Video {
		return 0
	}
	return 1
}

// Run implements client.Source.
func (t *testStream) Run(ctx context.Context, keyframe <-chan struct{}, send func(int, *rtp.Packet) error) error {
	player := clip.NewPlayer(t.clip)
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var batch []clip.Packet
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.stop:
			return nil
		case <-keyframe:
			player.Keyframe(time.Since(start))
			continue
		case <-timer.C:
		}
		batch = player.Due(time.Since(start), batch[:0])
		for _, packet := range batch {
			if t.sent != nil {
				t.sent(packet.Kind, packet.RTP.SequenceNumber)
			}
			if err := send(trackOf(packet.Kind), packet.RTP); err != nil {
				return err
			}
		}
		timer.Reset(player.Next() - time.Since(start))
	}
}

// closing ends a session and logs what cannot be helped.
func closing(log *slog.Logger, what string, s session) {
	if err := s.Close(); err != nil {
		log.Debug("session did not end cleanly", "session", what, "err", err)
	}
}
