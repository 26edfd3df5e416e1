package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node/access/token"
)

// recorder keeps copies of what a source sent or a viewer got.
type recorder struct {
	mu   sync.Mutex
	by   map[string]map[string]bool // kind -> payload
	last map[string]rtp.Header
}

func newRecorder() *recorder {
	return &recorder{by: map[string]map[string]bool{"audio": {}, "video": {}}, last: map[string]rtp.Header{}}
}

func (r *recorder) add(kind string, p *rtp.Packet, _ time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[kind][string(p.Payload)] = true
	r.last[kind] = p.Header.Clone()
}

func (r *recorder) count(kind string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.by[kind])
}

// within fails the test if r has what sent has not. No lock is held when it returns: Close waits for who may want it.
func (r *recorder) within(t *testing.T, sent *recorder) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	sent.mu.Lock()
	defer sent.mu.Unlock()
	for kind, payloads := range r.by {
		for payload := range payloads {
			if !sent.by[kind][payload] {
				t.Errorf("the viewer got a %s payload that was never sent: %x", kind, payload[:32])
			}
		}
	}
}

// recordingSource notes what it sends.
type recordingSource struct {
	client.Source
	sent *recorder
}

func (s recordingSource) Run(ctx context.Context, k <-chan struct{}, send func(int, *rtp.Packet) error) error {
	return s.Source.Run(ctx, k, func(track int, p *rtp.Packet) error {
		s.sent.add(s.Tracks()[track].Kind, p, time.Time{})
		return send(track, p)
	})
}

func TestWhatAPublisherSendsAViewerGetsByteForByte(t *testing.T) {
	w := newWorld(t, nil)
	sent, got := newRecorder(), newRecorder()
	p := w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"),
		recordingSource{client.Synthetic{Size: 1150, PerSec: 200, Burst: 4, AudioHz: 50}, sent})
	v := w.view("/whep/demo/room", w.viewerToken("room"), client.Config{OnPacket: got.add})
	w.until("100 video and 20 audio packets", func() bool { return got.count("video") >= 100 && got.count("audio") >= 20 })
	got.within(t, sent)
	w.until("a keyframe request at the publisher", func() bool { return p.Stats().Keyframes > 0 })
	if s := w.a.Stats(); s.Sessions[kindWHIP] != 1 || s.Sessions[kindWHEP] != 1 || s.PacketsIn == 0 || s.PacketsOut < 120 || s.DropsQueue != 0 {
		t.Errorf("stats %+v", s)
	}
	if strings.Contains(w.log.String(), "somebody-secret") || strings.Contains(w.log.String(), w.viewerToken("room")) {
		t.Error("the log tells users or tokens")
	}
	if err := v.Close(); err != nil {
		t.Errorf("close the viewer: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("close the publisher: %v", err)
	}
	w.until("both sessions are gone", func() bool { s := w.a.Stats().Sessions; return s[kindWHIP]+s[kindWHEP] == 0 })
}

// gapSource leaves every fiftieth packet of its video out.
type gapSource struct{ client.Source }

func (s gapSource) Run(ctx context.Context, k <-chan struct{}, send func(int, *rtp.Packet) error) error {
	return s.Source.Run(ctx, k, func(track int, p *rtp.Packet) error {
		if s.Tracks()[track].Kind == "video" && p.SequenceNumber%50 == 49 {
			return nil
		}
		return send(track, p)
	})
}

func TestAPublisherIsAskedForWhatIsMissing(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/open/room", "", gapSource{client.Synthetic{PerSec: 500, AudioHz: 50}})
	w.until("requests", func() bool { return w.a.Stats().Requested > 3 })
}

func TestViewersKeyframeRequestReachesThePublisher(t *testing.T) {
	w := newWorld(t, nil)
	p := w.publish("/whip/open/room", "", client.Synthetic{PerSec: 200})
	v := w.view("/whep/open/room", "", client.Config{})
	w.until("media", func() bool { return v.Stats().Packets["video"] > 20 })
	before := p.Stats().Keyframes
	w.until("another keyframe request", func() bool { _ = v.RequestKeyframe(); return p.Stats().Keyframes > before })
}

func TestListNamesLiveStreams(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/demo/room?stream=cam", w.publisherToken("room"), client.Synthetic{PerSec: 50, AudioHz: 50})
	res := w.do("GET", "/v1/apps/demo/channels/room", "", "Authorization", "Bearer "+w.viewerToken("room"))
	var list struct {
		Streams []struct {
			Stream string
			Tracks []struct{ Kind, Mime string }
		}
	}
	if err := json.Unmarshal([]byte(res.body), &list); err != nil || res.code != 200 {
		t.Fatalf("%d %s (%v)", res.code, res.body, err)
	}
	if len(list.Streams) != 1 || list.Streams[0].Stream != "cam" || len(list.Streams[0].Tracks) != 2 || list.Streams[0].Tracks[0].Mime != "video/VP8" {
		t.Errorf("listed %s", res.body)
	}
	if res = w.do("GET", "/v1/apps/demo/channels/room", ""); res.code != 401 {
		t.Errorf("without a token: %d", res.code)
	}
}

