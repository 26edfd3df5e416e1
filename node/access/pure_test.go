package access

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/media"
)

const goodFrag = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n" +
	"a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\na=candidate:1 1 UDP 1 2001:db8::1 5 typ srflx raddr 10.0.0.1 rport 9\r\n" +
	"a=candidate:2 1 udp 1 abc.local 5 typ host\r\na=candidate:3 2 udp 1 192.0.2.1 5 typ host\r\na=candidate:4 1 tcp 1 192.0.2.1 9 typ host tcptype active\r\n" +
	"a=candidate:5 1 udp 1 224.0.0.1 5 typ host\r\na=end-of-candidates\r\n"

func TestParseFrag(t *testing.T) {
	f, err := parseFrag([]byte(goodFrag))
	if err != nil || f.ufrag != "EsAw" || f.pwd != "P2uYro0UCOQ4zxjKXaWCBui1" || !f.end || len(f.candidates) != 2 {
		t.Fatalf("%+v (%v), want 2 usable candidates", f, err)
	}
	if f.candidates[0].mid != "0" || !strings.HasPrefix(f.candidates[0].line, "1387637174 1 udp") {
		t.Errorf("candidate %+v", f.candidates[0])
	}
	many := strings.Repeat("a=candidate:1 1 udp 1 192.0.2.1 5 typ host\n", 1000)
	if f, _ = parseFrag([]byte(many)); len(f.candidates) != maxCandidates {
		t.Errorf("%d candidates kept, at most %d", len(f.candidates), maxCandidates)
	}
	for _, bad := range []string{"x", "a:b\r\n", "A=b", "a=ice-ufrag:abc\r\n", "a=ice-pwd:short\r\n", "a=ice-ufrag:abcd;e\r\n"} {
		if _, err := parseFrag([]byte(bad)); !errors.Is(err, errFrag) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestFragOfTakesTheFirstSection(t *testing.T) {
	sdp := "v=0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 X 0\r\na=mid:0\r\na=sendonly\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\nm=audio 9 X 0\r\na=mid:1\r\na=candidate:9 1 udp 1 192.0.2.1 5 typ host\r\n"
	const want = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 X 0\r\na=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\na=end-of-candidates\r\n"
	if got := fragOf(sdp); got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func FuzzFrag(f *testing.F) {
	f.Add([]byte(goodFrag))
	f.Add([]byte("a=candidate:\r\nm=\r\na=mid\r\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseFrag(body)
		if err != nil && !errors.Is(err, errFrag) {
			t.Fatalf("error %v of no known kind", err)
		}
		if len(got.candidates) > maxCandidates || (got.ufrag != "" && !iceChars(got.ufrag, 4)) {
			t.Fatalf("%+v", got)
		}
		_ = fragOf(string(body))
	})
}

func TestOfferChoosesTheFirstServedCodec(t *testing.T) {
	const offer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=fingerprint:sha-256 AA\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 98 102 103 96\r\na=mid:0\r\na=sendonly\r\na=rtpmap:98 H265/90000\r\na=rtpmap:102 h264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\n" +
		"a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102;rtx-time=3000\r\na=rtpmap:96 VP8/90000\r\na=candidate:1 1 udp 1 x.local 5 typ host\r\na=rid:a send\r\na=simulcast:send a\r\n"
	o, err := parseOffer([]byte(offer))
	if err != nil {
		t.Fatal(err)
	}
	codecs, err := o.published()
	if err != nil || len(codecs) != 1 || codecs[0].mime != "video/H264" || codecs[0].payload != 102 || codecs[0].rtx != 103 {
		t.Fatalf("%+v (%v)", codecs, err)
	}
	text, err := o.text()
	if err != nil || strings.Contains(text, "simulcast") || strings.Contains(text, "rid") || strings.Contains(text, ".local") {
		t.Errorf("not cleaned (%v):\n%s", err, text)
	}
	again, err := o.withCredentials(frag{ufrag: "NEWU", pwd: "newpasswordnewpassword", candidates: []candidate{{"0", "1 1 udp 1 192.0.2.1 5 typ host"}}})
	if err != nil || !strings.Contains(again, "a=ice-ufrag:NEWU") || strings.Contains(again, "EsAw") || !strings.Contains(again, "a=candidate:1 1 udp 1 192.0.2.1") {
		t.Errorf("new generation (%v):\n%s", err, again)
	}
}

// The library's work is the number of payload types times the number of lines: seconds for an offer of 50 KB.
func TestOfferThatIsLongWorkIsRefused(t *testing.T) {
	section := func(port string, lines int, formats string) string {
		s := "m=video " + port + " UDP/TLS/RTP/SAVPF " + formats + "\r\na=mid:" + port + "\r\na=sendonly\r\n"
		return s + strings.Repeat("a=rtpmap:96 VP8/90000\r\n", lines-3)
	}
	var all []string
	for i := range 128 {
		all = append(all, strconv.Itoa(i))
	}
	every := strings.Join(all, " ")
	most := maxReadings / 128 // lines of a section that names all types, with its first
	for name, tc := range map[string]struct {
		media string
		want  error
	}{
		"one type often":        {section("9", 4, strings.Repeat("96 ", 5000)+"97"), errBadSDP},
		"in a rejected section": {section("9", 4, "96") + section("0", 4, "96 96"), errBadSDP},
		"the longest":           {section("9", most, every), nil},
		"one line more":         {section("9", most+1, every), errUnprocessable},
		"the longest in two":    {section("9", most/2, every) + section("0", most/2, every), nil},
		"one line more in two":  {section("9", most/2, every) + section("0", most/2+1, every), errUnprocessable},
	} {
		_, err := parseOffer([]byte("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=fingerprint:sha-256 AA\r\n" + tc.media))
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func TestCompatible(t *testing.T) {
	const cb, high, mode0 = "packetization-mode=1;profile-level-id=42e01f", "packetization-mode=1;profile-level-id=640032", "profile-level-id=42e01f"
	for _, tc := range []struct {
		mime, offered, track string
		want                 int
	}{
		{"video/VP8", "", "", 2}, {"audio/opus", "minptime=10", "", 2},
		{"video/H264", cb, "profile-level-id=42E034; packetization-mode=1", 2},
		{"video/H264", high, cb, 1}, {"video/H264", mode0, cb, 0},
		{"video/VP9", "profile-id=2", "", 0}, {"video/VP9", "profile-id=0", "", 2},
		{"video/AV1", "profile=1", "profile=0", 0}, {"video/AV1", "level-idx=5", "", 2},
	} {
		if got := compatible(codec{mime: tc.mime, fmtp: tc.offered}, media.Track{Mime: tc.mime, Fmtp: tc.track}); got != tc.want {
			t.Errorf("%s offered %q for %q: %d, want %d", tc.mime, tc.offered, tc.track, got, tc.want)
		}
	}
	if compatible(codec{mime: "video/VP8"}, media.Track{Mime: "video/VP9"}) != 0 {
		t.Error("VP8 decodes VP9")
	}
}

func FuzzOffer(f *testing.F) {
	f.Add([]byte("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=fingerprint:sha-256 AA\r\n" +
		"m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=mid:0\r\na=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n" +
		"m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=bundle-only\r\na=rtpmap:111 opus/48000/2\r\na=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\n"))
	f.Add([]byte("v=0\r\n"))
	tracks := []media.Track{{Kind: "video", Mime: "video/H264", Fmtp: "packetization-mode=1"}, {Kind: "audio", Mime: "audio/opus"}}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parseOffer(body)
		if err != nil {
			if !errors.Is(err, errBadSDP) && !errors.Is(err, errUnprocessable) {
				t.Fatalf("error %v of no known kind", err)
			}
			return
		}
		if codecs, err := o.published(); err == nil && (len(codecs) == 0 || len(codecs) > 2) {
			t.Fatalf("%d codecs", len(codecs))
		}
		if matched, ok := o.viewed(tracks); ok && len(matched) != len(tracks) {
			t.Fatalf("%d matches for %d tracks", len(matched), len(tracks))
		}
		if _, err := o.text(); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := o.withCredentials(frag{ufrag: "abcd"}); err != nil && len(bytes.TrimSpace(body)) == 0 {
			t.Fatal(err)
		}
	})
}

func FuzzRTPRequest(f *testing.F) {
	f.Add([]byte(`{"stream":"s","tracks":[{"kind":"video","codec":"H264","payload_type":96},{"kind":"audio","codec":"opus","payload_type":97}]}`))
	f.Add([]byte(``))
	f.Add([]byte(`{"to":"192.0.2.1","ports":{"video":6000,"audio":6002},"srtp":"AEAD_AES_128_GCM"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req, err := parseRTP(body)
		if err == nil && (len(req.codecs) == 0 || len(req.codecs) > 2) {
			t.Fatalf("%d codecs", len(req.codecs))
		}
		out, err := parseRTPOut(body)
		if err == nil && (out.Ports["video"] == out.Ports["audio"] || out.Ports["video"] < 1024 || out.Ports["audio"] < 1024) {
			t.Fatalf("ports %v", out.Ports)
		}
	})
}

func TestSplice(t *testing.T) {
	var s splice
	const second = time.Second
	begin := time.Now()
	step := func(ssrc uint32, seq uint16, ts uint32, now time.Duration) (uint16, uint32, bool) {
		h := rtp.Header{SSRC: ssrc, SequenceNumber: seq, Timestamp: ts}
		ok := s.apply(&h, begin.Add(now), 90000)
		return h.SequenceNumber, h.Timestamp, ok
	}
	for _, tc := range []struct {
		name    string
		ssrc    uint32
		seq     uint16
		ts      uint32
		now     time.Duration
		wantSeq uint16
		wantTS  uint32
		ok      bool
	}{
		{"the first passes", 1, 65534, 1000, 0, 65534, 1000, true},
		{"with a gap", 1, 1, 4000, second, 1, 4000, true},
		{"a late one", 1, 65535, 2000, second, 65535, 2000, true},
		{"another source goes on after the highest", 2, 500, 77, 2 * second, 2, 4000 + 90000, true},
		{"and keeps its distances", 2, 503, 77 + 3000, 2 * second, 5, 4000 + 93000, true},
		{"the old source is dropped", 1, 2, 5000, 2 * second, 0, 0, false},
		{"a third source", 3, 9, 9, 2 * second, 6, 4000 + 93001, true},
		{"the one before it is late", 2, 504, 77 + 6000, 3 * second, 0, 0, false},
		{"and back once the third is silent", 2, 600, 77 + 9000, 4 * second, 7, 4000 + 93001 + 180000, true},
		{"then the third is late", 3, 10, 10, 4 * second, 0, 0, false},
	} {
		seq, ts, ok := step(tc.ssrc, tc.seq, tc.ts, tc.now)
		if ok != tc.ok || (ok && (seq != tc.wantSeq || ts != tc.wantTS)) {
			t.Errorf("%s: %d %d %v, want %d %d %v", tc.name, seq, ts, ok, tc.wantSeq, tc.wantTS, tc.ok)
		}
	}
}
