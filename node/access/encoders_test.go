package access

import (
	"net/http"
	"strings"
	"testing"
)

// Offers as encoders that are no browsers make them, written after what their sources and traces show: each has something that a
// server made for browsers may stumble over.
var encoderOffers = map[string]struct {
	head, each string   // of the session; of every section
	audio      []string // what differs
	video      []string
}{
	// OBS by libdatachannel: no candidates, groups and options of its own, the fingerprint and the role stand before the sections.
	"OBS": {
		head: "o=rtc 3767197920 0 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0 1\na=group:LS 0 1\na=msid-semantic:WMS *\na=setup:actpass\n" +
			"a=ice-ufrag:v8TR\na=ice-pwd:cB5/JQz3OBV+FtMZcO4DM0\na=ice-options:ice2,trickle\nFINGERPRINT",
		each: "a=sendonly\na=rtcp-mux\n",
		audio: []string{"m=audio 9 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=mid:0", "a=ssrc:2 cname:obs", "a=rtpmap:111 opus/48000/2",
			"a=fmtp:111 minptime=10;maxaveragebitrate=96000;stereo=1;sprop-stereo=1;useinbandfec=1"},
		video: []string{"m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", "a=mid:1", "a=ssrc:1 cname:obs", "a=rtpmap:96 H264/90000",
			"a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 goog-remb", "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1"},
	},
	// GStreamer's webrtcbin with max-bundle: the second section has port 0 and is bundle-only, mids are names, FEC and RED are offered.
	"GStreamer": {
		head: "o=- 6812 0 IN IP4 0.0.0.0\ns=-\nt=0 0\na=ice-options:trickle\na=group:BUNDLE video0 audio1\n",
		each: "a=sendonly\na=setup:actpass\na=rtcp-mux\na=rtcp-rsize\na=ice-ufrag:xTtPzQxV7yYxqWGKMrAx\na=ice-pwd:pyaZsVqTfmB7nNxJXqHfOqGkcRTzDSzW\nFINGERPRINT",
		audio: []string{"m=audio 0 UDP/TLS/RTP/SAVPF 97", "c=IN IP4 0.0.0.0", "a=bundle-only", "a=mid:audio1", "a=rtpmap:97 OPUS/48000/2",
			"a=rtcp-fb:97 transport-cc", "a=extmap:1 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", "a=fmtp:97 sprop-stereo=0;sprop-maxcapturerate=48000"},
		video: []string{"m=video 9 UDP/TLS/RTP/SAVPF 96 98 99 100", "c=IN IP4 0.0.0.0", "a=mid:video0", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack pli",
			"a=rtcp-fb:96 ccm fir", "a=rtpmap:98 red/90000", "a=rtpmap:99 ulpfec/90000", "a=rtpmap:100 rtx/90000", "a=fmtp:100 apt=96",
			"a=framerate:30", "a=candidate:1 1 UDP 2015363327 192.0.2.7 51234 typ host", "a=candidate:2 1 TCP 1015021823 192.0.2.7 9 typ host tcptype active", "a=end-of-candidates"},
	},
	// FFmpeg's WHIP muxer: it says setup:active, one payload type each, and one candidate-free transport.
	"FFmpeg": {
		head:  "o=FFmpeg 4489045141692799359 2 IN IP4 127.0.0.1\ns=FFmpegPublishSession\nt=0 0\na=group:BUNDLE 0 1\na=extmap-allow-mixed\na=msid-semantic: WMS\n",
		each:  "c=IN IP4 0.0.0.0\na=ice-ufrag:a1b2c3d4\na=ice-pwd:0123456789abcdef0123456789abcdef\nFINGERPRINTa=setup:active\na=sendonly\na=rtcp-mux\n",
		audio: []string{"m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", "a=msid:FFmpeg audio", "a=rtpmap:111 opus/48000/2", "a=ssrc:3 cname:FFmpeg"},
		video: []string{"m=video 9 UDP/TLS/RTP/SAVPF 106", "a=mid:1", "a=msid:FFmpeg video", "a=rtcp-rsize", "a=rtpmap:106 H264/90000",
			"a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42C01F", "a=ssrc:4 cname:FFmpeg", "a=ssrc:4 msid:FFmpeg video"},
	},
}

func TestEncodersThatAreNoBrowsersAreAnswered(t *testing.T) {
	for name, tc := range encoderOffers {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			order := [][]string{tc.audio, tc.video}
			if name == "GStreamer" {
				order = [][]string{tc.video, tc.audio}
			}
			text := "v=0\n" + tc.head
			for _, s := range order {
				text += strings.Join(s, "\n") + "\n" + tc.each
			}
			fingerprint := "a=fingerprint:sha-256 " + strings.Repeat("3C:", 31) + "3C\n"
			text = strings.ReplaceAll(strings.ReplaceAll(text, "FINGERPRINT", fingerprint), "\n", "\r\n")
			bearer := "Bearer " + w.publisherToken("room")
			res := w.do("POST", "/whip/demo/room", text, "Content-Type", typeSDP, "Authorization", bearer)
			location := res.header.Get("Location")
			if res.code != http.StatusCreated || location == "" || res.header.Get("ETag") == "" {
				t.Fatalf("%d, headers %v, %s\nto\n%s", res.code, res.header, res.body, text)
			}
			if !strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "http") {
				t.Errorf("Location %q is relative to the request: some clients resolve it wrongly", location)
			}
			for _, want := range []string{"a=setup:passive", "a=recvonly", "a=candidate:", "a=group:BUNDLE", "a=rtcp-mux"} {
				if !strings.Contains(res.body, want) {
					t.Errorf("the answer lacks %s:\n%s", want, res.body)
				}
			}
			for _, line := range append(order[0], order[1]...) {
				if strings.HasPrefix(line, "a=mid:") && !strings.Contains(res.body, line+"\r\n") {
					t.Errorf("the answer lacks %s", line)
				}
				if strings.HasPrefix(line, "m=") && strings.Contains(res.body, line[:7]+" 0 ") {
					t.Errorf("the answer rejects %s", line)
				}
			}
			// None of them trickles, sends If-Match or asks before it leaves.
			if gone := w.do("DELETE", location, "", "Authorization", bearer); gone.code != http.StatusOK {
				t.Errorf("DELETE: %d", gone.code)
			}
		})
	}
}
