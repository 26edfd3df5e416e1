package bench

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// edgeNode is one tern node in a process of its own.
type edgeNode struct{ name, region, access, admin string }

// edgeMesh starts nodes as processes of the real binary on loopback; every node enforces the policy before it returns.
func edgeMesh(b *testing.B, names ...string) []edgeNode {
	b.Helper()
	dir := b.TempDir()
	binary := filepath.Join(dir, "tern")
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/tern").CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	ca := filepath.Join(dir, "ca")
	if err := identity.InitCA(ca, "bench", time.Now().Add(-time.Hour)); err != nil {
		b.Fatal(err)
	}
	var nodes []edgeNode
	for i, name := range names {
		home := filepath.Join(dir, name)
		o := identity.IssueOptions{Node: name, Region: "r" + name, Voter: i == 0, Valid: 24 * time.Hour, NotBefore: time.Now().Add(-time.Hour)}
		if err := identity.Issue(ca, home, o); err != nil {
			b.Fatal(err)
		}
		n := edgeNode{name: name, region: o.Region, access: fmt.Sprintf("127.0.0.1:%d", 17910+i), admin: fmt.Sprintf("127.0.0.1:%d", 17920+i)}
		config := fmt.Sprintf("node: %s\ndata_dir: data\nidentity: {ca: %s/ca.crt, cert: %s.crt, key: %s.key}\n"+
			"mesh: {listen: \"127.0.0.1:%d\", join: [\"127.0.0.1:17900\"]}\ncontrol: {voter: %v, expect: 1}\naccess: {listen: %q, udp: %q}\nadmin: {listen: %q}\nlog: {level: error}\n",
			name, ca, name, name, 17900+i, o.Voter, n.access, n.access, n.admin)
		file := filepath.Join(home, "node.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			b.Fatal(err)
		}
		edgeStart(b, binary, "node", "--config", file)
		nodes = append(nodes, n)
	}
	edgePolicy(b, nodes)
	return nodes
}

// edgeStart starts a process and ends it, that one alone, with the benchmark.
func edgeStart(b *testing.B, binary string, args ...string) {
	b.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
}

// edgePolicy applies the policy through the first node and waits until all enforce it and know each other.
func edgePolicy(b *testing.B, nodes []edgeNode) {
	b.Helper()
	doc := "regions:\n"
	for _, n := range nodes {
		doc += fmt.Sprintf("  - id: %s\n", n.region)
	}
	doc += fmt.Sprintf("apps:\n  - {id: %s, certificates: [%s], auth: token}\n", edgeApp, edgeSecret)
	edgeUntil(b, "the policy is taken", func() bool {
		req, err := http.NewRequest(http.MethodPut, "http://"+nodes[0].admin+"/v1/policy", strings.NewReader(doc))
		if err != nil {
			b.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	for _, n := range nodes {
		edgeUntil(b, n.name+" enforces it", func() bool {
			resp, err := http.Get("http://" + n.admin + "/v1/status")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			var s node.Status
			return json.NewDecoder(resp.Body).Decode(&s) == nil && s.PolicyVersion > 0 && len(s.Members) == len(nodes) && len(s.Links) >= len(nodes)*(len(nodes)-1)
		})
	}
}

func edgeUntil(b *testing.B, what string, ok func() bool) {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("not within 30 s: %s", what)
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
func edgeRun(b *testing.B, in, out edgeNode, channel string) (h *hdrhistogram.Histogram, received uint64) {
	b.Helper()
	h = hdrhistogram.New(1, 10_000_000, 3)
	var mu sync.Mutex
	start := time.Now().Add(edgeWarmup)
	pub, err := client.Publish(b.Context(), client.Config{
		URL: "http://" + in.access + "/whip/" + edgeApp + "/" + channel, Token: edgeToken(b, token.CanPublishVideo, token.CanPublishAudio),
		Source: client.Synthetic{Size: edgeSize, PerSec: edgePerSec, Burst: 5, AudioHz: edgeAudio},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer pub.Close()
	watch := edgeToken(b, token.CanSubscribe)
	for range edgeViewers {
		v, err := client.View(b.Context(), client.Config{
			URL: "http://" + out.access + "/whep/" + edgeApp + "/" + channel, Token: watch,
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
// second node adds is the difference; the harness (51 clients) shares the machine with the nodes.
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
