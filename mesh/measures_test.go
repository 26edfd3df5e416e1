package mesh

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/ternmesh/tern/routing"
)

// measures are what a mesh in lockstep was seen to do.
type measures struct {
	gossip, probe float64       // bytes/s and bits/s out of a node, quiet links, 0.2 % loss
	join          time.Duration // from a new node's first step to a path set to everybody
	deaths        time.Duration // from the death of a fifth to a working path between all survivors
	mended        time.Duration // ... to three working paths
	back          time.Duration // from their return to three working paths everywhere
	flaps         float64       // changes of a path set, per pair and minute, while links degrade
	ratio         float64       // loss of the chosen path sets to that of the best ones, joint loss included
	delay         float64       // delay of the fastest chosen path to that of the fastest there is
	spread        time.Duration // from a change of a link, right after a row, to its row at 99 % of nodes, the slowest of some
}

const (
	// jointLoss is what all paths of a pair lose together, at its ends: a third of the loss of a link, which is less than was
	// measured on the Internet (60 %).
	jointLoss = 0.0007
	degrading = 0.3 // share of links that turn bad every minute
)

// through starts n-1 nodes, lets the last one join, and goes through a bad minute and a disaster.
func through(t testing.TB, seed uint64, n int, quiet, bad time.Duration) (out measures) {
	l := newMeshLockstep(t, seed, n)
	for _, s := range l.nodes[:n-1] {
		l.start(s)
	}
	l.until(l.now.Add(30 * time.Second))
	sent, probes := l.bytes, l.probes
	l.until(l.now.Add(quiet))
	out.gossip = float64(l.bytes-sent) / quiet.Seconds() / float64(n-1)
	out.probe = float64(l.probes-probes) * probeWire * 8 / quiet.Seconds() / float64(n-1)
	newcomer := l.nodes[n-1]
	l.start(newcomer)
	out.join = l.within(20*time.Second, func() bool { return l.routed([]*stepper{newcomer}, 1) })
	out.spread = l.slowestRow(10)
	if bad > 0 {
		out.flaps, out.ratio, out.delay = l.badTimes(bad)
	}

	var dead []*stepper
	for i := 1; i < n; i += 5 {
		dead = append(dead, l.nodes[i])
	}
	l.kill(dead)
	out.deaths = l.within(20*time.Second, func() bool { return l.routed(l.some(8), 1) })
	out.mended = out.deaths + l.within(20*time.Second, func() bool { return l.routed(l.some(8), 3) })
	l.until(l.now.Add(10 * time.Second))
	l.revive(dead)
	out.back = l.within(40*time.Second, func() bool { return l.routed(l.some(8), 3) && l.routed(dead[:min(8, len(dead))], 3) })
	return out
}

// slowestRow lets nodes say a row, and learn something new of a link right after it, and watches how long 99 % of the others take to
// hold the row that says so.
func (l *lockstep) slowestRow(times int) (slowest time.Duration) {
	for i := range times {
		s := l.nodes[i]
		row, _, _ := s.links.row(true)
		s.publishRow(l.now, row)
		_, said := s.core.Held(s.id)
		s.links.mu.Lock()
		s.links.moves++
		s.links.mu.Unlock()
		slowest = max(slowest, l.within(20*time.Second, func() bool {
			know := 0
			for _, other := range l.nodes {
				if _, v := other.core.Held(s.id); v.Newer(said) {
					know++
				}
			}
			return know*100 >= len(l.nodes)*99
		}))
	}
	return slowest
}

// badTimes degrades links at random for 20 to 60 s each and lets some nodes keep path sets to everybody.
func (l *lockstep) badTimes(d time.Duration) (flaps, ratio, delay float64) {
	type pair struct {
		keeper routing.Keeper
		set    routing.PathSet
	}
	from := l.some(4)
	pairs := make(map[[2]int]*pair)
	changes, lost, best := 0, 0.0, 0.0
	fast, fastest := 0.0, 0.0
	links := float64(len(l.nodes) * (len(l.nodes) - 1) / 2)
	due := 0.0
	for second := range int(d / time.Second) {
		for due += links * degrading / 60; due >= 1; due-- {
			l.degrade()
		}
		l.until(l.now.Add(time.Second))
		truth := l.truth()
		for _, a := range from {
			g := a.Graph()
			for i := 0; i < len(l.nodes); i += max(len(l.nodes)/40, 1) { // in a large mesh, some of the pairs
				b := l.nodes[i]
				if a == b {
					continue
				}
				p := pairs[[2]int{a.index, b.index}]
				if p == nil {
					p = &pair{keeper: routing.Keeper{Patience: routing.PatienceOf(a.name, b.name)}}
					pairs[[2]int{a.index, b.index}] = p
				}
				before := fmt.Sprint(names(p.set))
				p.set = p.keeper.Keep(l.now, p.set, g.PathSet(a.name, b.name, routing.Constraints{AnyRegion: true}), g)
				if second < 10 {
					continue // the first choice is no flap
				}
				if fmt.Sprint(names(p.set)) != before {
					changes++
				}
				lost += l.lossOf(p.set, truth)
				choice := truth.PathSet(a.name, b.name, routing.Constraints{AnyRegion: true})
				best += l.lossOf(choice, truth)
				fast, fastest = fast+delayOf(p.set, truth), fastest+delayOf(choice, truth)
			}
		}
	}
	return float64(changes) / float64(len(pairs)) / (d.Minutes() - 10.0/60), lost / best, fast / fastest
}

