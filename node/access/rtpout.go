package access

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"github.com/ternmesh/tern/media"
)

const (
	egressQueue = 512             // packets that wait for one receiver; when it is full the newest is dropped and counted
	reportEvery = 2 * time.Second // sender reports
	// A receiver whose port is closed is refused by its host. refusedFor of nothing else
	// ends the session; refusedGap without one, and the host has stopped refusing.
	refusedFor = 15 * time.Second
	refusedGap = 4 * time.Second
)

// openRTPOut opens a plain RTP egress: a stream's packets go to the ports that the
// client names, at the very address that it asks from, and the answer is the SDP by
// which it receives them.
func (a *Access) openRTPOut(w http.ResponseWriter, r *http.Request) *problem {
	j, body, p := a.enterRTP(r)
	if p != nil {
		return p
	}
	defer a.leave()
	until, p := a.require(j.grant, rightJoin|rightSubscribe)
	if p != nil {
		return p
	}
	req, err := parseRTPOut(body)
	if err != nil {
		return badRTP(err)
	}
	to, p := a.destination(r, req)
	if p != nil {
		return p
	}
	s, p := a.sessionRTP(r, kindRTPOut, j, rightJoin|rightSubscribe, until)
	if p != nil {
		return p
	}
	text, p := a.egress(r, s, req, to)
	if p != nil {
		s.end("refused")
		return p
	}
	return answerRTP(w, a, s, text)
}

// destination is where packets go: only to who asks, whom TCP has proved to be there. So
// nobody can make this node flood somebody else.
func (a *Access) destination(r *http.Request, req rtpOutRequest) (netip.Addr, *problem) {
	asks, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}, bad("rtp_destination", "your address is not known here", err)
	}
	addr := asks.Addr().Unmap().WithZone("")
	switch {
	case req.to.IsValid() && req.to != addr:
		return addr, &problem{status: http.StatusForbidden, reason: "rtp_destination", detail: fmt.Sprintf("RTP goes to the address that asks for it, %s, and to no other", addr)}
	case addr.Is4() != a.cfg.RTPHost.Unmap().Is4():
		return addr, bad("rtp_family", fmt.Sprintf("RTP leaves from %s: ask over the same version of IP", a.cfg.RTPHost), nil)
	}
	return addr, nil
}

// packet is a queued copy; media's own is valid during Write only.
type packet struct {
	track int
	size  int
	data  [maxPacket]byte
}

var packets = sync.Pool{New: func() any { return new(packet) }}

// rtpOut is media's Sink for one egress: a bounded queue, and one goroutine that writes.
type rtpOut struct {
	s      *session
	sub    subscription
	queue  chan *packet
	done   context.Context
	tracks []*rtpOutTrack // by track; layers of one picture share theirs

	doubles []doubles // by track; owned by the writer, as all below

	meter meter
	bytes []uint64 // by track

	refusedSince, refusedAt time.Time
	began                   bool // the first packet has gone out
}

// rtpOutTrack is one track's way out. Fields below the line are owned by the writer.
type rtpOutTrack struct {
	track     media.Track
	codec     codec
	rtp, rtcp net.PacketConn
	to, back  *net.UDPAddr  // RTP, and RTCP one port above
	in        *srtp.Context // owned by the reader of RTCP

	pick
	out     *srtp.Context
	ssrc    uint32
	joined  splice
	packets uint32
	bytes   uint32
	stamp   uint32 // of the last packet
	stampAt time.Time
	buf     []byte
}

