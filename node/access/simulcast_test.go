package access

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/media"
)

// layerSizes are the packets of one frame of each layer of the test's publisher, at 25 frames a second: 60, 240 and 600
// kbit/s, which fits what is taken for granted at first. A payload is a VP8 descriptor, the frame's key bit, the layer, and filling.
var layerSizes = [][]int{{300}, {600, 600}, {1000, 1000, 1000}}

// simulcaster publishes three layers with the library, as a browser does: one m= section, rids in header extensions.
func (w *world) simulcaster(path string) *webrtc.PeerConnection {
	w.t.Helper()
	engine := new(webrtc.MediaEngine)
	if err := engine.RegisterDefaultCodecs(); err != nil {
		w.t.Fatal(err)
	}
	chain := new(interceptor.Registry)
	if err := webrtc.ConfigureSimulcastExtensionHeaders(engine); err != nil {
		w.t.Fatal(err)
	}
	if err := webrtc.ConfigureTWCCHeaderExtensionSender(engine, chain); err != nil {
		w.t.Fatal(err)
	}
	se := webrtc.SettingEngine{}
	se.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(chain), webrtc.WithSettingEngine(se)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = pc.Close() })
	var layers []*webrtc.TrackLocalStaticRTP
	for _, rid := range []string{"q", "h", "f"} {
		t, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, "video", "cam", webrtc.WithRTPStreamID(rid))
		if err != nil {
			w.t.Fatal(err)
		}
		layers = append(layers, t)
	}
	tr, err := pc.AddTransceiverFromTrack(layers[0], webrtc.RTPTransceiverInit{Direction: sendonly})
	for _, t := range layers[1:] {
		if err == nil {
			err = tr.Sender().AddEncoding(t)
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	answer := w.post(path, "", gathered(w.t, pc, nil))
	if answer.code != 201 {
		w.t.Fatalf("%d %s", answer.code, answer.body)
	}
	if !strings.Contains(answer.body, "a=simulcast:recv q;h;f") {
		w.t.Errorf("the answer does not take the layers:\n%s", answer.body)
	}
	w.accept(pc, answer)
	w.live("open", "room", 1)
	w.sendLayers(tr.Sender(), tr.Mid(), layers)
	return pc
}

// sendLayers sends until the test ends, with keyframes on request for the layer that is asked.
func (w *world) sendLayers(sender *webrtc.RTPSender, mid string, layers []*webrtc.TrackLocalStaticRTP) {
	ids := map[string]uint8{}
	for _, h := range sender.GetParameters().HeaderExtensions {
		ids[h.URI] = uint8(h.ID)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	w.t.Cleanup(func() { cancel(); group.Wait() })
	for i, t := range layers {
		ask := make(chan struct{}, 1)
		go func() { // ends with the peer
			for {
				all, _, err := sender.ReadSimulcastRTCP(t.RID())
				if err != nil {
					return
				}
				if asksKeyframe(all) {
					select {
					case ask <- struct{}{}:
					default:
					}
				}
			}
		}()
		group.Go(func() {
			tick := time.NewTicker(40 * time.Millisecond)
			defer tick.Stop()
			for seq, ts := uint16(1000*i), uint32(1_000_000*i); ; ts += 3600 {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				delta := byte(1)
				select {
				case <-ask:
					delta = 0
				default:
				}
				for n, size := range layerSizes[i] {
					p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: seq, Timestamp: ts, Marker: n == len(layerSizes[i])-1}, Payload: make([]byte, size)}
					if n == 0 {
						p.Payload[0], p.Payload[1] = 0x10, delta
					}
					p.Payload[2] = byte(i)
					_ = p.SetExtension(ids[sdp.SDESMidURI], []byte(mid))
					_ = p.SetExtension(ids[sdp.SDESRTPStreamIDURI], []byte(t.RID()))
					_ = t.WriteRTP(p) // nothing flows before the peer is connected
					seq++
				}
			}
		})
	}
}

// layerLog is what one viewer got.
type layerLog struct {
	mu    sync.Mutex
	ssrc  uint32
	last  *rtp.Header
	layer int
	count [3]int
	wrong []string
}

func (l *layerLog) add(_ string, p *rtp.Packet, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(p.Payload) < 3 {
		return
	}
	h, layer := p.Header.Clone(), int(p.Payload[2])
	if l.last != nil {
		if h.SequenceNumber != l.last.SequenceNumber+1 || int32(h.Timestamp-l.last.Timestamp) < 0 {
			l.wrong = append(l.wrong, fmt.Sprintf("%d at %d after %d at %d, layers %d %d", h.SequenceNumber, h.Timestamp, l.last.SequenceNumber, l.last.Timestamp, layer, l.layer))
		}
		if layer != l.layer && (p.Payload[0] != 0x10 || p.Payload[1] != 0) {
			l.wrong = append(l.wrong, fmt.Sprintf("layer %d begins in the middle", layer))
		}
	}
	l.ssrc, l.last, l.layer = p.SSRC, &h, layer
	l.count[layer]++
}

