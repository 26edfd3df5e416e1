package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/media/nack"
)

// Viewer is a WHEP session.
type Viewer struct {
	*session

	counts sync.Mutex // guards the rest
	stats  ViewStats
	videos []uint32 // SSRCs of video tracks
}

// ViewStats is a snapshot by kind ("audio", "video").
type ViewStats struct {
	Packets, Bytes map[string]uint64
	FirstPacket    map[string]time.Time // arrival of the first packet
}

// View joins by WHEP and gives every packet to cfg.OnPacket until Close, or until the
// server ends the session. ctx bounds the join.
func View(ctx context.Context, cfg Config) (*Viewer, error) {
	s, err := newSession(cfg)
	if err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	v := &Viewer{session: s, stats: ViewStats{
		Packets: map[string]uint64{}, Bytes: map[string]uint64{}, FirstPacket: map[string]time.Time{}}}
	s.pc.OnTrack(v.arrived)
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err = s.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			break
		}
	}
	if err == nil {
		err = s.join(ctx)
	}
	if err != nil {
		_ = v.Close() // the reason is the error before
		return nil, fmt.Errorf("view: %w", err)
	}
	return v, nil
}

// arrived begins to read a track, and its RTCP, which only reading makes the library
// process.
func (v *Viewer) arrived(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
	v.spawn(func() { v.read(t) })
	v.spawn(func() {
		for {
			if _, _, err := r.ReadRTCP(); err != nil {
				return
			}
		}
	})
}

// read gives a track's packets away until the peer is closed.
func (v *Viewer) read(t *webrtc.TrackRemote) {
	kind := t.Kind().String()
	if t.Kind() == webrtc.RTPCodecTypeVideo {
		v.counts.Lock()
		v.videos = append(v.videos, uint32(t.SSRC()))
		v.counts.Unlock()
	}
	lost := nack.New()
	v.spawn(func() { lost.Run(v.ctx.Done(), func(seqs []uint16) { v.ask(t, seqs) }) })
	buf := make([]byte, 1600)
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			return
		}
		at := time.Now()
		var p rtp.Packet
		if p.Unmarshal(buf[:n]) != nil {
			continue
		}
		lost.Arrived(at, p.SequenceNumber)
		v.count(kind, len(p.Payload), at)
		if v.cfg.OnPacket != nil {
			v.cfg.OnPacket(kind, &p, at)
		}
	}
}

// ask sends a NACK; audio does without.
func (v *Viewer) ask(t *webrtc.TrackRemote, lost []uint16) {
	if t.Kind() == webrtc.RTPCodecTypeVideo {
		_ = v.pc.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: uint32(t.SSRC()), Nacks: rtcp.NackPairsFromSequenceNumbers(lost)}})
	}
}

func (v *Viewer) count(kind string, size int, at time.Time) {
	v.counts.Lock()
	defer v.counts.Unlock()
	if v.stats.Packets[kind] == 0 {
		v.stats.FirstPacket[kind] = at
	}
	v.stats.Packets[kind]++
	v.stats.Bytes[kind] += uint64(size)
}

// RequestKeyframe sends a PLI for every video track that has arrived.
func (v *Viewer) RequestKeyframe() error {
	v.counts.Lock()
	var all []rtcp.Packet
	for _, ssrc := range v.videos {
		all = append(all, &rtcp.PictureLossIndication{MediaSSRC: ssrc})
	}
	v.counts.Unlock()
	if len(all) == 0 {
		return nil
	}
	return v.pc.WriteRTCP(all)
}

// Stats returns a snapshot.
func (v *Viewer) Stats() ViewStats {
	v.counts.Lock()
	defer v.counts.Unlock()
	out := ViewStats{Packets: map[string]uint64{}, Bytes: map[string]uint64{}, FirstPacket: map[string]time.Time{}}
	for kind := range v.stats.Packets {
		out.Packets[kind], out.Bytes[kind], out.FirstPacket[kind] = v.stats.Packets[kind], v.stats.Bytes[kind], v.stats.FirstPacket[kind]
	}
	return out
}