// egress subscribes, opens the ports, and describes what comes out.
func (a *Access) egress(r *http.Request, s *session, req rtpOutRequest, to netip.Addr) (string, *problem) {
	ctx, cancel := context.WithCancel(context.Background())
	s.atEnd(cancel)
	o := &rtpOut{s: s, queue: make(chan *packet, egressQueue), done: ctx}
	wait, enough := context.WithTimeout(r.Context(), hubFor)
	defer enough()
	sub, err := a.hub.subscribe(wait, media.Key{App: s.app, Channel: s.channel, Stream: req.Stream}, o)
	if err != nil {
		return "", hubProblem(err)
	}
	s.atEnd(sub.Close)
	o.sub, s.stream = sub, sub.Key().Stream
	d := sdpOf{session: uint64(a.now().Unix()), host: to, direction: "sendonly"}
	o.bytes, o.doubles = make([]uint64, len(sub.Tracks())), make([]doubles, len(sub.Tracks()))
	for i, t := range sub.Tracks() {
		if first := firstLayer(sub.Tracks(), i); first != i {
			o.tracks = append(o.tracks, o.tracks[first])
			o.tracks[i].layers = append(o.tracks[i].layers, i)
			continue
		}
		one, line, p := a.egressTrack(r, s, req, t, i, to)
		if p != nil {
			return "", p
		}
		one.begin(sub.Tracks(), i)
		o.tracks, d.media = append(o.tracks, one), append(d.media, line)
	}
	s.connected.Store(true) // media may come from now on
	a.spawn(o.write)
	for i, t := range o.tracks {
		if firstLayer(sub.Tracks(), i) != i {
			continue // not by t.at, which the writer may have changed by now
		}
		a.spawn(func() { o.listen(t) })
		if t.track.Kind == media.KindVideo {
			o.askKeyframe(i)
		}
	}
	return d.text(), nil
}

// egressTrack opens one track's pair of ports.
func (a *Access) egressTrack(r *http.Request, s *session, req rtpOutRequest, t media.Track, index int, to netip.Addr) (*rtpOutTrack, sdpMedia, *problem) {
	c := codec{mime: t.Mime, clockRate: t.ClockRate, channels: t.Channels, fmtp: t.Fmtp, payload: rtpPayload(t.Kind)}
	port := req.Ports[t.Kind]
	line := sdpMedia{codec: c, port: port}
	conn, control, err := a.cfg.ListenRTP(r.Context())
	if err != nil {
		return nil, line, portProblem(err)
	}
	s.atEnd(func() { _, _ = conn.Close(), control.Close() })
	one := &rtpOutTrack{track: t, codec: c, rtp: conn, rtcp: control, buf: make([]byte, 0, packetBuffer),
		to:   net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port)),
		back: net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, port+1))}
	var ssrc [4]byte
	_, _ = rand.Read(ssrc[:])
	one.ssrc = binary.BigEndian.Uint32(ssrc[:]) | 1 // never 0, which stands for none
	line.ssrc = one.ssrc
	if req.suite.name != "" {
		key := req.suite.newSecret()
		line.crypto = key.line()
		if one.in, one.out, err = key.contexts(); err != nil {
			return nil, line, internal(err)
		}
	}
	return one, line, nil
}

// Write implements media.Sink.
func (o *rtpOut) Write(track int, data []byte) {
	counts := &o.s.a.counts
	switch {
	case !o.s.connected.Load():
		counts.early.Add(1)
		return
	case len(data) > maxPacket:
		counts.size.Add(1)
		return
	case track >= len(o.tracks):
		return
	}
	p := packets.Get().(*packet)
	p.track, p.size = track, copy(p.data[:], data)
	select {
	case o.queue <- p:
	default:
		packets.Put(p)
		counts.queue.Add(1)
	}
}

// Ended implements media.Sink.
func (o *rtpOut) Ended(reason string) { o.s.end("stream_" + reason) }

func (o *rtpOut) askKeyframe(track int) {
	o.s.a.counts.asked.Add(1)
	o.sub.RequestKeyframe(track)
}

// write is the one writer: packets, and a report every two seconds.
func (o *rtpOut) write() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	layers := time.NewTicker(rateWindow)
	defer layers.Stop()
	for {
		select {
		case <-o.done.Done():
			return
		case p := <-o.queue:
			o.bytes[p.track] += uint64(p.size)
			o.send(o.tracks[p.track], p.track, p.data[:p.size])
			packets.Put(p)
		case now := <-layers.C:
			o.choose(now)
		case <-tick.C:
			for i, t := range o.tracks {
				if int(t.at.Load()) == i {
					o.report(t)
				}
			}
		}
	}
}

// choose looks for the best layer: plain RTP has no feedback to choose another by.
func (o *rtpOut) choose(now time.Time) {
	rates := o.meter.measure(now, o.bytes)
	for i, t := range o.tracks {
		if t.layers == nil || int(t.at.Load()) != i {
			continue
		}
		if ask := t.pick.choose(now, rates, signs{}); ask >= 0 {
			o.askKeyframe(ask)
		}
	}
}

