package access

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/srtp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/media"
)

// seated is an audience with one shard that nobody runs, and viewers in it whose packets
// end up in a recording wire.
func seated(t *testing.T, viewers int) (*audience, *shard, []*viewer, *recordingWire) {
	t.Helper()
	wire := &recordingWire{}
	a := &Access{sessions: map[string]*session{}, audiences: map[media.Key]*audience{}, peers: &peerMaker{conn: newClientPort(wire)}}
	a.counts.init()
	u := &audience{a: a, tracks: make([]audienceTrack, 2)}
	s := newShard(u)
	u.shards = []*shard{s}
	var all []*viewer
	for i := range viewers {
		v := newViewer(&session{a: a})
		v.s.connected.Store(true)
		to := netip.MustParseAddrPort(fmt.Sprintf("192.0.2.%d:1000", i+1))
		v.to.Store(&to)
		v.tracks = []*viewerTrack{{ssrc: 77, payload: 100, rtxSSRC: 78, rtxPayload: 101, rate: 90000, picture: true}, nil}
		var err error
		if v.crypt, err = newSealer(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm); err != nil {
			t.Fatal(err)
		}
		v.audience.Store(u)
		s.add(v)
		all = append(all, v)
	}
	return u, s, all, wire
}

// opened decrypts what one viewer was sent, in order; all packets have one size.
func decrypted(t *testing.T, sent []byte, size int) (out []*rtp.Packet) {
	t.Helper()
	c, err := srtp.CreateContext(make([]byte, 16), make([]byte, 12), srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	for ; len(sent) >= size; sent = sent[size:] {
		plain, err := c.DecryptRTP(nil, sent[:size], nil)
		if err != nil {
			t.Fatal(err)
		}
		p := new(rtp.Packet)
		if err := p.Unmarshal(plain); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestAFrameLeavesOncePerViewerAsOneRun(t *testing.T) {
	u, s, all, wire := seated(t, 3)
	for range all { // media calls every viewer's sink
		for seq := range uint16(4) {
			u.write(0, rtpBytes(t, 96, seq, []byte("payload")))
		}
	}
	if len(s.queue) != 4 {
		t.Fatalf("%d packets queued, want each of the four once", len(s.queue))
	}
	s.write(<-s.queue)
	const size = 12 + 7 + 16
	for i, said := range wire.said {
		if want := fmt.Sprintf("run %d of %d to 192.0.2.%d:1000", 4*size, size, i+1); said != want {
			t.Errorf("%s, want %s", said, want)
		}
	}
	if len(wire.said) != 3 {
		t.Fatalf("%d system calls for 3 viewers", len(wire.said))
	}
	for seq, p := range decrypted(t, wire.sent[:4*size], size) {
		if p.SSRC != 77 || p.PayloadType != 100 || p.SequenceNumber != uint16(seq) || !bytes.Equal(p.Payload, []byte("payload")) {
			t.Errorf("packet %d is %+v", seq, p)
		}
	}
	u.write(0, rtpBytes(t, 96, 2, []byte("payload"))) // the publisher sent it again
	if len(s.queue) != 0 {
		t.Error("a copy of a packet reaches viewers")
	}
}

func TestAFullShardQueueDropsAndNeverWaits(t *testing.T) {
	u, s, _, _ := seated(t, 3)
	s.mu.Lock() // its writer is busy; media must not notice
	defer s.mu.Unlock()
	for seq := range uint16(shardQueue + 10) {
		u.write(0, rtpBytes(t, 96, seq, []byte("x")))
	}
	if got := u.a.counts.queue.Load(); got != 30 || len(s.queue) != shardQueue {
		t.Errorf("%d counted as dropped, want 10 for each of 3 viewers", got)
	}
}

func TestLostPacketsAreSentAgainAsRTX(t *testing.T) {
	u, s, all, wire := seated(t, 1)
	v := all[0]
	for seq := range uint16(3) {
		u.write(0, rtpBytes(t, 96, 100+seq, []byte("payload")))
	}
	s.write(<-s.queue)
	wire.sent = nil
	v.resend(v.tracks[0], []uint16{101, 99})
	const size = 12 + 2 + 7 + 16
	got := decrypted(t, wire.sent, size)
	if len(got) != 1 || got[0].SSRC != 78 || got[0].PayloadType != 101 || !bytes.Equal(got[0].Payload, append([]byte{0, 101}, "payload"...)) {
		t.Fatalf("sent again: %+v", got)
	}
	v.tracks[0].rtxPayload = 0
	wire.sent = nil
	v.resend(v.tracks[0], []uint16{102})
	if got := decrypted(t, wire.sent, 12+7+16); len(got) != 1 || got[0].SSRC != 77 || got[0].SequenceNumber != 102 {
		t.Fatalf("without RTX: %+v", got)
	}
	if c := &u.a.counts; c.repaired.Load() != 2 || c.repairGone.Load() != 1 {
		t.Errorf("counted %d repaired, %d gone", c.repaired.Load(), c.repairGone.Load())
	}
	v.resend(v.tracks[0], []uint16{102}) // again, before the first answer can have arrived
	if c := &u.a.counts; c.repaired.Load() != 2 || c.repairLimit.Load() != 1 {
		t.Errorf("counted %d repaired, %d held back", c.repaired.Load(), c.repairLimit.Load())
	}
	for range 10 * repairBurst {
		v.tracks[0].again = [againMemory]againAt{} // a round trip has passed
		v.resend(v.tracks[0], []uint16{101})
	}
	if c := &u.a.counts; c.repaired.Load() != repairBurst {
		t.Errorf("%d sent again for a viewer that asks for everything, want %d", c.repaired.Load(), repairBurst)
	}
}

func TestAPacketIsSentAgainOnceInARoundTrip(t *testing.T) {
	_, _, all, _ := seated(t, 1)
	track, now := all[0].tracks[0], time.Unix(1_700_000_000, 0)
	sent := uint32(ntp(now.Add(-300*time.Millisecond)) >> 16)
	all[0].reported(track, []rtcp.ReceptionReport{{SSRC: 77, LastSenderReport: sent, Delay: 6554}}, now) // 100 ms of them at the viewer
	if d := track.trip - 200*time.Millisecond; d < -time.Millisecond || d > time.Millisecond {
		t.Fatalf("round trip %s, want 200 ms", track.trip)
	}
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {100 * time.Millisecond, false}, {199 * time.Millisecond, false}, {201 * time.Millisecond, true}, {300 * time.Millisecond, false}} {
		if got := track.due(9, now.Add(step.after)); got != step.want {
			t.Errorf("after %s: %v", step.after, got)
		}
	}
}

// packetFrom is a packet of a publisher that sends under ssrc.
func packetFrom(t *testing.T, ssrc uint32, seq uint16) []byte {
	t.Helper()
	b, err := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: seq, Timestamp: 1, SSRC: ssrc}, Payload: []byte{byte(seq)}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRepairFollowsAPublisherThatCameBack(t *testing.T) {
	u, s, all, wire := seated(t, 1)
	u.write(0, packetFrom(t, 1, 500))
	s.write(<-s.queue)
	u.write(0, packetFrom(t, 2, 9)) // another source: goes on as 501
	s.write(<-s.queue)
	wire.sent = nil
	all[0].resend(all[0].tracks[0], []uint16{501})
	if got := decrypted(t, wire.sent, 12+2+1+16); len(got) != 1 || !bytes.Equal(got[0].Payload, []byte{501 >> 8, 501 & 0xff, 9}) {
		t.Errorf("sent again: %+v", got)
	}
}

// Numbers of before a change belong to what was sent before it: nothing else goes out under them, neither as a repair nor late.
func TestNumbersOfBeforeAChangeAreNotUsedAgain(t *testing.T) {
	u, s, all, wire := seated(t, 1)
	for _, p := range [][]byte{packetFrom(t, 1, 499), packetFrom(t, 1, 500), packetFrom(t, 2, 9)} { // the last goes on as 501
		u.write(0, p)
		s.write(<-s.queue)
	}
	wire.sent = nil
	u.write(0, packetFrom(t, 2, 8)) // late: it would go out as another 500
	s.write(<-s.queue)
	all[0].resend(all[0].tracks[0], []uint16{500})
	if len(wire.sent) != 0 {
		t.Errorf("%d bytes went out under a number that was used", len(wire.sent))
	}
	if c := &u.a.counts; c.stale.Load() != 1 || c.repairGone.Load() != 1 {
		t.Errorf("counted %d stale, %d gone", c.stale.Load(), c.repairGone.Load())
	}
	for seq := uint16(10); seq < 10+40_000; seq++ { // past half of all numbers
		if !all[0].tracks[0].joined.apply(&rtp.Header{SequenceNumber: seq, SSRC: 2}, time.Time{}, 90000) {
			t.Fatalf("%d does not pass", seq)
		}
	}
	for _, seq := range []uint16{501, 40_500 - keptPackets} {
		if all[0].tracks[0].joined.sent(seq) {
			t.Errorf("%d counts as sent and kept", seq)
		}
	}
	if j := all[0].tracks[0].joined; !j.sent(j.lastSeq) || !j.sent(j.lastSeq-keptPackets+1) || j.sent(j.lastSeq+1) {
		t.Error("the newest do not count as sent, or one that never was does")
	}
}

// A packet that goes again under its own number is the same to the bit: audio never goes again, and video without RTX has no
// transport-wide number in it.
func TestNothingGoesAgainUnderItsNumberWithAnother(t *testing.T) {
	u, s, all, wire := seated(t, 1)
	u.write(0, packetFrom(t, 1, 500))
	s.write(<-s.queue)
	wire.sent = nil
	for kind, want := range map[string]bool{"audio/opus": false, "video/VP8": true} {
		track := &viewerTrack{codec: codec{mime: kind}}
		if _, err := track.Bind(bound{mime: kind}); err != nil || track.number != 0 == want {
			t.Errorf("%s: number %d, %v", kind, track.number, err)
		}
		all[0].tracks[0].codec.mime = kind
		all[0].told(all[0].tracks[0], &rtcp.TransportLayerNack{MediaSSRC: 77, Nacks: []rtcp.NackPair{{PacketID: 500}}}, time.Now())
		if got := len(wire.sent) > 0; got != want {
			t.Errorf("%s: sent again: %v", kind, got)
		}
		wire.sent = nil
	}
}

// bound is what was negotiated of a track without RTX.
type bound struct {
	webrtc.TrackLocalContext
	mime string
}

func (b bound) CodecParameters() []webrtc.RTPCodecParameters {
	return []webrtc.RTPCodecParameters{{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: b.mime}}}
}
func (b bound) HeaderExtensions() []webrtc.RTPHeaderExtensionParameter {
	return []webrtc.RTPHeaderExtensionParameter{{URI: sdp.TransportCCURI, ID: 3}}
}
func (bound) SSRC() webrtc.SSRC                    { return 77 }
func (bound) SSRCRetransmission() webrtc.SSRC      { return 0 }
func (bound) WriteStream() webrtc.TrackLocalWriter { return nil }

func TestAnAudienceLivesAsLongAsItsViewers(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/open/room?stream=cam", "", client.Synthetic{PerSec: 100})
	one, two := w.view("/whep/open/room/cam", "", client.Config{}), w.view("/whep/open/room", "", client.Config{})
	w.until("both watch", func() bool { return one.Stats().Packets["video"] > 5 && two.Stats().Packets["video"] > 5 })
	count := func() int {
		w.a.mu.Lock()
		defer w.a.mu.Unlock()
		return len(w.a.audiences)
	}
	if n := count(); n != 1 {
		t.Errorf("%d audiences of one stream", n)
	}
	for _, s := range w.a.all() {
		if s.kind == kindWHEP && s.pc == nil {
			t.Error("no peer")
		}
	}
	w.a.mu.Lock()
	for _, u := range w.a.audiences {
		for _, s := range u.shards {
			s.mu.Lock()
			for _, v := range s.seats {
				if v.crypt == nil {
					t.Error("the keys of a viewer's DTLS connection are not where they were: the WebRTC library has changed")
				}
			}
			s.mu.Unlock()
		}
	}
	w.a.mu.Unlock()
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	before := two.Stats().Packets["video"]
	w.until("the other watches on", func() bool { return two.Stats().Packets["video"] > before+10 })
	if err := two.Close(); err != nil {
		t.Error(err)
	}
	w.until("the audience ends with its last viewer", func() bool { return count() == 0 })
}

func TestViewersGetSenderReports(t *testing.T) {
	_, s, all, _ := seated(t, 1)
	v := all[0]
	at := time.Unix(1_700_000_000, 0)
	v.tracks[0].packets, v.tracks[0].octets, v.tracks[0].last, v.tracks[0].lastAt = 5, 500, 1000, at
	s.mu.Lock()
	reports := v.reports(at.Add(time.Second))
	s.mu.Unlock()
	if len(reports) != 1 {
		t.Fatalf("%d reports for one track that was sent", len(reports))
	}
	if sr := reports[0].(*rtcp.SenderReport); sr.SSRC != 77 || sr.PacketCount != 5 || sr.OctetCount != 500 || sr.RTPTime != 91000 || sr.NTPTime != ntp(at.Add(time.Second)) {
		t.Errorf("%+v", sr)
	}
}

func BenchmarkFanOut(b *testing.B) {
	t := &testing.T{}
	u, s, _, wire := seated(t, 100)
	wire.discard = true
	packets := make([][]byte, 5)
	b.ReportAllocs()
	for seq := uint16(0); b.Loop(); {
		for i := range packets {
			p, _ := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: seq, SSRC: 5}, Payload: make([]byte, 1188)}).Marshal()
			packets[i] = p
			seq++
			u.write(0, p)
		}
		s.write(<-s.queue)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/packet")
}
