package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/media"
)

// nowhere is a viewer's sink.
type nowhere struct{}

func (nowhere) Write(int, []byte) {}
func (nowhere) Ended(string)      {}

// BenchmarkAdminUnderLoad asks a real node with 1,000 published channels and 5,000 viewers through its admin socket: a scrape
// of the metrics, and the two answers that the console polls. Run: go test ./node -run '^$' -bench AdminUnderLoad.
func BenchmarkAdminUnderLoad(b *testing.B) {
	cfg := host(b, time.Hour*24)
	cfg.Log.Level = "error"
	cfg.Control.Expect = 1
	n := startBench(b, cfg)
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.cfg.adminSocket())
	}}}
	tracks := []media.Track{{Kind: media.KindVideo, Mime: "video/VP8", ClockRate: 90000}, {Kind: media.KindAudio, Mime: "audio/opus", ClockRate: 48000, Channels: 2}}
	for i := range 1000 {
		key := media.Key{App: "demo", Channel: fmt.Sprintf("channel-%d", i), Stream: "main"}
		pub, err := n.hub.Publish(key, tracks, func(int) {})
		if err != nil {
			b.Fatal(err)
		}
		defer pub.Close()
		for range 5 {
			sub, err := n.hub.Subscribe(b.Context(), key, nowhere{})
			if err != nil {
				b.Fatal(err)
			}
			defer sub.Close()
		}
	}
	for _, path := range []string{"/metrics", "/v1/console", "/v1/channels"} {
		b.Run(path[1:], func(b *testing.B) {
			var size int64
			for b.Loop() {
				resp, err := client.Get("http://tern" + path)
				if err != nil {
					b.Fatal(err)
				}
				if size, err = io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp.Status, err)
				}
				_ = resp.Body.Close()
			}
			b.ReportMetric(float64(size), "bytes")
		})
	}
}

// startBench runs a node with a policy of one open app until the benchmark ends.
func startBench(b *testing.B, cfg Config) *Node {
	b.Helper()
	n, err := New(cfg, Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		<-done
	})
	<-n.Ready()
	p := control.Policy{Regions: []control.Region{{ID: "eu"}}, Apps: []control.App{{ID: "demo", Certificates: []string{"a-secret-of-sixteen"}}}}
	n.enforcer.current.Store(translate(p))
	return n
}
