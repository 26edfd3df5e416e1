package access

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/node/access/token"
)

// problemOf checks the shape of a refusal and returns it.
func problemOf(t *testing.T, name string, res answer) {
	t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
	}
	if err := json.Unmarshal([]byte(res.body), &p); err != nil || p.Status != res.code || p.Type == "" || res.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: no problem+json: %d %q %q (%v)", name, res.code, res.header.Get("Content-Type"), res.body, err)
	}
	for _, secret := range []string{"expired", "signature", "certificate", "unknown_key", "no such app", "secret"} {
		if strings.Contains(res.body, secret) {
			t.Errorf("%s: the body says %q: %s", name, secret, res.body)
		}
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, nil)
	offer := offerOf(t, peer(t), sendonly, videoT, audioT)
	good := w.publisherToken("room")
	expired, _ := token.Create(token.CreateOptions{Format: token.FormatJWT, App: "demo", Certificate: "first-secret", Channel: "room", Now: time.Now().Add(-2 * time.Hour), TTL: time.Hour})
	forged, _ := token.Create(token.CreateOptions{Format: token.FormatJWT, App: "demo", Certificate: "guess", Channel: "room", Now: time.Now(), TTL: time.Hour})
	noBundle := strings.ReplaceAll(offer, "a=group:BUNDLE", "a=x:")
	for _, tc := range []struct {
		name, path, tok, contentType, body string
		code                               int
		reason                             string
	}{
		{"no token", "/whip/demo/room", "", typeSDP, offer, 401, "token_missing"},
		{"expired token", "/whip/demo/room", expired, typeSDP, offer, 401, "token_expired"},
		{"forged token", "/whip/demo/room", forged, typeSDP, offer, 401, "token_bad_signature"},
		{"oversized token", "/whip/demo/room", strings.Repeat("x", 64<<10), typeSDP, offer, 401, "token_too_large"},
		{"token of another channel", "/whip/demo/room2", good, typeSDP, offer, 403, "token_wrong_channel"},
		{"unknown app", "/whip/nobody/room", forged, typeSDP, offer, 401, "token_wrong_app"},
		{"token of another app", "/whip/nobody/room", good, typeSDP, offer, 401, "token_wrong_app"},
		{"viewer's token", "/whip/demo/room", w.viewerToken("room"), typeSDP, offer, 403, "token_not_granted"},
		{"audio only", "/whip/demo/room", w.token("room", time.Hour, token.CanPublishAudio), typeSDP, offer, 403, "token_not_granted"},
		{"publisher's token", "/whep/demo/room", good, typeSDP, offer, 403, "token_not_granted"},
		{"fenced app", "/whip/fenced/room", "", typeSDP, offer, 403, "fence"},
		{"bad channel", "/whip/open/a%2Fb", "", typeSDP, offer, 400, "bad_channel"},
		{"bad stream", "/whip/open/room?stream=a.b", "", typeSDP, offer, 400, "bad_stream"},
		{"no content type", "/whip/open/room", "", "", offer, 415, "content_type"},
		{"JSON", "/whip/open/room", "", typeJSON, offer, 415, "content_type"},
		{"65 KiB", "/whip/open/room", "", typeSDP, strings.Repeat("a", maxBody+1), 413, "body_too_large"},
		{"no SDP", "/whip/open/room", "", typeSDP, "hello", 400, "bad_sdp"},
		{"empty", "/whip/open/room", "", typeSDP, "", 400, "bad_sdp"},
		{"no ICE", "/whip/open/room", "", typeSDP, strings.ReplaceAll(offer, "a=ice-pwd", "a=x"), 400, "bad_sdp"},
		{"no fingerprint", "/whip/open/room", "", typeSDP, strings.ReplaceAll(offer, "a=fingerprint", "a=x"), 400, "bad_sdp"},
		{"a publisher that only receives", "/whip/open/room", "", typeSDP, offerOf(t, peer(t), recvonly, videoT), 422, "unprocessable_sdp"},
		{"two videos", "/whip/open/room", "", typeSDP, offerOf(t, peer(t), sendonly, videoT, videoT), 422, "unprocessable_sdp"},
		{"no bundle", "/whip/open/room", "", typeSDP, noBundle, 422, "unprocessable_sdp"},
		{"no codec", "/whip/open/room", "", typeSDP, strings.NewReplacer("opus/48000", "speex/48000").Replace(offer), 422, "unprocessable_sdp"},
		{"DTLS client wanted", "/whip/open/room", "", typeSDP, strings.ReplaceAll(offer, "a=setup:actpass", "a=setup:passive"), 422, "setup_passive"},
		{"nothing live", "/whep/open/room", "", typeSDP, offerOf(t, peer(t), recvonly, videoT), 409, "not_live"},
		{"no such stream", "/whep/open/room/cam", "", typeSDP, offerOf(t, peer(t), recvonly, videoT), 409, "not_live"},
		{"RTP without a token", "/v1/apps/demo/channels/room/rtp", "", typeJSON, "{}", 401, "token_missing"},
		{"RTP with unknown keys", "/v1/apps/open/channels/room/rtp", "", typeJSON, `{"codec":"VP8"}`, 400, "bad_rtp_request"},
		{"RTP with a static payload type", "/v1/apps/open/channels/room/rtp", "", typeJSON, `{"tracks":[{"kind":"audio","codec":"opus","payload_type":0}]}`, 400, "bad_rtp_request"},
		{"RTP as SDP", "/v1/apps/open/channels/room/rtp", "", typeSDP, `v=0`, 415, "content_type"},
	} {
		header := []string{"Content-Type", tc.contentType}
		if tc.tok != "" {
			header = append(header, "Authorization", "Bearer "+tc.tok)
		}
		res := w.do("POST", tc.path, tc.body, header...)
		if res.code != tc.code {
			t.Errorf("%s: %d %s, want %d", tc.name, res.code, res.body, tc.code)
		}
		problemOf(t, tc.name, res)
		if !strings.Contains(w.log.String(), "reason="+tc.reason) {
			t.Errorf("%s: the log does not say %q", tc.name, tc.reason)
		}
		if (res.code == 401) != (res.header.Get("WWW-Authenticate") == "Bearer") || (res.code == 409) != (res.header.Get("Retry-After") != "") {
			t.Errorf("%s: headers %v", tc.name, res.header)
		}
	}
	if s := w.a.Stats(); s.Sessions[kindWHIP]+s.Sessions[kindWHEP]+s.Sessions[kindRTP] != 0 || s.Joins[Event{kindWHIP, "token_expired"}] != 1 {
		t.Errorf("stats %+v", s)
	}
	w.until("places are given back", func() bool { w.a.mu.Lock(); defer w.a.mu.Unlock(); return w.a.reserved == 0 })
}

