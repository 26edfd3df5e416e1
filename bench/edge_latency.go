package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ternmesh/tern/bench/load"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/access/token"
	"github.com/ternmesh/tern/node/gate"
)

const (
	edgeApp    = "bench"
	edgeSecret = "a-certificate-for-the-benchmark"
	// edgeViewers, edgePerSec, edgeSize and edgeAudio are the load that the peers' figures were taken with.
	edgeViewers = 50
	edgePerSec  = 150
	edgeSize    = 1188
	edgeBurst   = 5
	edgeAudio   = 50
	edgeFor     = 10 * time.Second
	edgeWarmup  = 2 * time.Second
)

func init() {
	register(Benchmark{
		Name:  "edge-latency",
		About: "WHIP to WHEP across two nodes against the same load through one: 50 WebRTC viewers on loopback.",
		Run:   runEdgeLatency,
	})
}

// runEdgeLatency runs both in turn. What the second node adds is the difference; the harness (51 clients) shares the
// machine with the nodes.
func runEdgeLatency(ctx context.Context, r *Recorder) (err error) {
	m, err := startEdgeMesh(ctx, (*exec.Cmd).Start, "a", "b")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	for i := range r.Repeat {
		one, err := m.run(ctx, edgeLoad(), 0, 0, fmt.Sprintf("one-%d", i))
		if err != nil {
			return err
		}
		two, err := m.run(ctx, edgeLoad(), 0, 1, fmt.Sprintf("two-%d", i))
		if err != nil {
			return err
		}
		r.Row(Row{Name: "one node, p50", Unit: "ms"}, one.Latency.P50)
		r.Row(Row{Name: "two nodes, p50", Unit: "ms", Baseline: "one node, p50"}, two.Latency.P50)
		r.Row(Row{Name: "one node, p99", Unit: "ms"}, one.Latency.P99)
		r.Row(Row{Name: "two nodes, p99", Unit: "ms", Baseline: "one node, p99"}, two.Latency.P99)
		r.Row(Row{Name: "added by the second node, p99", Unit: "ms"}, two.Latency.P99-one.Latency.P99)
		r.Row(Row{Name: "lost across two nodes", Unit: "%"}, 100*two.LostRatio)
		r.Row(Row{Name: "one node, processor time", Unit: "µs/packet"}, one.Server.MicrosPerPacket)
		r.Row(Row{Name: "egress of two nodes, processor time", Unit: "µs/packet", Baseline: "one node, processor time"}, two.Server.MicrosPerPacket)
	}
	r.Note("%d video packets/s of %d B in bursts of 5 and %d audio packets/s to each of %d viewers, for %v.", edgePerSec, edgeSize, edgeAudio, edgeViewers, edgeFor)
	return nil
}

// edgeNode is one tern node in a process of its own.
type edgeNode struct {
	name, region, access, admin string
	process                     *exec.Cmd
}

// edgeMesh is nodes as processes of this very binary, on loopback.
type edgeMesh struct {
	dir   string
	nodes []edgeNode
}

