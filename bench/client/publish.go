package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// Publisher is a WHIP session.
type Publisher struct {
	*session
	locals    []*webrtc.TrackLocalStaticRTP
	keyframe  chan struct{} // capacity 1: one request that waits is enough
	sent      atomic.Uint64
	bytes     atomic.Uint64
	failed    atomic.Uint64
	keyframes atomic.Uint64
	cap       atomic.Uint64
	err       atomic.Pointer[error]
}

// PublishStats is a snapshot; counters only grow.
type PublishStats struct {
	Packets, Bytes uint64 // RTP packets and payload bytes handed to the transport
	Failed         uint64 // packets that the transport refused
	Keyframes      uint64 // PLI and FIR received
	MaxBitrate     uint64 // bit/s, of the newest REMB; 0: none came
}

// Publish joins by WHIP and then sends what cfg.Source yields until Close, or until
// the source is dry. ctx bounds the join.
func Publish(ctx context.Context, cfg Config) (*Publisher, error) {
	if cfg.Source == nil {
		return nil, errors.New("publish: Config.Source is missing")
	}
	p := &Publisher{session: newSession(cfg), keyframe: make(chan struct{}, 1)}
	for _, t := range cfg.Source.Tracks() {
		local, err := webrtc.NewTrackLocalStaticRTP(t.Codec, t.Kind, "client")
		if err != nil {
			return nil, fmt.Errorf("publish: make a track: %w", err)
		}
		p.locals = append(p.locals, local)
	}
	// The same packets go out on every leg, so a session that moves sends them twice for a while.
	if err := p.begin(ctx, p.addTracks, p.outlived); err != nil {
		return nil, fmt.Errorf("publish: %w", err)
	}
	p.spawn(func() {
		if err := cfg.Source.Run(p.ctx, p.keyframe, p.send); err != nil && p.ctx.Err() == nil {
			p.err.Store(&err)
		}
	})
	return p, nil
}

// addTracks adds a sender for each track and reads its RTCP.
func (p *Publisher) addTracks(l *leg) error {
	for _, local := range p.locals {
		tr, err := l.pc.AddTransceiverFromTrack(local, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return fmt.Errorf("add a track: %w", err)
		}
		l.spawn(func() { p.listen(tr.Sender()) })
	}
	return nil
}

// outlived waits until the old node needs its leg no more: it ends the session when all who took the stream from it take it
// from the new one. One that does not know of that is left after handover.
func (p *Publisher) outlived(ctx context.Context, old, next *leg) bool {
	select {
	case <-old.down:
	case <-next.down:
		return false
	case <-ctx.Done():
	case <-time.After(handover):
	}
	return true
}

// listen finds keyframe requests; it ends when the peer is closed.
func (p *Publisher) listen(sender *webrtc.RTPSender) {
	for {
		all, _, err := sender.ReadRTCP()
		if err != nil {
			return
		}
		for _, one := range all {
			switch one := one.(type) {
			case *rtcp.ReceiverEstimatedMaximumBitrate:
				p.cap.Store(uint64(one.Bitrate))
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				p.keyframes.Add(1)
				select {
				case p.keyframe <- struct{}{}:
				default:
				}
			}
		}
	}
}

func (p *Publisher) send(track int, packet *rtp.Packet) error {
	if err := p.locals[track].WriteRTP(packet); err != nil {
		p.failed.Add(1)
		return nil // the source goes on: a real camera does not stop either
	}
	p.sent.Add(1)
	p.bytes.Add(uint64(len(packet.Payload)))
	return nil
}

// Stats returns a snapshot.
func (p *Publisher) Stats() PublishStats {
	return PublishStats{
		Packets: p.sent.Load(), Bytes: p.bytes.Load(), Failed: p.failed.Load(), Keyframes: p.keyframes.Load(), MaxBitrate: p.cap.Load(),
	}
}

// Err is why the source stopped before Close, nil if it did not or was dry.
func (p *Publisher) Err() error {
	if e := p.err.Load(); e != nil {
		return *e
	}
	return nil
}