func TestUnknownAppAnswersLikeARefusedToken(t *testing.T) {
	w := newWorld(t, nil)
	forged, _ := token.Create(token.CreateOptions{Format: token.FormatJWT, App: "demo", Certificate: "guess", Channel: "room", Now: time.Now(), TTL: time.Hour})
	a := w.post("/whip/demo/room", forged, "")
	b := w.post("/whip/nobody/room", forged, "")
	a.header.Del("Date")
	b.header.Del("Date")
	if a.code != b.code || a.body != b.body || fmt.Sprint(a.header) != fmt.Sprint(b.header) {
		t.Errorf("they can be told apart:\n%+v\n%+v", a, b)
	}
}

func TestMethodsAndCORS(t *testing.T) {
	w := newWorld(t, nil)
	for _, tc := range []struct {
		method, path string
		code         int
		header       map[string]string
	}{
		{"OPTIONS", "/whip/demo/room", 204, map[string]string{"Accept-Post": typeSDP, "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS", "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match"}},
		{"OPTIONS", "/whep/demo/room/cam", 204, map[string]string{"Accept-Post": typeSDP}},
		{"OPTIONS", "/whip/s/nothing", 204, map[string]string{"Access-Control-Allow-Methods": "GET, HEAD, PATCH, DELETE, OPTIONS"}},
		{"GET", "/whip/demo/room", 200, nil},
		{"HEAD", "/whep/demo/room", 200, map[string]string{"Content-Type": typeSDP}},
		{"GET", "/whep/demo/room", 200, map[string]string{"Content-Type": typeSDP}},
		{"PUT", "/whip/demo/room", 405, map[string]string{"Allow": "GET, HEAD, POST, OPTIONS"}},
		{"DELETE", "/whep/demo/room", 405, nil},
		{"POST", "/whip/s/nothing", 405, nil},
		{"PATCH", "/whip/s/nothing", 404, nil},
		{"DELETE", "/whep/s/nothing", 404, nil},
		{"GET", "/v1/rtp/nothing", 404, nil},
		{"GET", "/elsewhere", 404, nil},
	} {
		res := w.do(tc.method, tc.path, "", "Origin", "https://example.com")
		if res.code != tc.code {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, res.code, tc.code)
		}
		for k, v := range tc.header {
			if got := res.header.Get(k); got != v {
				t.Errorf("%s %s: %s is %q, want %q", tc.method, tc.path, k, got, v)
			}
		}
	}
	exposed := w.do("GET", "/whip/demo/room", "").header.Get("Access-Control-Expose-Headers")
	for _, h := range []string{"Location", "ETag", "Link"} {
		if !strings.Contains(exposed, h) {
			t.Errorf("%s is not exposed to pages: %q", h, exposed)
		}
	}
}

