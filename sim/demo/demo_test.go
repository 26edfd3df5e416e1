package demo

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"
	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/bench/client"
	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/access/token"
	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/demo/page"
)

func TestTheCitiesMakeAWideArea(t *testing.T) {
	for i := range cities {
		for j := range cities {
			there, back := roundTripMS[i][j], roundTripMS[j][i]
			if i == j && there != 0 || i != j && (there < 50 || math.Abs(there-back) > 2) {
				t.Errorf("%s to %s takes %v ms, back %v ms", cities[i].node, cities[j].node, there, back)
			}
			if i == j {
				continue
			}
			l := wanLink(i, j)
			if err := l.Validate(); err != nil || l.Loss != normalLoss {
				t.Errorf("%s to %s: %+v: %v", cities[i].node, cities[j].node, l, err)
			}
			if mean := l.Delay + l.Jitter; math.Abs(mean.Seconds()*2000-there) > 0.01 {
				t.Errorf("%s to %s: one-way mean %v, the round trip is %v ms", cities[i].node, cities[j].node, mean, there)
			}
		}
	}
	voters := 0
	for _, c := range cities {
		if c.voter {
			voters++
		}
	}
	if voters != 3 {
		t.Errorf("%d voters, want three", voters)
	}
}

func TestTheGroundIsSound(t *testing.T) {
	g, err := prepare(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range cities {
		cfg := g.config(i)
		if _, err := node.New(cfg, node.Options{Logger: slog.New(slog.DiscardHandler)}); err != nil {
			t.Errorf("a node refuses its configuration: %v", err)
		}
		if cfg.Control.Expect != 3 || len(cfg.Mesh.Join) != len(cities)-1 {
			t.Errorf("%s expects %d voters and joins %v", cfg.Node, cfg.Control.Expect, cfg.Mesh.Join)
		}
	}
	p, err := control.Parse(g.policy())
	if err != nil {
		t.Fatalf("the policy is not one: %v\n%s", err, g.policy())
	}
	if len(p.Apps) != 1 || len(p.FenceRegions(p.Apps[0])) != len(cities) {
		t.Errorf("policy %+v, want one app in all six regions", p)
	}
	tok, err := g.token()
	if err != nil {
		t.Fatal(err)
	}
	app := token.App{ID: appID, Certificates: p.Apps[0].Certificates, Auth: p.Apps[0].Auth}
	for _, channel := range []string{testChannel, "camera", headlessChannel} {
		grant, err := token.Verify(tok, app, channel, time.Now())
		if err != nil || grant.PublishVideo.IsZero() || grant.Subscribe.IsZero() {
			t.Errorf("the token does not open channel %s: %+v, %v", channel, grant, err)
		}
	}
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for what, o := range map[string]Options{
		"--for 5s":                  {Headless: true, For: 5 * time.Second},
		"--report needs --headless": {Report: "x.json"},
	} {
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want an error that mentions %q", err, what)
		}
	}
}

// fakeNode is a member that only says what a test wants.
type fakeNode struct {
	cfg   node.Config
	ready chan struct{}
	http  *httptest.Server
	mu    sync.Mutex
	braid []node.BraidStatus // guarded by mu
}

func (f *fakeNode) Run(ctx context.Context) error {
	close(f.ready)
	<-ctx.Done()
	f.http.Close()
	return nil
}
func (f *fakeNode) Ready() <-chan struct{}                            { return f.ready }
func (f *fakeNode) AccessURL() string                                 { return f.http.URL }
func (f *fakeNode) AdminURL() string                                  { return f.http.URL }
func (f *fakeNode) ApplyPolicy(context.Context, []byte, string) error { return nil }
func (f *fakeNode) Status() node.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := node.Status{Node: f.cfg.Node, PolicyVersion: 1, Braids: f.braid}
	for _, a := range cities {
		s.Members = append(s.Members, node.MemberStatus{Node: a.node, Alive: true})
		for _, b := range cities {
			if a != b {
				s.Links = append(s.Links, node.LinkStatus{From: a.node, To: b.node, LatencyMS: 1})
			}
		}
	}
	return s
}

// carries makes a node report media from a peer over the direct path and two relayed ones.
func (f *fakeNode) carries(peer string, packets uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	self := f.cfg.Node
	f.braid = []node.BraidStatus{{Peer: peer, PacketsDelivered: packets, In: []node.PathStatus{
		{Hops: []string{peer, self}, Active: true, Alive: true, Sent: packets, First: packets / 2},
		{Hops: []string{peer, "singapore", self}, Active: true, Alive: true, Sent: packets, First: packets / 3},
		{Hops: []string{peer, "ashburn", self}, Active: true, Alive: true, Sent: packets, First: packets / 6},
	}}}
}

