package access

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// viewerQueue is how many packets wait for one viewer: a second of 5 Mbit/s. When it
// is full the newest is dropped: the decoder asks for what it misses.
const viewerQueue = 512

// packet is a queued copy; media's own is valid during Write only.
type packet struct {
	track int
	size  int
	data  [maxPacket]byte
}

var packets = sync.Pool{New: func() any { return new(packet) }}

// viewer is media's Sink for one WHEP session: a bounded queue, and one goroutine that
// writes to the peer. So neither the network nor the library can hold up the stream.
type viewer struct {
	s      *session
	queue  chan *packet
	cancel context.CancelFunc
	ctx    context.Context // ends with the session

	sub    subscription
	tracks []*webrtc.TrackLocalStaticRTP  // by track, nil where the viewer wants none
	rates  []uint32                       // clock rates by track
	joined []splice                       // by track, owned by the writer
	to     atomic.Pointer[netip.AddrPort] // where packets go; nil until ICE has chosen
}

func newViewer(s *session) *viewer {
	ctx, cancel := context.WithCancel(context.Background())
	v := &viewer{s: s, queue: make(chan *packet, viewerQueue), ctx: ctx, cancel: cancel}
	s.atEnd(cancel)
	return v
}

// Write implements media.Sink.
func (v *viewer) Write(track int, data []byte) {
	counts := &v.s.a.counts
	switch {
	case !v.s.connected.Load():
		counts.early.Add(1)
		return
	case len(data) > maxPacket:
		counts.size.Add(1)
		return
	case track >= len(v.tracks) || v.tracks[track] == nil:
		return // not asked for
	}
	p := packets.Get().(*packet)
	p.track, p.size = track, copy(p.data[:], data)
	select {
	case v.queue <- p:
	default:
		packets.Put(p)
		counts.queue.Add(1)
	}
}

// Ended implements media.Sink.
func (v *viewer) Ended(reason string) { v.s.end("stream_" + reason) }

// connected begins to write and asks for the first keyframes.
func (v *viewer) connected() {
	v.s.a.spawn(v.write)
	for i, t := range v.tracks {
		if t != nil && t.Kind() == webrtc.RTPCodecTypeVideo {
			v.askKeyframe(i)
		}
	}
}

func (v *viewer) askKeyframe(track int) {
	v.s.a.counts.asked.Add(1)
	v.sub.RequestKeyframe(track)
}

// write is the viewer's one writer. The packets of a frame reach the queue one after the other, so it steps aside once
// before it looks how many there are: they then leave together.
func (v *viewer) write() {
	for {
		select {
		case <-v.ctx.Done():
			return
		case p := <-v.queue:
			runtime.Gosched()
			v.burst(p)
		}
	}
}

// burst sends a packet and those that wait behind it.
func (v *viewer) burst(p *packet) {
	more := len(v.queue)
	var together *run
	if more > 0 {
		together = v.together()
	}
	for {
		v.send(p)
		packets.Put(p)
		if more == 0 {
			break
		}
		more--
		p = <-v.queue
	}
	if together != nil {
		v.s.a.peers.conn.flush(together)
	}
}

// moved takes note of where the viewer's packets go from now on.
func (v *viewer) moved(pair *webrtc.ICECandidatePair) {
	ip, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		v.to.Store(nil)
		return
	}
	to := netip.AddrPortFrom(ip.Unmap(), pair.Remote.Port)
	v.to.Store(&to)
}

// together begins to collect a burst; nil where it cannot be, and then every packet leaves alone.
func (v *viewer) together() *run {
	if to := v.to.Load(); to != nil {
		return v.s.a.peers.conn.gather(*to)
	}
	return nil
}

// send rewrites the header and hands the packet to the library, which puts in the
// session's SSRC and payload type. The payload is not touched.
func (v *viewer) send(p *packet) {
	counts := &v.s.a.counts
	var out rtp.Packet
	if out.Unmarshal(p.data[:p.size]) != nil {
		counts.write.Add(1)
		return
	}
	// Numbers and contents of extensions belong to the publisher's connection: its MID
	// could name the viewer's other section.
	out.Extension, out.ExtensionProfile, out.Extensions = false, 0, nil
	if !v.joined[p.track].apply(&out.Header, time.Now().UnixNano(), v.rates[p.track]) {
		counts.stale.Add(1)
		return
	}
	if v.tracks[p.track].WriteRTP(&out) != nil {
		counts.write.Add(1)
		return
	}
	counts.out.Add(1)
}

// keyframeEvery bounds how often one viewer's requests go on. Media coalesces those of
// all viewers.
const keyframeEvery = 250 * time.Millisecond

// listen reads a track's RTCP: reading feeds the library's NACK answers, and finds the
// requests for keyframes. It ends when the peer is closed.
func (v *viewer) listen(track int, sender *webrtc.RTPSender) {
	buf := make([]byte, packetBuffer)
	var last time.Time
	for {
		n, _, err := sender.Read(buf)
		if err != nil {
			return
		}
		if now := time.Now(); wantsKeyframe(buf[:n]) && now.Sub(last) >= keyframeEvery {
			last = now
			v.askKeyframe(track)
		}
	}
}

// wantsKeyframe finds a PLI or FIR in a compound RTCP packet.
func wantsKeyframe(b []byte) bool {
	all, err := rtcp.Unmarshal(b)
	if err != nil {
		return false
	}
	for _, p := range all {
		switch p.(type) {
		case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
			return true
		}
	}
	return false
}