func TestAnswerOfAPublisher(t *testing.T) {
	w := newWorld(t, nil)
	res := w.do("POST", "/whip/open/room", offerOf(t, peer(t), sendonly, videoT, audioT), "Content-Type", "Application/SDP; charset=utf-8")
	if res.code != 201 || res.header.Get("Content-Type") != typeSDP {
		t.Fatalf("%d %s", res.code, res.body)
	}
	location, etag := res.header.Get("Location"), res.header.Get("ETag")
	if !strings.HasPrefix(location, "/whip/s/") || len(location) < len("/whip/s/")+32 {
		t.Errorf("Location %q", location)
	}
	if !strings.HasPrefix(etag, `"`) || !strings.HasSuffix(etag, `"`) || len(etag) < 10 {
		t.Errorf("ETag %q is not strong", etag)
	}
	for _, line := range []string{"a=recvonly", "a=setup:passive", "a=rtcp-mux", "a=end-of-candidates", "a=group:BUNDLE", "VP8/90000", "a=rtcp-fb:96 nack pli", "transport-cc", "typ host", w.a.cfg.UDPAdvertise[0].Addr().String()} {
		if !strings.Contains(res.body, line) {
			t.Errorf("the answer lacks %q:\n%s", line, res.body)
		}
	}
	for _, line := range []string{"a=sendrecv", "a=inactive", ".local", "typ srflx", "H264"} {
		if strings.Contains(res.body, line) {
			t.Errorf("the answer holds %q:\n%s", line, res.body)
		}
	}
	for _, method := range []string{"GET", "HEAD"} {
		if got := w.do(method, location, ""); got.code != 200 || got.body != "" || got.header.Get("ETag") != etag {
			t.Errorf("%s session: %d %q %q", method, got.code, got.body, got.header.Get("ETag"))
		}
	}
	if got := w.do("DELETE", strings.Replace(location, "whip", "whep", 1), ""); got.code != 404 {
		t.Errorf("a publisher's session under /whep: %d", got.code)
	}
	if got := w.do("DELETE", location, "", "If-Match", `"other"`); got.code != 200 {
		t.Errorf("DELETE: %d", got.code)
	}
	if got := w.do("DELETE", location, ""); got.code != 404 {
		t.Errorf("second DELETE: %d", got.code)
	}
}

func TestSendrecvOfferIsAnsweredRecvonlyAndUnservedSimulcastTakenOut(t *testing.T) {
	w := newWorld(t, nil)
	offer := strings.ReplaceAll(offerOf(t, peer(t), sendonly, videoT), "a=sendonly", "a=sendrecv\r\na=rid:h send\r\na=rid:l send\r\na=simulcast:send h,l")
	res := w.post("/whip/open/room", "", offer)
	if res.code != 201 || !strings.Contains(res.body, "a=recvonly") || strings.Contains(res.body, "simulcast") {
		t.Errorf("%d\n%s", res.code, res.body)
	}
}

func TestDrainingAndFullNodesAnswer503(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.MaxSessions = 1 })
	offer := offerOf(t, peer(t), sendonly, videoT)
	w.drain.Store(true)
	if res := w.post("/whip/open/room", "", offer); res.code != 503 || res.header.Get("Retry-After") == "" {
		t.Errorf("draining: %d", res.code)
	}
	w.drain.Store(false)
	if res := w.post("/whip/open/room", "", offer); res.code != 201 {
		t.Errorf("the first session: %d %s", res.code, res.body)
	}
	if res := w.post("/whip/open/room", "", offer); res.code != 503 || res.header.Get("Retry-After") == "" {
		t.Errorf("the second session: %d", res.code)
	}
}