func (l *layerLog) now() (layer int, ssrc uint32, wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.layer, l.ssrc, slices.Clone(l.wrong)
}

func TestEachViewerGetsTheSimulcastLayerOfItsOwn(t *testing.T) {
	w := newWorld(t, nil)
	w.simulcaster("/whip/open/room?stream=cam")
	var wide, narrow layerLog
	w.view("/whep/open/room/cam", "", client.Config{OnPacket: wide.add})
	v := w.view("/whep/open/room/cam", "", client.Config{OnPacket: narrow.add})
	w.until("a wide viewer has the best layer", func() bool { layer, _, _ := wide.now(); return layer == 2 })
	says := func(bps float32) {
		_, ssrc, _ := narrow.now()
		_ = v.PeerConnection().WriteRTCP([]rtcp.Packet{&rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: bps, SSRCs: []uint32{ssrc}}})
	}
	w.until("a viewer that says 100 kbit/s has the least, the other one the best", func() bool {
		says(100e3)
		least, _, _ := narrow.now()
		best, _, _ := wide.now()
		return least == 0 && best == 2
	})
	w.until("and gets more when it says more", func() bool { says(5e6); layer, _, _ := narrow.now(); return layer == 2 })
	if _, _, wrong := wide.now(); len(wrong) > 0 {
		t.Errorf("the other viewer: %v", wrong)
	}
	if _, _, wrong := narrow.now(); len(wrong) > 0 {
		t.Errorf("where layers change: %v", wrong)
	}
	if got := w.a.counts.switches.Load(); got < 2 {
		t.Errorf("%d changes counted", got)
	}
	w.until("the last mile is known", func() bool { s := w.a.Stats(); return s.Estimated == 2 && s.EstimateMedian > 100e3 })
	res := w.do("GET", strings.TrimPrefix(v.Resource(), w.http.URL), "", "Accept", "application/json")
	var said viewerState
	if err := json.Unmarshal([]byte(res.body), &said); err != nil || said.Layer != "f" || len(said.Layers) != 3 || said.Layers[2].Rate <= said.Layers[0].Rate || said.Estimate == 0 {
		t.Errorf("the session's URL says %s (%v)", res.body, err)
	}
}

func TestWhichOffersAreSimulcast(t *testing.T) {
	const whole = "a=mid:0\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2/sendonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n" +
		"a=rid:q send\r\na=rid:h send pt=96\r\na=rid:f send\r\na=simulcast:send q;~h;f\r\n"
	for _, c := range []struct {
		name, old, new string
		want           int
	}{
		{"whole", "", "", 3},
		{"one layer", ";~h;f", "", 0},
		{"alternatives", ";~h", ",h", 0},
		{"both directions", ";f", ";f recv 1", 0},
		{"no rid line", "a=rid:h send pt=96\r\n", "", 0},
		{"a rid to receive", "a=rid:h send pt=96", "a=rid:h recv", 0},
		{"no extension", "rtp-stream-id", "rtp-stream-none", 0},
		{"twice the same", ";f", ";q", 0},
		{"too many", ";f", ";f;a;b", 0},
		{"a name with a blank", "q;", "q x;", 0},
		{"no mid", "a=mid:0\r\n", "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(offerText(sendonly), "a=mid:0\r\n", whole, 1)
			if c.old != "" {
				text = strings.Replace(text, c.old, c.new, 1)
			}
			o, err := parseOffer([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if got := o.sections[0].rids; len(got) != c.want {
				t.Errorf("layers %v, want %d", got, c.want)
			}
			left, err := o.text()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(left, "a=simulcast") != (c.want > 0) || strings.Contains(left, "a=rid:") != (c.want > 0) {
				t.Errorf("the library is told\n%s", left)
			}
		})
	}
}

// offerText is a minimal offer of one VP8 section.
func offerText(direction webrtc.RTPTransceiverDirection) string {
	return "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n" +
		"a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\na=mid:0\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=" + direction.String() + "\r\n"
}

func TestLayersShareOneSenderOfAViewer(t *testing.T) {
	layer := func(rid string) media.Track {
		return media.Track{ID: "video", Kind: "video", Mime: "video/VP8", ClockRate: 90000, RID: rid}
	}
	tracks := []media.Track{{ID: "audio", Kind: "audio", Mime: "audio/opus", ClockRate: 48000, Channels: 2}, layer("q"), layer("h"), layer("f")}
	for i, want := range []int{0, 1, 1, 1} {
		if got := firstLayer(tracks, i); got != want {
			t.Errorf("track %d belongs to %d, want %d", i, got, want)
		}
	}
	o, err := parseOffer([]byte(offerText(recvonly)))
	if err != nil {
		t.Fatal(err)
	}
	matched, ok := o.viewed(tracks)
	if !ok || matched[0] != nil || matched[1] == nil || matched[2] != matched[1] || matched[3] != matched[1] {
		t.Errorf("%v %v", ok, matched)
	}
	if c := counterCodecs(tracks); c[2] != c[1] || c[3] != c[1] || c[1] == c[0] {
		t.Errorf("a counter-offer of %v", c)
	}
}