// delayOf is the one-way delay of a set's fastest path in truth, in milliseconds.
func delayOf(set routing.PathSet, truth *routing.Graph) float64 {
	fastest := math.Inf(1)
	for _, p := range set.Paths {
		var sum time.Duration
		for i := 1; i < len(p.Nodes); i++ {
			link, _ := truth.Link(p.Nodes[i-1], p.Nodes[i])
			sum += link.Latency
		}
		fastest = min(fastest, float64(sum)/float64(time.Millisecond))
	}
	return fastest
}

func names(set routing.PathSet) (out [][]string) {
	for _, p := range set.Paths {
		out = append(out, p.Nodes)
	}
	slices.SortFunc(out, slices.Compare)
	return out
}

// degrade makes one link bad, in both directions: lossy, slow, or both.
func (l *lockstep) degrade() {
	a, b := l.nodes[l.rng.IntN(len(l.nodes))], l.nodes[l.rng.IntN(len(l.nodes))]
	if a == b {
		return
	}
	loss, extra := l.rng.Float64()*0.2, time.Duration(l.rng.Int64N(int64(100*time.Millisecond)))
	for _, ends := range [][2]*stepper{{a, b}, {b, a}} {
		ends[0].loss[ends[1].index], ends[0].extra[ends[1].index] = loss, extra
	}
	l.after(time.Duration(20+l.rng.IntN(40))*time.Second, func() {
		for _, ends := range [][2]*stepper{{a, b}, {b, a}} {
			delete(ends[0].loss, ends[1].index)
			delete(ends[0].extra, ends[1].index)
		}
	})
}

// lossOf is what a path set loses in truth: together at the ends, and when all paths lose at once.
func (l *lockstep) lossOf(set routing.PathSet, truth *routing.Graph) float64 {
	all := 1.0
	for _, p := range set.Paths {
		through := 1.0
		for i := 1; i < len(p.Nodes); i++ {
			link, ok := truth.Link(p.Nodes[i-1], p.Nodes[i])
			if !ok {
				link.Loss = 1
			}
			through *= 1 - link.Loss
		}
		all *= 1 - through
	}
	return jointLoss + (1-jointLoss)*all
}

// A small mesh lives through all of it; the figures of a large one are BenchmarkMesh200's.
func TestMeshLivesThroughBadTimes(t *testing.T) {
	n := crowd + 10
	m := through(t, 1, n, 10*time.Second, 60*time.Second)
	t.Logf("%d nodes: %.1f kB/s of gossip and %.0f kbit/s of probes out of each, join %v, a row everywhere after up to %v", n, m.gossip/1000, m.probe/1000, m.join, m.spread)
	t.Logf("a fifth dead: a path everywhere after %v, three after %v, all back after %v; %.2f flaps a pair and minute, loss %.2f and delay %.2f of the best",
		m.deaths, m.mended, m.back, m.flaps, m.ratio, m.delay)
	if m.probe > DefaultProbeRate {
		t.Errorf("probes take %.0f bit/s, the cap is %d", m.probe, DefaultProbeRate)
	}
	if m.join > 3*time.Second || m.mended > 3*time.Second || m.back > 30*time.Second || m.spread > 2*time.Second {
		t.Errorf("join %v, deaths %v, back %v, spread %v; want 3 s, 3 s, 30 s, 2 s at most", m.join, m.mended, m.back, m.spread)
	}
	if m.flaps > 1.5 || m.ratio > 1.2 { // few nodes have few ways out: the target of one flap is for 200
		t.Errorf("%.2f flaps, loss ratio %.2f; want 1.5 and 1.2 at most", m.flaps, m.ratio)
	}
}