// send rewrites a packet's header as towards every viewer, and sends it.
func (o *rtpOut) send(t *rtpOutTrack, track int, data []byte) {
	counts := &o.s.a.counts
	var out rtp.Packet
	if out.Unmarshal(data) != nil {
		counts.write.Add(1)
		return
	}
	ssrc, first := o.doubles[track].take(out.SSRC, out.SequenceNumber, out.Timestamp, t.codec.clockRate, nanoseconds)
	if out.SSRC = ssrc; !first {
		return
	}
	takes, changed := t.takes(track, t.layers != nil && startsKeyframe(t.codec.mime, out.Payload))
	if !takes {
		return
	}
	if changed {
		t.joined.change()
		counts.switches.Add(1)
	}
	now := time.Now()
	if !t.joined.apply(&out.Header, now, t.codec.clockRate) {
		counts.stale.Add(1)
		return
	}
	out.Extension, out.ExtensionProfile, out.Extensions = false, 0, nil
	out.SSRC, out.PayloadType = t.ssrc, t.codec.payload
	b := t.buf[:packetBuffer]
	n, err := out.MarshalTo(b)
	if b = b[:n]; err == nil && t.out != nil {
		b, err = t.out.EncryptRTP(nil, b, &out.Header)
	}
	if err != nil {
		counts.write.Add(1)
		return
	}
	if _, err := t.rtp.WriteTo(b, t.to); err != nil {
		counts.write.Add(1)
		o.failed(err, now)
		return
	}
	counts.out.Add(1)
	if !o.began {
		o.began = true
		o.s.trace.end("")
	}
	t.packets++
	t.bytes += uint32(len(out.Payload))
	t.stamp, t.stampAt = out.Timestamp, now
}

// failed ends the session once its receiver's host has refused packets for long.
func (o *rtpOut) failed(err error, now time.Time) {
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return
	}
	if now.Sub(o.refusedAt) > refusedGap {
		o.refusedSince = now
	}
	if o.refusedAt = now; now.Sub(o.refusedSince) >= refusedFor {
		o.s.end("receiver_gone")
	}
}

// report sends a sender report, by which the receiver keeps audio and video in step.
func (o *rtpOut) report(t *rtpOutTrack) {
	if t.packets == 0 {
		return
	}
	now := time.Now()
	ahead := uint32(now.Sub(t.stampAt).Seconds() * float64(t.codec.clockRate))
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{SSRC: t.ssrc, NTPTime: ntp(now), RTPTime: t.stamp + ahead, PacketCount: t.packets, OctetCount: t.bytes},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{Source: t.ssrc,
			Items: []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: "tern"}}}}},
	})
	if err == nil && t.out != nil {
		b, err = t.out.EncryptRTCP(nil, b, nil)
	}
	if err == nil {
		_, _ = t.rtcp.WriteTo(b, t.back) // many receivers have nothing at this port
	}
}

// listen finds requests for keyframes in the receiver's RTCP, until the port is closed.
func (o *rtpOut) listen(t *rtpOutTrack) {
	buf := make([]byte, packetBuffer)
	var last time.Time
	for {
		n, from, err := t.rtcp.ReadFrom(buf)
		if err != nil {
			if o.s.ended.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(time.Millisecond) // e.g. an ICMP error; never a busy loop
			continue
		}
		at, ok := addrPortOf(from)
		b := buf[:n]
		if !ok || !isRTCP(b) || at.Addr() != t.to.AddrPort().Addr().Unmap() {
			continue
		}
		if t.in != nil {
			if b, err = t.in.DecryptRTCP(nil, b, nil); err != nil {
				continue
			}
		}
		if now := time.Now(); wantsKeyframe(b) && now.Sub(last) >= keyframeEvery {
			last = now
			o.askKeyframe(int(t.at.Load()))
		}
	}
}

// answerRTP registers the session and answers with its SDP.
func answerRTP(w http.ResponseWriter, a *Access, s *session, text string) *problem {
	if p := a.register(s); p != nil {
		return p
	}
	w.Header().Set("Content-Type", typeSDP)
	w.Header().Set("Location", s.url())
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, text) // a client that is gone will not connect either
	return nil
}