// portsOf reads the ports of an SDP's media lines.
func portsOf(t *testing.T, sdp string) map[string]int {
	t.Helper()
	out := map[string]int{}
	for line := range strings.SplitSeq(sdp, "\r\n") {
		var kind, rest string
		var port int
		if n, _ := fmt.Sscanf(line, "m=%s %d %s", &kind, &port, &rest); n >= 2 {
			out[kind] = port
		}
	}
	return out
}

func dialUDP(t *testing.T, port int) net.Conn {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func rtpBytes(t *testing.T, payloadType uint8, seq uint16, payload []byte) []byte {
	t.Helper()
	b, err := (&rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: payloadType, SequenceNumber: seq, Timestamp: 1, SSRC: 5}, Payload: payload}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPlainRTPReachesAViewer(t *testing.T) {
	w := newWorld(t, nil)
	auth := []string{"Authorization", "Bearer " + w.publisherToken("room")}
	res := w.do("POST", "/v1/apps/demo/channels/room/rtp", "", auth...)
	if res.code != 201 || res.header.Get("Content-Type") != typeSDP || !strings.Contains(res.body, "c=IN IP4 127.0.0.1") ||
		!strings.Contains(res.body, "a=rtpmap:96 VP8/90000") || !strings.Contains(res.body, "a=rtpmap:111 opus/48000/2") {
		t.Fatalf("%d %v\n%s", res.code, res.header, res.body)
	}
	ports := portsOf(t, res.body)
	video, stranger := dialUDP(t, ports["video"]), dialUDP(t, ports["video"])
	got := newRecorder()
	v := w.view("/whep/demo/room", w.viewerToken("room"), client.Config{OnPacket: got.add})
	full := bytes.Repeat([]byte{7}, maxPacket-12) // an RTP packet of 1,500 bytes
	seq := uint16(0)
	w.until("the 1,500-byte packet and 20 more at the viewer", func() bool {
		for _, b := range [][]byte{rtpBytes(t, 96, seq, full), rtpBytes(t, 96, seq+1, []byte{byte(seq)}), {0x80, 200, 0, 6, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0}, rtpBytes(t, 97, 0, []byte("x"))} {
			_, _ = video.Write(b)
		}
		seq += 2
		if seq > 10 {
			_, _ = stranger.Write(rtpBytes(t, 96, 1, []byte("stranger")))
		}
		got.mu.Lock()
		defer got.mu.Unlock()
		return got.by["video"][string(full)] && len(got.by["video"]) > 20
	})
	got.mu.Lock()
	if got.by["video"]["stranger"] || got.by["video"]["x"] {
		t.Error("packets of a second source or of another payload type passed")
	}
	got.mu.Unlock()
	if w.a.Stats().DropsIngest == 0 {
		t.Error("what was dropped is not counted")
	}
	if res = w.do("DELETE", res.header.Get("Location"), "", auth...); res.code != 200 {
		t.Errorf("DELETE: %d", res.code)
	}
	w.until("the viewer's session ends with the stream", func() bool { return w.a.Stats().Sessions[kindWHEP] == 0 })
	<-v.Done()
}

func TestRTPIngestThatFallsSilentEnds(t *testing.T) {
	w := newWorld(t, nil)
	res := w.do("POST", "/v1/apps/open/channels/room/rtp", `{"stream":"s","tracks":[{"kind":"video","codec":"H264","payload_type":100}]}`, "Content-Type", typeJSON)
	if res.code != 201 || !strings.Contains(res.body, "a=rtpmap:100 H264/90000\r\na=fmtp:100 level-asymmetry-allowed=1;packetization-mode=1") {
		t.Fatalf("%d %s", res.code, res.body)
	}
	conn := dialUDP(t, portsOf(t, res.body)["video"])
	var last time.Time // no later than the last packet's arrival
	w.until("the first packet", func() bool {
		last = w.a.now()
		_, _ = conn.Write(rtpBytes(t, 100, 1, []byte("x")))
		return w.a.Stats().PacketsIn > 0
	})
	w.a.round(last.Add(silentFor - time.Second))
	if n := w.a.Stats().Sessions[kindRTP]; n != 1 {
		t.Fatalf("%d sessions after 14 s, want 1", n)
	}
	w.a.round(w.a.now().Add(silentFor + time.Second))
	if s := w.a.Stats(); s.Sessions[kindRTP] != 0 || s.Ended[Event{kindRTP, "silent"}] != 1 {
		t.Errorf("after 16 s of silence: %+v", s)
	}
}

func TestExpiryEndsTheSessionOnBothSides(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/demo/room", w.publisherToken("room"), client.Synthetic{PerSec: 100})
	v := w.view("/whep/demo/room", w.token("room", 10*time.Minute, token.CanSubscribe), client.Config{})
	w.until("media", func() bool { return v.Stats().Packets["video"] > 0 })
	w.skew.Store(int64(10*time.Minute + time.Second)) // the next round, within a second, sees it
	select {
	case <-v.Done():
	case <-time.After(patience):
		t.Fatal("after its grant the viewer still watches")
	}
	if s := w.a.Stats(); s.Ended[Event{kindWHEP, "expired"}] != 1 || s.Sessions[kindWHIP] != 1 {
		t.Errorf("stats %+v, want the viewer expired and the publisher alive", s)
	}
}

func TestReauthoriseEndsWhatIsNoLongerAdmitted(t *testing.T) {
	w := newWorld(t, nil)
	p := w.publish("/whip/demo/room", w.publisherToken("room"), client.Synthetic{PerSec: 100})
	v := w.view("/whep/demo/room", w.viewerToken("room"), client.Config{})
	w.until("media: the handshake is over on both sides", func() bool { return v.Stats().Packets["video"] > 0 })
	w.a.Reauthorise()
	if s := w.a.Stats().Sessions; s[kindWHIP] != 1 || s[kindWHEP] != 1 {
		t.Fatalf("an unchanged policy ended sessions: %v", s)
	}
	w.mu.Lock()
	w.apps["demo"] = App{App: token.App{ID: "demo", Auth: token.AuthToken, Certificates: []string{"third-secret"}}}
	w.mu.Unlock()
	w.a.Reauthorise()
	for name, done := range map[string]<-chan struct{}{"publisher": p.Done(), "viewer": v.Done()} {
		select {
		case <-done:
		case <-time.After(patience):
			t.Errorf("the %s lives on with a withdrawn certificate", name)
		}
	}
	// The viewer may hear first that its stream is gone.
	if s := w.a.Stats(); s.Ended[Event{kindWHIP, "revoked: bad_signature"}] != 1 || s.Sessions[kindWHEP] != 0 {
		t.Errorf("ended %v", s.Ended)
	}
}

func TestHalfOpenSessionsEnd(t *testing.T) {
	w := newWorld(t, nil)
	res := w.post("/whip/open/room", "", offerOf(t, peer(t), sendonly, videoT, audioT))
	if res.code != 201 {
		t.Fatalf("%d %s", res.code, res.body)
	}
	w.a.round(w.a.now().Add(halfOpenFor + time.Second))
	if s := w.a.Stats(); s.Sessions[kindWHIP] != 0 || s.Ended[Event{kindWHIP, "half_open"}] != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestShutdownSaysGoodbye(t *testing.T) {
	w := newWorld(t, nil)
	p := w.publish("/whip/open/room", "", client.Synthetic{PerSec: 100})
	v := w.view("/whep/open/room", "", client.Config{})
	w.until("media: the handshake is over on both sides", func() bool { return v.Stats().Packets["video"] > 0 })
	w.cancel()
	late := time.After(20 * time.Second) // by silence alone a client notices after 30 s; Run itself says what took it too long
	for _, done := range []<-chan struct{}{p.Done(), v.Done()} {
		select {
		case <-done:
		case <-late:
			t.Fatal("a client was not told")
		}
	}
	if res := w.post("/whip/open/room", "", ""); res.code != 503 {
		t.Errorf("a join after the end: %d", res.code)
	}
}

func TestStreamThatComesBackGoesOnForItsViewers(t *testing.T) {
	w := newWorld(t, nil)
	got := newRecorder()
	p := w.publish("/whip/open/room?stream=cam", "", client.Synthetic{PerSec: 200})
	v := w.view("/whep/open/room/cam", "", client.Config{OnPacket: got.add})
	w.until("media", func() bool { return v.Stats().Packets["video"] > 20 })
	got.mu.Lock()
	before := got.last["video"]
	got.mu.Unlock()
	w.publish("/whip/open/room?stream=cam", "", client.Synthetic{PerSec: 200}) // takes over
	<-p.Done()
	count := v.Stats().Packets["video"]
	w.until("media of the second publisher", func() bool { return v.Stats().Packets["video"] > count+40 })
	got.mu.Lock()
	after := got.last["video"]
	got.mu.Unlock()
	if after.SSRC != before.SSRC || after.SequenceNumber-before.SequenceNumber > 2000 || int32(after.Timestamp-before.Timestamp) < 0 {
		t.Errorf("before %+v, after %+v: the viewer sees a break", before, after)
	}
}

func TestViewerOfNothingGets409AndMayTryAgain(t *testing.T) {
	w := newWorld(t, nil)
	_, err := client.View(t.Context(), client.Config{URL: w.http.URL + "/whep/open/empty"})
	var refused *client.StatusError
	if !errors.As(err, &refused) || refused.Code != 409 || refused.RetryAfter == "" {
		t.Errorf("%v, want 409 with Retry-After", err)
	}
}
