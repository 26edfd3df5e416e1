package access

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
)

// warmFfmpeg starts ffmpeg once: its first start on a machine, with all libraries still on a busy disk, may take longer than an
// ingest waits for a first packet.
var warmFfmpeg = sync.OnceFunc(func() {
	_ = exec.Command("ffmpeg", strings.Fields("-nostdin -f lavfi -i testsrc2=size=64x64:rate=25 -f lavfi -i sine -map 0 -c:v libvpx -map 1 -c:a libopus -ac 2 -t 0.1 -f matroska -y /dev/null")...).Run()
})

func TestFfmpegFeedsThePlainRTPIngest(t *testing.T) {
	if testing.Short() {
		t.Skip("starts ffmpeg")
	}
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("ffmpeg is not installed; CI must have it")
		}
		t.Skip("ffmpeg is not installed")
	}
	warmFfmpeg()
	w := newWorld(t, nil)
	res := w.do("POST", "/v1/apps/open/channels/room/rtp", "")
	if res.code != 201 {
		t.Fatalf("%d %s", res.code, res.body)
	}
	ports := portsOf(t, res.body)
	var longest atomic.Int64
	v := w.view("/whep/open/room", "", client.Config{OnPacket: func(kind string, p *rtp.Packet, _ time.Time) {
		if n := int64(len(p.Payload)); kind == "video" && n > longest.Load() {
			longest.Store(n)
		}
	}})
	// ffmpeg's own packet size (1,472 bytes) on purpose.
	cmd := exec.Command(ffmpeg, "-nostdin", "-hide_banner", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-f", "lavfi", "-i", "sine",
		"-map", "0", "-c:v", "libvpx", "-deadline", "realtime", "-b:v", "2M", "-payload_type", "96", "-f", "rtp", fmt.Sprintf("rtp://127.0.0.1:%d", ports["video"]),
		"-map", "1", "-c:a", "libopus", "-ac", "2", "-payload_type", "111", "-f", "rtp", fmt.Sprintf("rtp://127.0.0.1:%d", ports["audio"]))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = nil, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("ffmpeg: %s", said.String())
		}
	}()
	w.until("100 video and 50 audio packets, some of them long", func() bool {
		s := v.Stats()
		return s.Packets["video"] > 100 && s.Packets["audio"] > 50 && longest.Load() > 1400
	})
}