// 200 nodes in virtual time; the figures repeat exactly. Each takes some minutes of a core:
// go test ./mesh -run '^$' -bench 200 -benchtime 1x -timeout 1h.
func BenchmarkMesh200(b *testing.B) {
	for b.Loop() {
		m := through(b, 1, 200, 10*time.Second, 0)
		b.ReportMetric(m.gossip/1000, "gossip_kB/s")
		b.ReportMetric(m.probe/1000, "probe_kbit/s")
		b.ReportMetric(m.join.Seconds(), "join_s")
		b.ReportMetric(m.spread.Seconds(), "spread99_s")
		b.ReportMetric(m.deaths.Seconds(), "deaths_s")
		b.ReportMetric(m.mended.Seconds(), "mended_s")
		b.ReportMetric(m.back.Seconds(), "back_s")
	}
}

// As many nodes as TERN_MESH says, for as long as their gossip takes to settle. Cost and memory grow with the square, and more:
// TERN_MESH=1000 GOGC=30 go test ./mesh -run '^$' -bench MeshOf -benchtime 1x -timeout 4h.
func BenchmarkMeshOf(b *testing.B) {
	n := sized(b, "TERN_MESH", 100)
	for b.Loop() {
		l := newMeshLockstep(b, 1, n)
		for _, s := range l.nodes[1:] {
			l.start(s)
		}
		l.until(l.now.Add(30 * time.Second)) // after 10 s, gossip about the start of 400 is not over: 157 kB/s
		sent, probes, quiet := l.bytes, l.probes, 5*time.Second
		l.until(l.now.Add(quiet))
		each := quiet.Seconds() * float64(len(l.nodes)-1)
		b.ReportMetric(float64(l.bytes-sent)/each/1000, "gossip_kB/s")
		b.ReportMetric(float64(l.probes-probes)*probeWire*8/each/1000, "probe_kbit/s")
		l.start(l.nodes[0])
		b.ReportMetric(l.within(20*time.Second, func() bool { return l.routed(l.nodes[:1], 1) }).Seconds(), "join_s")
		b.ReportMetric(l.slowestRow(2).Seconds(), "spread99_s")
	}
}

// One seed, one run, to the last byte: what arrives where and when, while a fifth dies and returns, and the path sets then.
// TERN_REPLAY=150 go test ./mesh -run Replays -v shows it for 150 nodes, in 20 s of a core.
func TestAMeshReplaysFromItsSeed(t *testing.T) {
	n := sized(t, "TERN_REPLAY", 30)
	type outcome struct{ trace, bytes, probes, paths uint64 }
	run := func(seed uint64, n int) outcome {
		l := newMeshLockstep(t, seed, n)
		for _, s := range l.nodes {
			l.start(s)
		}
		l.until(l.now.Add(1500 * time.Millisecond))
		var dead []*stepper
		for i := 1; i < n; i += 5 {
			dead = append(dead, l.nodes[i])
		}
		l.kill(dead)
		l.until(l.now.Add(800 * time.Millisecond))
		l.revive(dead)
		l.until(l.now.Add(400 * time.Millisecond))
		paths := fnv.New64a()
		for _, s := range l.some(4) {
			for _, other := range l.nodes {
				_, _ = fmt.Fprintln(paths, names(s.Graph().PathSet(s.name, other.name, routing.Constraints{AnyRegion: true})))
			}
		}
		o := outcome{l.trace.Sum64(), l.bytes, l.probes, paths.Sum64()}
		t.Logf("seed %d, %d nodes, 2.7 s: %+v", seed, n, o)
		return o
	}
	if a, b := run(7, n), run(7, n); a != b {
		t.Errorf("one seed, two runs:\n%+v\n%+v", a, b)
	}
	if a, b := run(7, 10), run(8, 10); a.trace == b.trace {
		t.Error("two seeds, one run; the test has lost its point")
	}
}

// 200 nodes while 30 % of their links turn bad every minute.
func BenchmarkFlaps200(b *testing.B) {
	for b.Loop() {
		l := newMeshLockstep(b, 1, 200)
		for _, s := range l.nodes {
			l.start(s)
		}
		l.until(l.now.Add(20 * time.Second))
		flaps, ratio, delay := l.badTimes(55 * time.Second)
		b.ReportMetric(flaps, "flaps/pair-min")
		b.ReportMetric(ratio, "loss_ratio")
		b.ReportMetric(delay, "delay_ratio")
	}
}