func TestADrainingNodeSendsThoseWhoMayEnterElsewhere(t *testing.T) {
	var none atomic.Bool
	w := newWorld(t, func(c *Config) {
		c.Elsewhere = func(app string) (string, bool) { return "https://other.example:8443", app == "open" && !none.Load() }
	})
	w.drain.Store(true)
	offer := offerOf(t, peer(t), sendonly, videoT)
	for _, path := range []string{"/whip/open/room?stream=cam", "/whep/open/room/cam"} {
		res := w.post(path, "", offer)
		if res.code != http.StatusTemporaryRedirect || res.header.Get("Location") != "https://other.example:8443"+path {
			t.Errorf("%s: %d to %q, want 307 to the same path elsewhere", path, res.code, res.header.Get("Location"))
		}
	}
	if res := w.post("/whip/demo/room", "", offer); res.code != http.StatusUnauthorized || res.header.Get("Location") != "" {
		t.Errorf("a stranger learns nothing of other nodes: %d %q", res.code, res.header.Get("Location"))
	}
	none.Store(true)
	if res := w.post("/whip/open/room", "", offer); res.code != 503 || res.header.Get("Retry-After") == "" {
		t.Errorf("nowhere to go: %d", res.code)
	}
}

func TestJoinRateOfOneAddress(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.JoinRate, c.JoinBurst = 0.001, 3 })
	codes := []int{}
	for range 4 {
		codes = append(codes, w.post("/whip/demo/room", "", "").code)
	}
	if fmt.Sprint(codes) != "[401 401 401 429]" {
		t.Errorf("answers %v", codes)
	}
}

func TestSourceLimitsForgetTheLeastRecent(t *testing.T) {
	l := newSourceLimits(1, 1)
	now := time.Unix(1, 0)
	for i := range maxSources + 10 {
		l.allow(fmt.Sprintf("10.%d.%d.1:1", i/256, i%256), now)
	}
	if len(l.byAddr) != maxSources || l.recent.Len() != maxSources {
		t.Errorf("%d remembered, at most %d", len(l.byAddr), maxSources)
	}
	if l.allow("[2001:db8::1]:5", now); l.allow("[2001:db8::ffff]:6", now) {
		t.Error("two addresses of one /64 have a bucket each")
	}
	if !l.allow("192.0.2.1:9", now) || l.allow("192.0.2.1:10", now) || !l.allow("192.0.2.1:9", now.Add(time.Second)) {
		t.Error("the bucket of one address is wrong")
	}
}

// joined opens a connected publisher by hand and returns what a PATCH needs.
func (w *world) joined(t *testing.T) (pc *webrtc.PeerConnection, res answer) {
	t.Helper()
	pc = peer(t)
	res = w.post("/whip/open/room", "", offerOf(t, pc, sendonly, videoT))
	if res.code != 201 {
		t.Fatalf("%d %s", res.code, res.body)
	}
	w.accept(pc, res)
	w.until("connected", func() bool { return pc.ConnectionState() == webrtc.PeerConnectionStateConnected })
	return pc, res
}

// accept gives a peer its answer.
func (w *world) accept(pc *webrtc.PeerConnection, res answer) {
	w.t.Helper()
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: res.body}); err != nil {
		w.t.Fatal(err)
	}
}

// live waits until a channel has as many streams.
func (w *world) live(app, channel string, want int) {
	w.t.Helper()
	w.until("streams are announced", func() bool {
		streams, err := w.a.hub.list(w.t.Context(), app, channel)
		return err == nil && len(streams) == want
	})
}

// attribute reads one a= line of an SDP.
func attribute(sdp, key string) string {
	for line := range strings.SplitSeq(sdp, "\r\n") {
		if v, ok := strings.CutPrefix(line, "a="+key+":"); ok {
			return v
		}
	}
	return ""
}