// fakeClients hand the publisher's packets nowhere.
type fakeClients struct {
	mu        sync.Mutex
	published []string // guarded by mu
}

type fakeSession struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func (f *fakeSession) Close() error          { f.cancel(); <-f.ended; return nil }
func (f *fakeSession) Done() <-chan struct{} { return f.ended }

func (f *fakeClients) Publish(_ context.Context, url, _ string, source client.Source) (session, error) {
	f.mu.Lock()
	f.published = append(f.published, url)
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	s := &fakeSession{cancel, make(chan struct{})}
	go func() {
		defer close(s.ended)
		_ = source.Run(ctx, nil, func(int, *rtp.Packet) error { return nil })
	}()
	return s, nil
}

func (f *fakeClients) Watch(context.Context, string, string, func(string, *rtp.Packet)) (session, error) {
	return nil, errors.New("not in this test")
}

// fakeStage is a stage over fake nodes; the cluster has formed. It ends with the test.
func fakeStage(t *testing.T) (*stage, map[string]*fakeNode, *fakeClients) {
	t.Helper()
	nodes := make(map[string]*fakeNode)
	var mu sync.Mutex
	make := func(cfg node.Config, _ *sim.Host, _ *slog.Logger) (meshNode, error) {
		n := &fakeNode{cfg: cfg, ready: make(chan struct{})}
		n.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusOK)
		}))
		if cfg.Access.Listen != "127.0.0.1:0" { // revived: where it was
			_ = n.http.Listener.Close()
			ln, err := net.Listen("tcp", cfg.Access.Listen)
			if err != nil {
				return nil, err
			}
			n.http.Listener = ln
		}
		n.http.Start()
		mu.Lock()
		defer mu.Unlock()
		nodes[cfg.Node] = n
		return n, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	group, inside := errgroup.WithContext(ctx)
	network := sim.New(1)
	t.Cleanup(func() {
		cancel()
		if err := group.Wait(); err != nil {
			t.Errorf("the cluster ended with %v", err)
		}
		network.Close()
	})
	c := newCluster(inside, group, &ground{dir: t.TempDir(), certificate: "0123456789abcdef0123456789abcdef"}, network, make, slog.New(slog.DiscardHandler))
	if err := c.form(ctx); err != nil {
		t.Fatal(err)
	}
	clients := &fakeClients{}
	return newStage(c, clients), nodes, clients
}

// look lets the stage see the nodes once, as its run does on every tick.
func (s *stage) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.flows.observe(time.Now(), s.cluster.statuses())
	s.shape()
}

func act(t *testing.T, s *stage, a page.Action) {
	t.Helper()
	if err := s.Act(t.Context(), a); err != nil {
		t.Fatalf("%+v: %v", a, err)
	}
}

func TestKillingARelayAndHealing(t *testing.T) {
	s, nodes, _ := fakeStage(t)
	nodes["tokyo"].carries("frankfurt", 600)
	s.look()
	before := s.State()
	if len(before.Flows) != 1 || len(before.Flows[0].Paths) != 3 {
		t.Fatalf("flows %+v, want one with three paths", before.Flows)
	}
	act(t, s, page.Action{Do: page.KillRelay, From: "frankfurt", To: "tokyo"})
	after := s.State()
	if after.Cities[2].Node != "singapore" || after.Cities[2].Alive {
		t.Errorf("Singapore, the relay with the most first arrivals, lives on: %+v", after.Cities)
	}
	if err := s.Act(t.Context(), page.Action{Do: page.KillRelay, From: "tokyo", To: "sydney"}); err == nil {
		t.Error("a relay was killed where nothing flows")
	}
	act(t, s, page.Action{Do: page.Heal})
	healed := s.State()
	if !healed.Cities[2].Alive || healed.Cities[2].AccessURL != before.Cities[2].AccessURL {
		t.Errorf("Singapore after healing: %+v, want it alive at %s", healed.Cities[2], before.Cities[2].AccessURL)
	}
	if last := healed.Events[len(healed.Events)-1].Text; !strings.Contains(last, "Singapore restarted") {
		t.Errorf("the log ends with %q", last)
	}
}

