package demo

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pion/rtp"
)

// cameraChannel is where the page publishes and watches cameras.
const cameraChannel = "camera"

// ffmpeg's own default packet size stays: 1,472 bytes, more than a path frame carries, so packets cross in fragments.
var ffmpegVideo = map[string][]string{
	"VP8": {"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M", "-g", "25"},
	"H264": {"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-pix_fmt", "yuv420p",
		"-b:v", "1M", "-g", "25", "-x264-params", "repeat-headers=1"},
}

func TestEndToEndFfmpegToBrowser(t *testing.T) {
	unraced(t)
	tools := browserTools(t)
	ffmpeg := tool(t, "ffmpeg")
	encoders, err := exec.Command(ffmpeg, "-hide_banner", "-encoders").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, codec := range []string{"VP8", "H264"} {
		t.Run(codec, func(t *testing.T) {
			if !strings.Contains(string(encoders), ffmpegVideo[codec][1]) {
				missing(t, "ffmpeg has no "+ffmpegVideo[codec][1])
			}
			s, url := realStage(t, nil) // one for each: a stream that ended is still known elsewhere for a moment
			s.ffmpegToBrowser(t, tools, ffmpeg, codec, url)
		})
	}
}

func (s *stage) ffmpegToBrowser(t *testing.T, tools tools, ffmpeg, codec, url string) {
	t.Helper()
	ports := s.openRTP(t, codec)
	args := []string{"-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-re", "-f", "lavfi", "-i", "sine=frequency=440"}
	args = append(args, "-map", "0:v")
	args = append(args, ffmpegVideo[codec]...)
	args = append(args, "-payload_type", "96", "-f", "rtp", fmt.Sprintf("rtp://127.0.0.1:%d", ports["video"]),
		"-map", "1:a", "-c:a", "libopus", "-ac", "2", "-b:a", "64k", "-payload_type", "111", "-f", "rtp", fmt.Sprintf("rtp://127.0.0.1:%d", ports["audio"]))
	background(t, ffmpeg, args...)

	var longest atomic.Int64
	base, err := s.cluster.accessURL(watchAt)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := s.Session()
	if err != nil {
		t.Fatal(err)
	}
	// A second viewer, which does not decode, sees how long the packets are.
	ruler := watchSoon(t, s.cluster, whep(base, cameraChannel), entry.Token, func(kind string, p *rtp.Packet) {
		if n := int64(p.MarshalSize()); kind == "video" && n > longest.Load() {
			longest.Store(n)
		}
	})
	defer closing(s.cluster.log, "ruler", ruler)

	got := browse(t, tools, plan{
		Page: url, Watch: watchAt, Screenshot: artefact(t, "ffmpeg-"+codec+".png"),
		Phases: []phase{{Name: codec, Settle: 4, Seconds: 8}},
	}, nil)[codec]
	got.grows(t, 15)
	if last := got.last(); last.Width != 640 || last.Height != 360 || last.KeyFrames == 0 {
		t.Errorf("the browser decoded %+v, want 640x360 with keyframes", last)
	}
	if n := longest.Load(); n < 1400 {
		t.Errorf("the longest video packet had %d bytes; ffmpeg's default is about 1,472", n)
	} else {
		t.Logf("%s: the longest video packet had %d bytes", codec, n)
	}
}

// openRTP opens a plain RTP ingest at the publisher's city for the channel that the page watches; the ports by kind.
func (s *stage) openRTP(t *testing.T, codec string) map[string]int {
	t.Helper()
	base, err := s.cluster.accessURL(publishAt)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := s.Session()
	if err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"tracks":[{"kind":"video","codec":%q,"payload_type":96},{"kind":"audio","codec":"opus","payload_type":111}]}`, codec)
	answer := ask(t, http.MethodPost, base+"/v1/apps/"+appID+"/channels/"+cameraChannel+"/rtp", entry.Token, body)
	if answer.code != http.StatusCreated {
		t.Fatalf("the RTP ingest answered %d: %s", answer.code, answer.body)
	}
	ports := make(map[string]int)
	for line := range strings.Lines(answer.body) {
		var kind string
		var port int
		if n, _ := fmt.Sscanf(line, "m=%s %d", &kind, &port); n == 2 {
			ports[kind] = port
		}
	}
	if ports["video"] == 0 || ports["audio"] == 0 {
		t.Fatalf("the ingest's SDP names no ports: %s", answer.body)
	}
	return ports
}

type reply struct {
	code int
	body string
}

// ask sends one request with a token.
func ask(t *testing.T, method, url, token, body string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		t.Fatal(err)
	}
	return reply{answer.StatusCode, string(text)}
}