func TestPatchTrickle(t *testing.T) {
	w := newWorld(t, nil)
	pc, res := w.joined(t)
	at, etag := res.header.Get("Location"), res.header.Get("ETag")
	mine := pc.LocalDescription().SDP
	ufrag, pwd := attribute(mine, "ice-ufrag"), attribute(mine, "ice-pwd")
	frag := "a=ice-ufrag:" + ufrag + "\r\na=ice-pwd:" + pwd + "\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\na=candidate:2 1 tcp 1 nonsense\r\na=end-of-candidates\r\n"
	for _, tc := range []struct {
		name, contentType, body, ifMatch string
		code                             int
	}{
		{"with the tag", typeFrag, frag, etag, 204},
		{"with parameters of the type", typeFrag + "; charset=utf-8", frag, etag, 204},
		{"with a bare star", typeFrag, frag, "*", 204},
		{"with a quoted star", typeFrag, frag, `"*"`, 204},
		{"by a client that knows no tags", typeFrag, frag, "", 204},
		{"without credentials", typeFrag, "a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n", etag, 204},
		{"with another tag", typeFrag, frag, `"other"`, 412},
		{"as SDP", typeSDP, frag, etag, 415},
		{"as nothing", "", frag, etag, 415},
		{"that is no SDP", typeFrag, "hello", etag, 400},
		{"with credentials that cannot be", typeFrag, "a=ice-ufrag:!\r\n", etag, 400},
		{"too large", typeFrag, strings.Repeat("a=b\r\n", maxBody/4), etag, 413},
		{"restart without a tag", typeFrag, strings.ReplaceAll(frag, ufrag, "otherufrag"), "", 428},
		{"restart without a password", typeFrag, "a=ice-ufrag:otherufrag\r\n", "*", 400},
	} {
		header := []string{"Content-Type", tc.contentType}
		if tc.ifMatch != "" {
			header = append(header, "If-Match", tc.ifMatch)
		}
		got := w.do("PATCH", at, tc.body, header...)
		if got.code != tc.code || (got.code == 204 && got.header.Get("ETag") != "") {
			t.Errorf("%s: %d %s, want %d", tc.name, got.code, got.body, tc.code)
		}
		if got.code == 415 && got.header.Get("Accept-Patch") == "" {
			t.Errorf("%s: no Accept-Patch", tc.name)
		}
		if got.code >= 400 {
			problemOf(t, tc.name, got)
		}
	}
	w.a.cfg.StrictIfMatch = true
	if got := w.do("PATCH", at, frag, "Content-Type", typeFrag); got.code != 428 {
		t.Errorf("strict, without a tag: %d", got.code)
	}
}

func TestICERestart(t *testing.T) {
	w := newWorld(t, nil)
	pc, res := w.joined(t)
	at, etag := res.header.Get("Location"), res.header.Get("ETag")
	offer := gathered(t, pc, &webrtc.OfferOptions{ICERestart: true})
	var frag strings.Builder
	fmt.Fprintf(&frag, "a=ice-ufrag:%s\r\na=ice-pwd:%s\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n", attribute(offer, "ice-ufrag"), attribute(offer, "ice-pwd"))
	for line := range strings.SplitSeq(offer, "\r\n") {
		if strings.HasPrefix(line, "a=candidate:") {
			frag.WriteString(line + "\r\n")
		}
	}
	got := w.do("PATCH", at, frag.String(), "Content-Type", typeFrag, "If-Match", "*")
	if got.code != 200 || got.header.Get("Content-Type") != typeFrag || got.header.Get("ETag") == etag || got.header.Get("ETag") == "" {
		t.Fatalf("%d %v\n%s", got.code, got.header, got.body)
	}
	f, err := parseFrag([]byte(got.body))
	if err != nil || f.ufrag == "" || f.ufrag == attribute(res.body, "ice-ufrag") || len(f.candidates) == 0 || !f.end {
		t.Fatalf("fragment %+v (%v)\n%s", f, err, got.body)
	}
	renewedAnswer := strings.NewReplacer(attribute(res.body, "ice-ufrag"), f.ufrag, attribute(res.body, "ice-pwd"), f.pwd).Replace(res.body)
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: renewedAnswer}); err != nil {
		t.Fatal(err)
	}
	w.until("connected over the new generation", func() bool {
		pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		return err == nil && pair != nil && pc.ICEConnectionState() == webrtc.ICEConnectionStateConnected
	})
	if got := w.do("PATCH", at, "", "Content-Type", typeFrag, "If-Match", etag); got.code != 412 {
		t.Errorf("PATCH with the tag of the old generation: %d", got.code)
	}
	if n := w.a.Stats().Sessions[kindWHIP]; n != 1 {
		t.Errorf("%d sessions after the restart", n)
	}
}

