package bench

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/sim/run"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// growthFor is how long each mesh lives after it has formed.
const growthFor = 20 * time.Second

func init() {
	register(Benchmark{
		Name:  "growth",
		About: "What one more node, viewer, stream or app costs, in virtual time: processor time and bytes against N, with the exponent.",
		Run:   runGrowth,
	})
}

// growth is one thing that grows.
type growth struct {
	what  string
	sizes []int
	text  func(n int) string // the scenario
}

var growths = []growth{
	{"nodes", []int{6, 12, 24, 48}, func(n int) string { return growthMesh(n, 1, 1) }},
	{"viewers at one node", []int{10, 40, 160, 640}, func(n int) string { return growthMesh(4, 1, n) }},
	{"streams between two nodes", []int{2, 8, 32, 128}, func(n int) string { return growthMesh(4, n, 1) }},
	{"channels of one stream each", []int{2, 8, 32, 128}, growthChannels},
}

// growthChannels is the streams of growthMesh, each in a channel of its own and with fewer packets: what the directory costs.
func growthChannels(n int) string {
	text := growthMesh(4, n, 1)
	for i := range n {
		text = strings.Replace(text, fmt.Sprintf("{name: s%d, ", i), fmt.Sprintf("{name: s%d, channel: c%d, ", i, i), 1)
	}
	return strings.ReplaceAll(text, "packets_per_second: 25", "packets_per_second: 2")
}

// growthMesh is a scenario of so many nodes with streams of 25 packets/s from the first node to the last.
func growthMesh(nodes, streams, viewers int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name: growth\nduration: %v\nwarmup: 2s\nseed: 5\nnodes:\n", growthFor)
	for i := range nodes {
		fmt.Fprintf(&b, "  n%03d: {region: r%d}\n", i, i%4)
	}
	b.WriteString("links:\n  default: {delay: 30ms, jitter: 500us, loss: 0.1%}\nstreams:\n")
	for i := range streams {
		fmt.Fprintf(&b, "  - {name: s%d, from: n000, to: [n%03d], packets_per_second: 25, size: 600, viewers: %d}\n", i, nodes-1, viewers)
	}
	return b.String()
}

// runGrowth measures each size once: the exponent comes from all of them. Without its formation a run cannot be had, so a run of no
// length is taken away from each.
func runGrowth(ctx context.Context, r *Recorder) error {
	for _, g := range growths {
		var cpu, wire []Point
		for _, n := range g.sizes {
			seconds, bytes, err := growthCost(ctx, r, g.text(n))
			if err != nil {
				return fmt.Errorf("%s, %d: %w", g.what, n, err)
			}
			cpu, wire = append(cpu, Point{float64(n), seconds}), append(wire, Point{float64(n), bytes})
		}
		r.Curve(Curve{Name: g.what + ": processor time", X: g.what, Y: "seconds for each simulated second, whole mesh", Points: cpu})
		r.Curve(Curve{Name: g.what + ": bytes", X: g.what, Y: "bytes on all links a second", Points: wire})
	}
	var parse, size []Point
	for _, n := range []int{10, 100, 1000, 5000} {
		doc := growthPolicy(n)
		began, rounds := time.Now(), 0
		for ; time.Since(began) < 200*time.Millisecond; rounds++ {
			if _, err := control.Parse(doc); err != nil {
				return fmt.Errorf("a policy of %d apps: %w", n, err)
			}
		}
		parse = append(parse, Point{float64(n), time.Since(began).Seconds() / float64(rounds)})
		size = append(size, Point{float64(n), float64(len(doc))})
	}
	r.Curve(Curve{Name: "apps in the policy: parse and check", X: "apps", Y: "seconds", Points: parse})
	r.Curve(Curve{Name: "apps in the policy: size", X: "apps", Y: "bytes", Points: size})
	r.Note("Processor time is this process's, for all nodes, clients and the emulated network together, on one processor; each mesh lives %v.", growthFor)
	return nil
}

// growthPolicy is a policy of so many apps.
func growthPolicy(apps int) []byte {
	var b strings.Builder
	b.WriteString("regions: [{id: eu}, {id: us}, {id: ap}]\napps:\n")
	for i := range apps {
		fmt.Fprintf(&b, "  - {id: app-%d, auth: app_id}\n", i)
	}
	return []byte(b.String())
}

// growthCost is what a scenario costs for each second of its life after formation, t=0 to the end.
func growthCost(ctx context.Context, r *Recorder, text string) (cpu, bytes float64, err error) {
	whole, wholeBytes, err := growthRun(ctx, r, text)
	if err != nil {
		return 0, 0, err
	}
	short := strings.Replace(text, "duration: "+growthFor.String(), "duration: 100ms", 1)
	formed, formedBytes, err := growthRun(ctx, r, strings.Replace(short, "warmup: 2s", "warmup: 50ms", 1))
	return max(0, whole-formed) / growthFor.Seconds(), max(0, wholeBytes-formedBytes) / growthFor.Seconds(), err
}

func growthRun(ctx context.Context, r *Recorder, text string) (cpu, bytes float64, err error) {
	s, err := scenario.Parse([]byte(text), nil)
	if err != nil {
		return 0, 0, err
	}
	before := cpuNow()
	report, err := run.Run(ctx, s, run.Options{Bubble: r.Bubble})
	if err != nil {
		return 0, 0, err
	}
	for _, n := range report.Nodes {
		bytes += float64(n.BytesSent)
	}
	return (cpuNow() - before).Seconds(), bytes, nil
}

// Point is one size and what it costs.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// Curve is a cost against a size.
type Curve struct {
	Name   string  `json:"name"`
	X      string  `json:"x"`
	Y      string  `json:"y"`
	Points []Point `json:"points"`
	// Exponent of the power law that fits best: 1 is proportional, 0 costs nothing, 2 doubles fourfold. Last is the same between the
	// two largest sizes alone, where fixed costs count least.
	Exponent float64 `json:"exponent"`
	Last     float64 `json:"last_exponent"`
}

// exponent fits ln y = a + e ln x by least squares over the points above zero.
func exponent(points []Point) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, p := range points {
		if p.X > 0 && p.Y > 0 {
			x, y := math.Log(p.X), math.Log(p.Y)
			n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
		}
	}
	if d := n*sxx - sx*sx; d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