func TestLossFallsOnceOnEveryPath(t *testing.T) {
	s, nodes, _ := fakeStage(t)
	nodes["tokyo"].carries("frankfurt", 600)
	s.look()
	act(t, s, page.Action{Do: page.Lose})
	for link, want := range map[[2]string]float64{
		{"frankfurt", "tokyo"}: lossyLoss, {"singapore", "tokyo"}: lossyLoss, {"tokyo", "ashburn"}: lossyLoss,
		{"frankfurt", "singapore"}: normalLoss, {"ashburn", "frankfurt"}: normalLoss,
	} {
		if got := s.cluster.net.Link(link[0], link[1]).Loss; got != want {
			t.Errorf("%s to %s loses %v, want %v", link[0], link[1], got, want)
		}
	}
	act(t, s, page.Action{Do: page.StopLosing})
	if got := s.cluster.net.Link("frankfurt", "tokyo").Loss; got != normalLoss {
		t.Errorf("after stopping it loses %v", got)
	}
}

func TestCuttingTheDirectLink(t *testing.T) {
	s, nodes, _ := fakeStage(t)
	if err := s.Act(t.Context(), page.Action{Do: page.KillDirect, From: "frankfurt", To: "tokyo"}); err == nil {
		t.Error("a link was cut where nothing flows")
	}
	nodes["tokyo"].carries("frankfurt", 600)
	s.look()
	act(t, s, page.Action{Do: page.KillDirect, From: "frankfurt", To: "tokyo"})
	n := s.cluster.net
	if !n.Link("frankfurt", "tokyo").Down || !n.Link("tokyo", "frankfurt").Down || n.Link("frankfurt", "sydney").Down {
		t.Error("want exactly the link between Frankfurt and Tokyo down, both ways")
	}
	act(t, s, page.Action{Do: page.Heal})
	if n.Link("frankfurt", "tokyo").Down {
		t.Error("the link is still down after healing")
	}
}

func TestTheTestStreamStartsMovesAndStops(t *testing.T) {
	s, _, clients := fakeStage(t)
	act(t, s, page.Action{Do: page.TestStart, City: "frankfurt"})
	act(t, s, page.Action{Do: page.TestStart, City: "sydney"})
	if got := s.State().TestCity; got != "sydney" {
		t.Errorf("the stream is at %q", got)
	}
	if len(clients.published) != 2 || !strings.HasSuffix(clients.published[1], "/whip/demo/test") {
		t.Errorf("published at %v", clients.published)
	}
	act(t, s, page.Action{Do: page.TestStop})
	if got := s.State().TestCity; got != "" {
		t.Errorf("after stopping it is at %q", got)
	}
	for _, a := range []page.Action{{Do: page.TestStart, City: "atlantis"}, {Do: "dance"}} {
		if err := s.Act(t.Context(), a); err == nil {
			t.Errorf("%+v was done", a)
		}
	}
}

func TestFlowsShowLossOfTheWindowAndForgetWhatEnded(t *testing.T) {
	f := newFlows()
	now := time.Unix(1000, 0)
	status := func(sent, lost, delivered uint64, paths ...string) []node.Status {
		b := node.BraidStatus{Peer: "a", PacketsDelivered: delivered}
		out := node.BraidStatus{Peer: "b"}
		for _, p := range paths {
			hops := strings.Split(p, " ")
			b.In = append(b.In, node.PathStatus{Hops: hops, Active: true, Alive: true, Lost: lost})
			out.Out = append(out.Out, node.PathStatus{Hops: hops, Active: true, Alive: true, Sent: sent})
		}
		return []node.Status{{Node: "b", Braids: []node.BraidStatus{b}}, {Node: "a", Braids: []node.BraidStatus{out}}}
	}
	f.observe(now, status(1000, 10, 900, "a b", "a r b"))
	got := f.observe(now.Add(time.Second), status(2000, 60, 1900, "a b", "a r b"))
	if len(got) != 1 || len(got[0].Paths) != 2 || got[0].Paths[0].LossPercent != 5 {
		t.Fatalf("%+v, want one flow, two paths, 5 %% loss (50 of 1,000)", got)
	}
	got = f.observe(now.Add(2*time.Second), status(3000, 60, 2900, "a b"))
	if p := got[0].Paths[1]; p.Active || p.Alive || p.Sent != 2000 {
		t.Errorf("a path that left is shown as %+v", p)
	}
	got = f.observe(now.Add(20*time.Second), status(3000, 60, 2900, "a b"))
	if len(got) != 0 {
		t.Errorf("a flow without packets is still shown: %+v", got)
	}
}
