package node

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/node/console"
)

// world is a status as n000 of a mesh of n nodes in 20 regions sees it, with 32 neighbours each, braids to five of them, and
// what 1,000 channels look like to all.
func world(n int) (Status, []inventory) {
	rng := rand.New(rand.NewPCG(1, 2))
	at := make([][2]float64, n)
	centre := make([][2]float64, 20)
	for i := range centre {
		centre[i] = [2]float64{200 * rng.Float64(), 90 * rng.Float64()}
	}
	s := Status{Node: "n000", Mesh: "wide", Region: "r00", Version: "0.1.0", State: StateServing, PolicyVersion: 7, UptimeSeconds: 90_000, Filter: "go"}
	s.Control.Leader = "n001"
	for i := range n {
		c := centre[i%len(centre)]
		at[i] = [2]float64{c[0] + 6*rng.Float64(), c[1] + 6*rng.Float64()}
		m := MemberStatus{Node: fmt.Sprintf("n%03d", i), Region: fmt.Sprintf("r%02d", i%len(centre)), Alive: i%67 != 66, PolicyVersion: 7, State: StateServing, Sessions: i % 40}
		if i%50 == 49 {
			m.State = StateDraining
		}
		s.Members = append(s.Members, m)
	}
	for i := range n {
		for d := range 32 {
			j := (i + 1 + d*d) % n
			if i == j {
				continue
			}
			l := LinkStatus{From: s.Members[i].Node, To: s.Members[j].Node, LatencyMS: 0.3 + math.Hypot(at[i][0]-at[j][0], at[i][1]-at[j][1])}
			if i%31 == 0 && d == 0 {
				l.Loss = 0.04
			}
			s.Links = append(s.Links, l)
		}
	}
	paths := func(to int) (out []PathStatus) {
		for k, via := range []int{-1, to + 7, to + 13} {
			p := PathStatus{Hops: []string{"n000", s.Members[to].Node}, ID: uint8(k), Active: true, Alive: true, Sent: 120_000, Lost: uint64(300 * k), First: uint64(90_000 / (k + 1)), Rescued: uint64(250 * k), DelayMS: 40 + 11*float64(k)}
			if via > 0 {
				p.Hops = []string{"n000", s.Members[via].Node, s.Members[to].Node}
			}
			out = append(out, p)
		}
		return out
	}
	for _, to := range []int{5, 11, 40, 93, 150} {
		b := BraidStatus{Peer: s.Members[to].Node, Fence: "1a2b3c4d", PacketsSent: 120_000, PacketsDelivered: 119_990, Undelivered: 3, Repaired: 7, Out: paths(to), In: paths(to)}
		s.Braids = append(s.Braids, b)
	}
	parts := make([]inventory, n)
	for i := range parts {
		parts[i] = inventory{Node: s.Members[i].Node}
		for j := range 20 {
			c := (i*5 + j) % 1000
			h := media.Held{App: fmt.Sprintf("app-%d", c%7), Channel: fmt.Sprintf("channel-%03d", c), Stream: "main", Source: s.Members[c/5].Node, Published: c/5 == i, Viewers: 1 + (i*j)%9, SinceMS: 1_700_000_000_000}
			parts[i].Held = append(parts[i].Held, h)
		}
		if i > 0 {
			parts[i].Braids = []BraidStatus{{Peer: "n000", PacketsDelivered: 119_000, Undelivered: uint64(i % 3), Repaired: 5, In: paths(max(i%150, 1))}}
		}
	}
	return s, parts
}

// TestConsoleAtSize shows the console of 200 nodes and 1,000 channels to Chromium: what it sends, when it has painted, what
// looking on costs the node. TERN_CONSOLE_SHOTS names a folder for screenshots; without it there is no test.
// Run: TERN_CONSOLE_SHOTS=/tmp/shots go test ./node -run ConsoleAtSize -v
func TestConsoleAtSize(t *testing.T) {
	shots := os.Getenv("TERN_CONSOLE_SHOTS")
	if shots == "" {
		t.Skip("TERN_CONSOLE_SHOTS is not set")
	}
	status, parts := world(200)
	n := &Node{}
	n.channels.at, n.channels.last = time.Now().Add(time.Hour), assembleChannels(parts, maxChannels)
	var h history
	for i := range historyKept {
		h.observe(time.Now().Add(time.Duration(i-historyKept)*historyEvery), Sample{Sessions: 30 + i%20}, totals{in: uint64(i) * 5000})
	}
	mux := http.NewServeMux()
	mux.Handle("/", console.Handler())
	mux.HandleFunc("/v1/channels", n.serveChannels)
	mux.HandleFunc("/v1/history", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, h.since(0)) })
	mux.HandleFunc("/v1/console", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, consoleState(status, time.Now()))
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	plan, _ := json.Marshal(map[string]string{"page": server.URL + "/", "chromium": "/usr/bin/chromium", "self": "n000", "peer": "n011", "channel": n.channels.last.Channels[0].Channel, "shots": filepath.Join(shots, "wide-")})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", "../.ci/browser/console.mjs", string(plan)).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	t.Logf("%s", out)
	var seen struct {
		Paint, Shown  float64
		Nodes, Bytes  int
		PhoneOverflow int
		Faults        []string
	}
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Nodes != 200 || seen.Bytes > 1<<20 || seen.PhoneOverflow > 0 || len(seen.Faults) > 0 {
		t.Errorf("%+v", seen)
	}

	// The page asks for the state every 2 s and for channels every 10.
	before, err := processorTime()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for range 5 {
			doc, _ := json.Marshal(consoleState(status, time.Now()))
			_ = doc
		}
		doc, _ := json.Marshal(assembleChannels(parts, maxChannels).Channels[:100])
		_ = doc
	}
	after, _ := processorTime()
	t.Logf("one who looks on costs %.2f %% of a core", 100*(after-before).Seconds()/(20*10))
}
