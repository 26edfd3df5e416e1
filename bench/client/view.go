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
	videos []video // that have arrived
	came   map[string]*passage
}

// video is a video track of a leg.
type video struct {
	leg  *leg
	ssrc uint32
}

// ViewStats is a snapshot by kind ("audio", "video").
type ViewStats struct {
	Packets, Bytes map[string]uint64
	FirstPacket    map[string]time.Time // arrival of the first packet
}

// View joins by WHEP and gives every packet to cfg.OnPacket until Close, or until the
// server ends the session. ctx bounds the join.
func View(ctx context.Context, cfg Config) (*Viewer, error) {
	v := &Viewer{session: newSession(cfg), came: map[string]*passage{}, stats: ViewStats{
		Packets: map[string]uint64{}, Bytes: map[string]uint64{}, FirstPacket: map[string]time.Time{}}}
	if err := v.begin(ctx, v.receive, v.flowing); err != nil {
		return nil, fmt.Errorf("view: %w", err)
	}
	return v, nil
}

// receive asks for one track of each kind.
func (v *Viewer) receive(l *leg) error {
	l.pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) { v.arrived(l, t, r) })
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio} {
		if _, err := l.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			return fmt.Errorf("add a transceiver: %w", err)
		}
	}
	return nil
}

// flowing waits until all that came by the old leg comes by the new one, the old one has brought what lies before that, and a
// little longer: what is on its way to either still counts.
func (v *Viewer) flowing(ctx context.Context, old, next *leg) bool {
	limit, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for !v.flows(next.number) {
		select {
		case <-poll.C:
		case <-next.down:
			return false
		case <-old.down:
			return true
		case <-limit.Done():
			return true
		}
	}
	select {
	case <-time.After(settle):
	case <-next.down:
		return false
	case <-ctx.Done():
	}
	return true
}

// flows says whether every kind of track that ever came has come by this leg, with nothing missing before it.
func (v *Viewer) flows(leg uint32) bool {
	v.counts.Lock()
	defer v.counts.Unlock()
	for _, p := range v.came {
		if p.newest < leg || p.behind {
			return false
		}
	}
	return true
}

// arrived begins to read a track, and its RTCP, which only reading makes the library
// process.
func (v *Viewer) arrived(l *leg, t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
	l.spawn(func() { v.read(l, t) })
	l.spawn(func() {
		for {
			if _, _, err := r.ReadRTCP(); err != nil {
				return
			}
		}
	})
}

// read gives a track's packets away until the peer is closed.
func (v *Viewer) read(l *leg, t *webrtc.TrackRemote) {
	kind := t.Kind().String()
	if t.Kind() == webrtc.RTPCodecTypeVideo {
		v.counts.Lock()
		v.videos = append(v.videos, video{l, uint32(t.SSRC())})
		v.counts.Unlock()
	}
	lost := nack.New()
	l.spawn(func() { lost.Run(l.ctx.Done(), func(seqs []uint16) { ask(l, t, seqs) }) })
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
		if !v.count(kind, l.number, &p, t.Codec().ClockRate, at) {
			continue
		}
		if v.cfg.OnPacket != nil {
			v.cfg.OnPacket(kind, &p, at)
		}
	}
}

// ask sends a NACK; audio does without.
func ask(l *leg, t *webrtc.TrackRemote, lost []uint16) {
	if t.Kind() == webrtc.RTPCodecTypeVideo {
		_ = l.pc.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: uint32(t.SSRC()), Nacks: rtcp.NackPairsFromSequenceNumbers(lost)}})
	}
}

// count notes a packet; false if it has come by the other leg already.
func (v *Viewer) count(kind string, leg uint32, p *rtp.Packet, rate uint32, at time.Time) bool {
	v.counts.Lock()
	defer v.counts.Unlock()
	if v.came[kind] == nil {
		v.came[kind] = &passage{newest: leg}
	}
	if !v.came[kind].take(leg, p.SequenceNumber, p.Timestamp, rate) {
		return false
	}
	if v.stats.Packets[kind] == 0 {
		v.stats.FirstPacket[kind] = at
	}
	v.stats.Packets[kind]++
	v.stats.Bytes[kind] += uint64(len(p.Payload))
	return true
}

// RequestKeyframe sends a PLI for every video track of the leg in use that has arrived.
func (v *Viewer) RequestKeyframe() error {
	l := v.current()
	v.counts.Lock()
	var all []rtcp.Packet
	for _, t := range v.videos {
		if t.leg == l {
			all = append(all, &rtcp.PictureLossIndication{MediaSSRC: t.ssrc})
		}
	}
	v.counts.Unlock()
	if len(all) == 0 {
		return nil
	}
	return l.pc.WriteRTCP(all)
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