func TestCounterOffer(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/open/room", "", client.Synthetic{PerSec: 100})
	// The player offers no codec of the stream.
	broken := strings.NewReplacer("VP8/90000", "X1/90000").Replace(offerOf(t, peer(t), recvonly, videoT))
	res := w.post("/whep/open/room", "", broken)
	if res.code != 406 || res.header.Get("Content-Type") != typeSDP || !strings.Contains(res.body, "VP8/90000") || !strings.Contains(res.body, "a=sendonly") {
		t.Fatalf("%d %v\n%s", res.code, res.header, res.body)
	}
	at := res.header.Get("Location")
	if got := w.do("PATCH", at, "a=ice-ufrag:abcd\r\n", "Content-Type", typeFrag, "If-Match", "*"); got.code != 422 {
		t.Errorf("trickle before the answer: %d", got.code)
	}
	if got := w.do("PATCH", at, "v=0", "Content-Type", typeSDP); got.code != 400 {
		t.Errorf("a broken answer: %d", got.code)
	}
	pc := peer(t)
	got := newRecorder()
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			got.add("video", p, time.Time{})
		}
	})
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: res.body}); err != nil {
		t.Fatal(err)
	}
	ans, err := pc.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	done := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(ans); err != nil {
		t.Fatal(err)
	}
	<-done
	if got := w.do("PATCH", at, pc.LocalDescription().SDP, "Content-Type", typeSDP); got.code != 204 {
		t.Fatalf("the answer: %d %s", got.code, got.body)
	}
	w.until("media", func() bool { return got.count("video") > 10 })
	if got := w.do("PATCH", at, pc.LocalDescription().SDP, "Content-Type", typeSDP); got.code != 415 {
		t.Errorf("a second answer: %d", got.code)
	}
	if s := w.a.Stats(); s.Joins[Event{kindWHEP, "counter_offer"}] != 1 {
		t.Errorf("joins %v", s.Joins)
	}
}

func TestCounterOfferNobodyAnswersEnds(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/open/room", "", client.Synthetic{PerSec: 100})
	asked := w.a.now()
	res := w.post("/whep/open/room", "", offerOf(t, peer(t), recvonly, audioT)) // the stream has video only
	if res.code != 406 {
		t.Fatalf("%d %s", res.code, res.body)
	}
	w.a.round(asked.Add(counterFor - time.Second))
	if n := w.a.Stats().Sessions[kindWHEP]; n != 1 {
		t.Fatalf("%d sessions after 29 s", n)
	}
	w.a.round(w.a.now().Add(counterFor + time.Second))
	if n := w.a.Stats().Sessions[kindWHEP]; n != 0 {
		t.Errorf("%d sessions after 31 s", n)
	}
}

func TestViewerWithoutVideoStillHears(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("/whip/open/room", "", client.Synthetic{PerSec: 100, AudioHz: 50})
	res := w.post("/whep/open/room", "", offerOf(t, peer(t), recvonly, audioT))
	if res.code != 201 || strings.Contains(res.body, "m=video") || !strings.Contains(res.body, "a=sendonly") {
		t.Errorf("%d\n%s", res.code, res.body)
	}
	// And a player that asks for more than there is: the rest carries no stream.
	res = w.post("/whep/open/room", "", offerOf(t, peer(t), recvonly, videoT, audioT, videoT))
	if res.code != 201 || strings.Count(res.body, "a=msid:") != 2 {
		t.Errorf("%d\n%s", res.code, res.body)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := newWorld(t, nil).a.cfg
	for name, change := range map[string]func(*Config){
		"no hub": func(c *Config) { c.Hub = nil }, "no apps": func(c *Config) { c.App = nil }, "no port": func(c *Config) { c.UDP = nil },
		"no address": func(c *Config) { c.UDPAdvertise = nil }, "address of everything": func(c *Config) { c.UDPAdvertise = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:5")} },
		"negative limit": func(c *Config) { c.MaxSessions = -1 }, "no RTP host": func(c *Config) { c.RTPHost = netip.Addr{} },
	} {
		cfg := good
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
