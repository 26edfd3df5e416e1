package bench

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/access/token"
)

const (
	edgeApp    = "bench"
	edgeSecret = "a-certificate-for-the-benchmark"
	// edgeViewers, edgePerSec, edgeSize and edgeAudio are the load that the peers' figures were taken with.
	edgeViewers = 50
	edgePerSec  = 150
	edgeSize    = 1188
	edgeAudio   = 50
	edgeFor     = 10 * time.Second
	edgeWarmup  = 2 * time.Second
)

// edgeMesh is a few real nodes on loopback in this process; every node hears about the policy before it returns.
func edgeMesh(b *testing.B, names ...string) []*node.Node {
	b.Helper()
	dir := b.TempDir()
	ca := filepath.Join(dir, "ca")
	if err := identity.InitCA(ca, "bench", time.Now().Add(-time.Hour)); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	b.Cleanup(func() { cancel(); done.Wait() })
	var nodes []*node.Node
	for i, name := range names {
		home := filepath.Join(dir, name)
		err := identity.Issue(ca, home, identity.IssueOptions{Node: name, Region: "r" + name, Voter: i == 0, Valid: 24 * time.Hour, NotBefore: time.Now().Add(-time.Hour)})
		if err != nil {
			b.Fatal(err)
		}
		cfg := node.Config{Node: name, DataDir: filepath.Join(home, "data")}
		cfg.Identity = node.IdentityConfig{CA: filepath.Join(ca, "ca.crt"), Cert: filepath.Join(home, name+".crt"), Key: filepath.Join(home, name+".key")}
		cfg.Mesh.Listen = fmt.Sprintf("127.0.0.1:%d", 17900+i)
		cfg.Mesh.Join = []string{"127.0.0.1:17900"}
		cfg.Control.Voter = i == 0
		cfg.Access.Listen, cfg.Access.UDP, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		n, err := node.New(cfg, node.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
		if err != nil {
			b.Fatal(err)
		}
		done.Add(1)
		go func() {
			defer done.Done()
			if err := n.Run(ctx); err != nil {
				b.Errorf("%s: %v", name, err)
			}
		}()
		<-n.Ready()
		nodes = append(nodes, n)
	}
	edgePolicy(b, nodes)
	return nodes
}

func edgePolicy(b *testing.B, nodes []*node.Node) {
	b.Helper()
	doc := "regions:\n"
	for _, n := range nodes {
		doc += fmt.Sprintf("  - id: %s\n", n.Region())
	}
	doc += fmt.Sprintf("apps:\n  - {id: %s, certificates: [%s], auth: token}\n", edgeApp, edgeSecret)
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := nodes[0].ApplyPolicy(b.Context(), []byte(doc), "bench")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			b.Fatalf("no policy within 30 s: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, n := range nodes {
		for n.Status().PolicyVersion == 0 || len(n.Status().Members) < len(nodes) {
			if time.Now().After(deadline) {
				b.Fatalf("%s has no policy", n.Name())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

func edgeToken(b *testing.B, can ...string) string {
	b.Helper()
	t, err := token.Create(token.CreateOptions{
		Format: token.FormatJWT, App: edgeApp, Certificate: edgeSecret, Channel: "*", Now: time.Now(), TTL: time.Hour, Can: can,
	})
	if err != nil {
		b.Fatal(err)
	}
	return t
}

// edgeRun publishes at in and watches at out with edgeViewers viewers; the histogram is of microseconds from the
// publisher's send to each viewer's receive.
func edgeRun(b *testing.B, in, out *node.Node, channel string) (h *hdrhistogram.Histogram, received uint64) {
	b.Helper()
	h = hdrhistogram.New(1, 10_000_000, 3)
	var mu sync.Mutex
	start := time.Now().Add(edgeWarmup)
	pub, err := client.Publish(b.Context(), client.Config{
		URL: in.AccessURL() + "/whip/" + edgeApp + "/" + channel, Token: edgeToken(b, token.CanPublishVideo, token.CanPublishAudio),
		Source: client.Synthetic{Size: edgeSize, PerSec: edgePerSec, Burst: 5, AudioHz: edgeAudio},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer pub.Close()
	watch := edgeToken(b, token.CanSubscribe)
	for range edgeViewers {
		v, err := client.View(b.Context(), client.Config{
			URL: out.AccessURL() + "/whep/" + edgeApp + "/" + channel, Token: watch,
			OnPacket: func(_ string, p *rtp.Packet, at time.Time) {
				_, sent, ok := client.Stamp(p.Payload)
				if !ok || sent.Before(start) {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				received++
				_ = h.RecordValue(max(1, at.Sub(sent).Microseconds()))
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		defer v.Close()
	}
	start = time.Now().Add(edgeWarmup) // the joins are not what is measured
	time.Sleep(edgeWarmup + edgeFor)
	mu.Lock()
	defer mu.Unlock()
	return h, received
}

// BenchmarkEdgeLatency compares WHIP to WHEP across two nodes with the same load through one node, in one run. What the
// second node adds is the difference; the harness (51 clients) shares the two cores with the nodes.
func BenchmarkEdgeLatency(b *testing.B) {
	nodes := edgeMesh(b, "a", "b")
	for i := 0; b.Loop(); i++ {
		one, _ := edgeRun(b, nodes[0], nodes[0], fmt.Sprintf("one-%d", i))
		two, received := edgeRun(b, nodes[0], nodes[1], fmt.Sprintf("two-%d", i))
		want := uint64(edgeViewers * (edgePerSec + edgeAudio) * int(edgeFor.Seconds()))
		b.ReportMetric(ms(one.ValueAtQuantile(50)), "one-node-p50-ms")
		b.ReportMetric(ms(one.ValueAtQuantile(99)), "one-node-p99-ms")
		b.ReportMetric(ms(two.ValueAtQuantile(50)), "two-nodes-p50-ms")
		b.ReportMetric(ms(two.ValueAtQuantile(99)), "two-nodes-p99-ms")
		b.ReportMetric(ms(two.ValueAtQuantile(99))-ms(one.ValueAtQuantile(99)), "added-p99-ms")
		b.ReportMetric(float64(received)/float64(want), "delivered-share")
	}
}

func ms(micros int64) float64 { return float64(micros) / 1000 }
