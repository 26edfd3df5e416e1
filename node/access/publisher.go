package access

import (
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/media/nack"
)

// maxArrivals bounds how often tracks of one publisher may appear, each time under another SSRC: every time costs up
// to three goroutines until its end.
const maxArrivals = 32

// publisher moves a WebRTC client's packets into media.
type publisher struct {
	s      *session
	tracks []media.Track
	bytes  atomic.Uint64 // of RTP that arrived

	mu    sync.Mutex // guards the rest
	pub   publication
	ssrcs map[int]uint32 // of the tracks that have arrived
	came  int            // tracks that have arrived, those that came anew too
	early []func()       // readers of tracks that arrived before the stream was announced
}

// publish announces the session's stream; the one ends with the other.
func (s *session) publish(tracks []media.Track, keyframe func(track int)) (publication, error) {
	pub, err := s.a.hub.publish(s.key(), tracks, keyframe)
	if err != nil {
		return nil, err
	}
	s.atEnd(pub.Close)
	s.a.spawn(func() { // ends with the publication, which atEnd closes
		<-pub.Done()
		s.end("stream_" + pub.Reason())
	})
	return pub, nil
}

// announce publishes the stream, now that its client has been heard, and begins to read what arrives. What media accepted when
// it was asked and refuses now ends the session.
func (p *publisher) announce() {
	pub, err := p.s.publish(p.tracks, p.keyframe)
	if err != nil {
		p.s.end(hubProblem(err).reason)
		return
	}
	p.s.a.spawn(func() { p.ask(pub) })
	p.mu.Lock()
	p.pub = pub
	early := p.early
	p.early = nil
	p.mu.Unlock()
	for _, read := range early {
		p.s.a.spawn(read)
	}
}

// arrived is the library's OnTrack: a track's first packet is here.
func (p *publisher) arrived(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
	index := -1
	for i, known := range p.tracks {
		if known.Kind == t.Kind().String() && known.RID == t.RID() {
			index = i
		}
	}
	if index < 0 {
		return
	}
	read := func() { p.read(index, t) }
	p.mu.Lock()
	if p.came++; p.came > maxArrivals {
		p.mu.Unlock()
		p.s.end("too_many_sources")
		return
	}
	p.ssrcs[index] = uint32(t.SSRC())
	ready := p.pub != nil
	if !ready {
		p.early = append(p.early, read)
	}
	p.mu.Unlock()
	if ready {
		p.s.a.spawn(read)
	}
	p.s.a.spawn(func() { drainRTCP(r, t.RID()) })
	if t.Kind() == webrtc.RTPCodecTypeVideo {
		p.keyframe(index) // what viewers asked for before there was anybody to ask
	}
}

// read is the packet loop of one track; it ends when the peer is closed.
func (p *publisher) read(index int, t *webrtc.TrackRemote) {
	p.mu.Lock()
	pub := p.pub
	p.mu.Unlock()
	counts := &p.s.a.counts
	buf := make([]byte, packetBuffer)
	began := false
	missed := p.repair(t)
	defer missed.stop()
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			return
		}
		missed.arrived(buf[:n])
		if n > maxPacket {
			counts.size.Add(1)
			continue
		}
		p.bytes.Add(uint64(n))
		if !p.s.mayPublish(n) {
			continue
		}
		if counts.in.Add(1); !began {
			began = true
			p.s.trace.end("")
		}
		pub.Write(index, buf[:n])
	}
}

// drainRTCP reads what the publisher reports; reading is what makes the library
// process it.
func drainRTCP(r *webrtc.RTPReceiver, rid string) {
	buf := make([]byte, packetBuffer)
	for {
		var err error
		if rid == "" {
			_, _, err = r.Read(buf)
		} else {
			_, _, err = r.ReadSimulcast(buf, rid)
		}
		if err != nil {
			return
		}
	}
}

// repairs asks the publisher for what is missing of one track; the zero value asks for nothing.
type repairs struct {
	requests *nack.Requester
	done     chan struct{}
}

// repair begins to ask for lost packets of a track for which NACK is agreed: never of audio, which has its own concealment, and
// of video if the publisher offers it.
func (p *publisher) repair(t *webrtc.TrackRemote) (r repairs) {
	if !slices.Contains(t.Codec().RTCPFeedback, webrtc.RTCPFeedback{Type: "nack"}) {
		return r
	}
	r = repairs{nack.New(), make(chan struct{})}
	p.s.a.spawn(func() {
		r.requests.Run(r.done, func(lost []uint16) {
			pairs := rtcp.NackPairsFromSequenceNumbers(lost)
			if p.s.pc.WriteRTCP([]rtcp.Packet{&rtcp.TransportLayerNack{MediaSSRC: uint32(t.SSRC()), Nacks: pairs}}) == nil {
				p.s.a.counts.nacked.Add(uint64(len(lost)))
			}
		})
	})
	return r
}

// arrived takes a packet as the library gives it, out of RTX too: under its own sequence number.
func (r repairs) arrived(packet []byte) {
	if r.requests != nil && len(packet) >= 4 {
		r.requests.Arrived(time.Now(), binary.BigEndian.Uint16(packet[2:]))
	}
}

func (r repairs) stop() {
	if r.done != nil {
		close(r.done)
	}
}

// keyframe asks the publisher for a keyframe of a track. Media calls it from a
// goroutine of its own, coalesced over all viewers and at most twice a second.
func (p *publisher) keyframe(index int) {
	p.mu.Lock()
	ssrc, ok := p.ssrcs[index]
	p.mu.Unlock()
	if !ok || !p.s.connected.Load() {
		return // asked when the track arrives
	}
	if p.s.pc.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: ssrc}}) == nil {
		p.s.a.counts.sent.Add(1)
	}
}
