package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// bubble is virtual time in a test.
func bubble(t *testing.T) Bubble {
	return func(f func()) error {
		synctest.Test(t, func(*testing.T) { f() })
		return nil
	}
}

func parse(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	return parseWith(t, text, func(name string) ([]byte, error) { return os.ReadFile("library/" + name) })
}

// parseWith reads a scenario whose other documents come from file.
func parseWith(t *testing.T, text string, file func(name string) ([]byte, error)) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse([]byte(text), file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// simulate runs a scenario, with these policies, in virtual time.
func simulate(t *testing.T, text string, policies map[string]string) *Report {
	t.Helper()
	return runIn(t, parseWith(t, text, func(name string) ([]byte, error) { return []byte(policies[name]), nil }))
}

func runIn(t *testing.T, s *scenario.Scenario) *Report {
	t.Helper()
	r, err := Run(t.Context(), s, Options{Bubble: bubble(t), Version: "test", Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// inMesh calls f in virtual time with a scenario's mesh that has formed.
func inMesh(t *testing.T, s *scenario.Scenario, f func(m *mesh)) {
	t.Helper()
	err := bubble(t)(func() {
		g, err := prepare(t.TempDir(), s)
		if err != nil {
			t.Error(err)
			return
		}
		m := newMesh(context.Background(), g, sim.New(s.Seed), Options{Bubble: bubble(t), Version: "test"})
		m.clock, m.note = &clock{t0: time.Now()}, t.Logf
		defer m.close()
		if err := m.form(); err != nil {
			t.Error(err)
			return
		}
		f(m)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// virtually runs a scenario in virtual time and demands that it is safe and live.
func virtually(t *testing.T, text string) *Report {
	t.Helper()
	r := runIn(t, parse(t, text))
	if !r.Safe {
		t.Errorf("replay with: go test -run '^%s$' ./sim/run\n%s", t.Name(), r.Summary())
	}
	return r
}

const small = `
name: small
duration: 8s
warmup: 2s
seed: 5
nodes:
  fra: {region: eu, city: Frankfurt}
  iad: {region: us, city: Ashburn}
  bom: {region: in, city: Mumbai}
  sin: {region: ap}
links:
  default: {delay: 30ms, jitter: 1ms, loss: 0.1%}
`

func TestABrownoutOfOneLinkIsCarriedByTheOtherPaths(t *testing.T) {
	r := virtually(t, small+`
streams:
  - {name: cam, from: fra, to: [sin], packets_per_second: 100, size: 600, app: demo, redundancy: full}
  - {name: local, from: fra, to: [fra], packets_per_second: 25, kind: audio, size: 100}
events:
  - {at: 3s, for: 4s, link: fra-sin, loss: 10%, one_way: true} # not enough for three probes in a row to be lost: the path stays
`)
	cam := r.Streams[0]
	if cam.Sent != 600 || cam.Delivered < 597 {
		t.Errorf("%d of %d delivered while one of three paths lost 10 %%", cam.Delivered, cam.Sent)
	}
	if len(cam.Paths) < 3 || cam.Paths[0].Sent == 0 || cam.CopiesPerPacket < 2.5 {
		t.Errorf("paths %+v, %.2f copies, want three paths with a copy on each", cam.Paths, cam.CopiesPerPacket)
	}
	rescued := uint64(0)
	for _, p := range cam.Paths {
		rescued += p.Rescued
	}
	// Over the link itself, or around it while it is taken for dead: probes may be unlucky.
	if rescued == 0 || cam.Latency.P50 < 30 || cam.Latency.P50 > 65 {
		t.Errorf("%d rescued, median %v ms over a link of 30 ms; paths %+v", rescued, cam.Latency.P50, cam.Paths)
	}
	if local := r.Streams[1]; local.Delivered != local.Sent || local.Latency.Max > 1 {
		t.Errorf("a viewer at the publisher's node got %d of %d within %v ms", local.Delivered, local.Sent, local.Latency.Max)
	}
	checkJSON(t, r)
	checkHTML(t, r)
	dir := t.TempDir()
	if err := r.WritePlots(dir); err != nil {
		t.Fatal(err)
	}
	for name, begin := range map[string]string{"map.svg": "<?xml", "cam-sin-latency.png": "\x89PNG", "cam-sin-cdf.svg": "<?xml", "local-fra-loss.png": "\x89PNG"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.HasPrefix(string(b), begin) {
			t.Errorf("%s: %v, begins with %.10q", name, err, b)
		}
	}
}

// checkJSON holds the report against the shape that tools rely on.
func checkJSON(t *testing.T, r *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	has := func(where string, m any, keys ...string) {
		for _, k := range keys {
			if _, ok := m.(map[string]any)[k]; !ok {
				t.Errorf("%s has no %q", where, k)
			}
		}
	}
	has("the report", doc, "name", "seed", "version", "wall_s", "streams", "nodes")
	stream := doc["streams"].([]any)[0].(map[string]any)
	has("a stream", stream, "name", "from", "to", "sent", "delivered", "undelivered_ratio", "latency_ms", "late_ratio", "longest_gap_ms",
		"freezes", "mos", "copies_per_packet", "duplicates_dropped", "paths")
	has("latency_ms", stream["latency_ms"], "p50", "p90", "p99", "p999", "max")
	has("a path", stream["paths"].([]any)[0], "hops", "sent", "lost", "first", "rescued")
	has("a node", doc["nodes"].([]any)[0], "name", "cpu_s", "bytes_sent", "bytes_received")
}

// checkHTML makes sure that the page loads nothing from elsewhere.
func checkHTML(t *testing.T, r *Report) {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if outside := regexp.MustCompile(`(?i)<(script|link|img|iframe|image)\b|\b(src|href)=|url\(|@import`).FindString(page); outside != "" {
		t.Errorf("the page refers to something with %q", outside)
	}
	if n := strings.Count(page, "<svg"); n < 5 {
		t.Errorf("%d plots, want the map and four of the stream", n)
	}
	if !strings.Contains(page, "sin loss 10%") {
		t.Error("the page does not tell of the event")
	}
}

func TestANodeThatDiesAndReturnsAndAPartitionEndInALiveMesh(t *testing.T) {
	r := virtually(t, small+`
streams:
  - {name: cam, from: fra, to: [sin], packets_per_second: 50, size: 300}
  - {name: out, from: bom, to: [sin], packets_per_second: 50, size: 300}
events:
  - {at: 3s, for: 2s, node: bom, action: kill}
  - {at: 6s, for: 1s, partition: [[fra, iad], [sin, bom]]}
`)
	if cam := r.Streams[0]; cam.UndeliveredRatio == 0 || cam.LongestGap < 1000 || cam.LongestGap > 1100 {
		t.Errorf("a second of partition cost %v of the packets, longest gap %v ms", cam.UndeliveredRatio, cam.LongestGap)
	}
	if bom := r.Nodes[0]; bom.Name != "bom" || bom.Starts != 2 || !bom.Alive {
		t.Errorf("%+v", bom)
	}
}

// Longer than gossip, sessions and subscriptions last: each has to come back by itself, and soon. In the worst case, once in a hundred
// runs, every node has just begun an attempt to join, which must fail (5 s) before it makes the next (3.75 s): not twice in a row.
func TestMediaIsBackSoonAfterALongPartition(t *testing.T) {
	var gaps []float64
	for range 2 {
		r := virtually(t, strings.Replace(small, "duration: 8s", "duration: 32s", 1)+`
streams:
  - {name: cam, from: fra, to: [sin], packets_per_second: 25, size: 300}
events:
  - {at: 3s, for: 14s, partition: [[fra, iad], [sin, bom]]}
`)
		gap := r.Streams[0].LongestGap
		if gaps = append(gaps, gap); gap < 14_000 || gap > 24_000 {
			break
		}
		if gap <= 17_000 {
			return
		}
	}
	t.Errorf("14 s of partition left gaps of %v ms", gaps)
}

func TestAViewerOutsideTheFenceGetsNothing(t *testing.T) {
	r := virtually(t, strings.Replace(small, "region: us,", "region: us-east,", 1)+`
policy: policy-base.yaml
streams:
  - {name: in, from: fra, to: [fra], app: european, packets_per_second: 25, size: 200}
  - {name: out, from: fra, to: [iad], app: european, packets_per_second: 25, size: 200}
`)
	if r.Streams[0].Delivered == 0 || !r.Streams[1].Refused || r.Streams[1].Delivered != 0 {
		t.Errorf("inside %d, outside %d (refused: %v)", r.Streams[0].Delivered, r.Streams[1].Delivered, r.Streams[1].Refused)
	}
}

func TestTheLibraryIsSound(t *testing.T) {
	names := Library()
	if len(names) < 14 {
		t.Errorf("%d scenarios: %v", len(names), names)
	}
	for _, name := range names {
		s, err := Load(name, 0)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if s.Name != name || s.About == "" || len(s.Streams) == 0 {
			t.Errorf("%s: named %q, about %q, %d streams", name, s.Name, s.About, len(s.Streams))
		}
		for _, n := range s.Nodes {
			if _, known := places[n.City]; n.City != "" && !known {
				t.Errorf("%s: maps do not know %q", name, n.City)
			}
		}
	}
	if _, err := Load("no-such-scenario", 0); err == nil || !strings.Contains(err.Error(), "tern sim list") {
		t.Errorf("%v", err)
	}
	if _, err := scenario.Parse([]byte(Example), nil); err != nil {
		t.Errorf("the example: %v", err)
	}
}

func TestASwarmIsDrawnFromItsSeed(t *testing.T) {
	for seed := range uint64(200) {
		once := swarmText("swarm", seed)
		if again := swarmText("swarm", seed); again != once {
			t.Fatalf("seed %d gave two scenarios", seed)
		}
		if s, err := Load("swarm", seed); err != nil || len(s.Events) < 5 {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if swarmText("swarm", 1) == swarmText("swarm", 2) {
		t.Error("two seeds gave one scenario")
	}
}

func TestARunThatIsBrokenOffSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := Run(ctx, parse(t, small+"streams: []\n"), Options{Bubble: bubble(t), Dir: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "scenario small, seed 5: context canceled") {
		t.Errorf("%v", err)
	}
}

func TestARunEndsWhenItShall(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	progress := new(Progress)
	s := parse(t, small+`
streams:
  - {name: cam, from: fra, to: [sin], packets_per_second: 50, size: 600}
`)
	s.Duration = 24 * time.Hour
	s.Streams[0].Stop = s.Duration
	go func() { // outside the bubble: as a signal comes
		for {
			if _, formed := progress.Now(); formed {
				cancel()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := Run(ctx, s, Options{Bubble: bubble(t), Dir: t.TempDir(), Progress: progress})
	if at, _ := progress.Now(); !errors.Is(err, context.Canceled) || at > 4*time.Minute {
		t.Errorf("a day that was interrupted as it began ended at %v with %v", at, err) // its first sample is at 4m45s
	}
}

func TestClientsBehindTranslatorsJoinAndChangeNetworks(t *testing.T) {
	// The publisher's node stands behind a translator of its own, and is reached at the address that it advertises.
	r := virtually(t, strings.Replace(small, "city: Frankfurt", "nat: static", 1)+`
streams:
  - name: phone
    from: fra
    to: [sin]
    kind: audio # an answer that refuses video must be usable from behind a translator too
    packets_per_second: 50
    size: 160
    webrtc: true
    nat: symmetric
    last_mile: {delay: 20ms, jitter: 2ms}
events:
  - {at: 4s, for: 200ms, last_mile: phone, action: down}
  - {at: 4200ms, last_mile: phone, action: handover}
  - {at: 6s, last_mile: phone, add_delay: 30ms}
`)
	phone := r.Streams[0]
	if phone.Sent != 300 || phone.Delivered < 200 || phone.LongestGap < 200 || phone.LongestGap > 2500 {
		t.Errorf("%d of %d delivered, longest gap %v ms: want a gap of the outage and a join, and the rest", phone.Delivered, phone.Sent, phone.LongestGap)
	}
	if phone.Latency.P50 < 70 || phone.Latency.Max < 120 {
		t.Errorf("latency %+v: want 70 ms and, after the last event, 60 more", phone.Latency)
	}
}

func TestJointLossTakesAllCopies(t *testing.T) {
	r := virtually(t, small+`
streams:
  - {name: cam, from: fra, to: [sin], packets_per_second: 100, size: 600, redundancy: full, deadline: 60ms}
events:
  - {at: 2s, node: fra, joint_loss: 10%}
`)
	if cam := r.Streams[0]; cam.LateRatio+cam.UndeliveredRatio < 0.02 {
		t.Errorf("%.3f late, %.3f undelivered: three paths of 10 %% each would lose a thousandth, and repair takes longer than 60 ms", cam.LateRatio, cam.UndeliveredRatio)
	}
}