// startEdgeMesh returns when every node enforces the policy. start starts each.
func startEdgeMesh(ctx context.Context, start func(*exec.Cmd) error, names ...string) (m *edgeMesh, err error) {
	m = &edgeMesh{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if m.dir, err = os.MkdirTemp("", "tern-bench-"); err != nil {
		return m, err
	}
	binary, err := os.Executable()
	if err != nil {
		return m, err
	}
	ca := filepath.Join(m.dir, "ca")
	if err := identity.InitCA(ca, "bench", time.Now().Add(-time.Hour)); err != nil {
		return m, err
	}
	for i, name := range names {
		n, file, err := m.prepare(ca, i, name)
		if err != nil {
			return m, err
		}
		n.process = exec.Command(binary, "node", "--config", file)
		n.process.Stderr = os.Stderr
		if err := start(n.process); err != nil {
			return m, err
		}
		m.nodes = append(m.nodes, n)
	}
	return m, m.policy(ctx)
}

// prepare writes a node's certificate and configuration.
func (m *edgeMesh) prepare(ca string, i int, name string) (n edgeNode, file string, err error) {
	home := filepath.Join(m.dir, name)
	o := identity.IssueOptions{Node: name, Region: "r" + name, Voter: i == 0, Valid: 24 * time.Hour, NotBefore: time.Now().Add(-time.Hour)}
	if err := identity.Issue(ca, home, o); err != nil {
		return n, "", err
	}
	n = edgeNode{name: name, region: o.Region, access: fmt.Sprintf("127.0.0.1:%d", 17910+i), admin: fmt.Sprintf("127.0.0.1:%d", 17920+i)}
	config := fmt.Sprintf("node: %s\ndata_dir: data\nidentity: {ca: %s/ca.crt, cert: %s.crt, key: %s.key}\n"+
		"mesh: {listen: \"127.0.0.1:%d\", join: [\"127.0.0.1:17900\"]}\ncontrol: {voter: %v, expect: 1}\naccess: {listen: %q, udp: %q}\nadmin: {listen: %q}\nlog: {level: error}\n",
		name, ca, name, name, 17900+i, o.Voter, n.access, n.access, n.admin)
	file = filepath.Join(home, "node.yaml")
	return n, file, os.WriteFile(file, []byte(config), 0o600)
}

// close ends the processes, those alone, and removes their files.
func (m *edgeMesh) close() error {
	for _, n := range m.nodes {
		_ = n.process.Process.Signal(os.Interrupt) // one that has ended already is fine
	}
	for _, n := range m.nodes {
		_ = n.process.Wait()
	}
	return os.RemoveAll(m.dir)
}

// policy applies a policy through the first node and waits until all enforce it and know each other.
func (m *edgeMesh) policy(ctx context.Context) error {
	doc := "regions:\n"
	for _, n := range m.nodes {
		doc += fmt.Sprintf("  - id: %s\n", n.region)
	}
	doc += fmt.Sprintf("apps:\n  - {id: %s, certificates: [%s], auth: token}\n", edgeApp, edgeSecret)
	err := eventually(ctx, "the policy is taken", func() bool {
		return m.admin(ctx, m.nodes[0], http.MethodPut, "/v1/policy", doc, nil)
	})
	for _, n := range m.nodes {
		if err != nil {
			break
		}
		err = eventually(ctx, n.name+" enforces it", func() bool {
			var s node.Status
			return m.admin(ctx, n, http.MethodGet, "/v1/status", "", &s) && s.PolicyVersion > 0 && len(s.Members) == len(m.nodes) && len(s.Links) >= len(m.nodes)*(len(m.nodes)-1)
		})
	}
	return err
}

// admin sends a request to a node's admin socket; false if it failed.
func (m *edgeMesh) admin(ctx context.Context, n edgeNode, method, path, body string, into any) bool {
	client, base, err := gate.Target{Address: filepath.Join(m.dir, n.name, "data", "admin.sock")}.Client()
	if err != nil {
		return false
	}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(body))
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode == http.StatusOK && (into == nil || json.NewDecoder(resp.Body).Decode(into) == nil)
}

// eventually waits until something holds, at most half a minute.
func eventually(ctx context.Context, what string, ok func() bool) error {
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("not within 30 s: %s", what)
		}
	}
	return nil
}

// edgeLoad is the load of both: that of the peers' figures, for edgeViewers.
func edgeLoad() load.Config {
	return load.Config{
		Publishers: 1, Viewers: edgeViewers, Size: edgeSize, Rate: edgePerSec, Burst: edgeBurst, Audio: edgeAudio, Warmup: edgeWarmup, For: edgeFor,
	}
}

// run publishes at one node and watches at another (or the same).
func (m *edgeMesh) run(ctx context.Context, c load.Config, in, out int, channel string) (*load.Result, error) {
	c.WHIP = "http://" + m.nodes[in].access + "/whip/" + edgeApp + "/" + channel
	c.WHEP = "http://" + m.nodes[out].access + "/whep/" + edgeApp + "/" + channel
	c.PID = m.nodes[out].process.Process.Pid
	var err1, err2 error
	c.PublishToken, err1 = edgeToken(token.CanPublishVideo, token.CanPublishAudio)
	c.ViewToken, err2 = edgeToken(token.CanSubscribe)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return load.Run(ctx, c)
}

func edgeToken(can ...string) (string, error) {
	return token.Create(token.CreateOptions{
		Format: token.FormatJWT, App: edgeApp, Certificate: edgeSecret, Channel: "*", Now: time.Now(), TTL: time.Hour, Can: can,
	})
}
