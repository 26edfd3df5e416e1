package run

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/probe"
	"github.com/ternmesh/tern/sim/run/measure"
	"github.com/ternmesh/tern/sim/run/scenario"
)

const (
	// probeWarmup is between the first sight of the stream and the window: keys are fetched, sessions open.
	probeWarmup = 2 * time.Second
	// probeJoin bounds the time until the receiving node watches the stream.
	probeJoin = 20 * time.Second
	// probePoll is how often both ends are asked.
	probePoll = 500 * time.Millisecond
	// clockTries is how often a node's clock is read; the quickest answer counts.
	clockTries = 8
)

// Asker asks a node of a live mesh for one step of a probe.
type Asker func(ctx context.Context, node string, r probe.Request) (node.ProbeAnswer, error)

// ProbeOptions of one measurement between two nodes of a live mesh.
type ProbeOptions struct {
	From, To         string
	App              string // whose redundancy and fence it is sent under
	Fence            string // of the app, as a status shows it; figures of paths are of the sessions under it
	PacketsPerSecond int
	Size             int           // bytes of an RTP packet
	For              time.Duration // the window that figures cover
	Deadline         time.Duration
	Version          string
}

// Probe measures what a synthetic stream meets between two nodes of a live mesh and reports it as a run of the simulator is
// reported. Latency is between two clocks: their difference is estimated from the quickest of several readings, and a note
// says how far that may be off.
func Probe(ctx context.Context, o ProbeOptions, ask Asker) (*Report, error) {
	started := time.Now()
	p := &liveProbe{ProbeOptions: o, ask: ask, id: "p" + strconv.FormatUint(rand.Uint64(), 36)}
	if err := p.begin(ctx); err != nil {
		return nil, fmt.Errorf("probe from %s to %s: %w", o.From, o.To, err)
	}
	if err := p.watch(ctx); err != nil {
		return nil, fmt.Errorf("probe from %s to %s: %w", o.From, o.To, err)
	}
	r := p.report()
	r.WallSeconds = time.Since(started).Seconds()
	return r, nil
}

// liveProbe is one measurement under way. One goroutine owns it.
type liveProbe struct {
	ProbeOptions
	ask Asker
	id  string

	skew, within time.Duration // the receiver's clock minus the sender's, and how far that may be off
	began        int64         // the sender's clock at packet 0, Unix nanoseconds
	first, end   uint64        // packets of the window
	meter        *measure.Meter
	step         time.Duration
	track        *sessionTrack
	sampler      *sampler
	notes        []string
	early        []probe.Arrival // that came before the window was known
	dropped      uint64
	formed       time.Duration
}

// begin reads the clocks, starts both ends and waits until the stream is watched.
func (p *liveProbe) begin(ctx context.Context) error {
	if p.From == p.To {
		return errors.New("name two different nodes")
	}
	from, fromWithin, err := p.clock(ctx, p.From)
	if err != nil {
		return err
	}
	to, toWithin, err := p.clock(ctx, p.To)
	if err != nil {
		return err
	}
	p.skew, p.within = to-from, fromWithin+toWithin
	whole := probeJoin + probeWarmup + p.For + 2*probePoll + time.Second
	send := probe.Request{Op: probe.Send, ID: p.id, App: p.App, PacketsPerSecond: p.PacketsPerSecond, Bytes: p.Size, For: whole}
	if _, err := p.ask(ctx, p.From, send); err != nil {
		return err
	}
	if _, err := p.ask(ctx, p.To, probe.Request{Op: probe.Listen, ID: p.id, App: p.App}); err != nil {
		return err
	}
	started := time.Now()
	for {
		a, err := p.collect(ctx, p.To)
		if err != nil {
			return err
		}
		p.early = append(p.early, probe.Arrivals(a.Records)...)
		if len(p.early) > 0 {
			break
		}
		if _, err := p.collect(ctx, p.From); err != nil { // it may have failed to publish
			return err
		}
		if time.Since(started) > probeJoin {
			return fmt.Errorf("no packet has reached %s within %v: is app %s allowed in the regions of both?", p.To, probeJoin, p.App)
		}
		wait(ctx, nil, probePoll)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	p.formed = time.Since(started)
	a, err := p.collect(ctx, p.From)
	if err != nil {
		return err
	}
	p.began = a.Began
	return p.window(a.Now)
}

// window settles which packets count: those from the end of the warm-up on, by the sender's clock.
func (p *liveProbe) window(now int64) error {
	if p.began == 0 || p.began > now {
		return fmt.Errorf("%s has not begun to send", p.From)
	}
	period := int64(time.Second) / int64(p.PacketsPerSecond)
	p.first = uint64((now-p.began+int64(probeWarmup))/period) + 1
	p.end = p.first + uint64(p.For/time.Duration(period))
	p.step = max(minStep, (p.For / maxSteps).Round(minStep))
	p.meter = measure.NewMeter(0, int64(p.end-p.first)*period, int64(p.Deadline), int64(p.step))
	for n := p.first; n < p.end; n++ {
		p.meter.Sent(n, int64(n-p.first)*period)
	}
	p.track = &sessionTrack{paths: make(map[string]*pathTrack), last: make(map[string]node.PathStatus)}
	p.sampler = &sampler{}
	return nil
}

// clock estimates how far a node's clock is ahead of this machine's, and how far that may be off.
func (p *liveProbe) clock(ctx context.Context, at string) (ahead, within time.Duration, err error) {
	within = math.MaxInt64
	for range clockTries {
		sent := time.Now()
		a, err := p.ask(ctx, at, probe.Request{Op: probe.Clock})
		if err != nil {
			return 0, 0, err
		}
		if half := time.Since(sent) / 2; half < within {
			ahead, within = time.Unix(0, a.Now).Sub(sent.Add(half)), half
		}
	}
	return ahead, within, nil
}

func (p *liveProbe) collect(ctx context.Context, at string) (node.ProbeAnswer, error) {
	return p.ask(ctx, at, probe.Request{Op: probe.Collect, ID: p.id})
}

// watch collects until the window is over and its last packets have had their time. An answer that does not come is tried again:
// a probe is run when a mesh is in trouble.
func (p *liveProbe) watch(ctx context.Context) error {
	p.take(p.early)
	period := time.Second / time.Duration(p.PacketsPerSecond)
	start := time.Now()
	length := probeWarmup + p.For + p.Deadline + time.Second
	missed := 0
	for over := false; !over; {
		wait(ctx, nil, probePoll)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		over = time.Since(start) > length
		a, err := p.collect(ctx, p.To)
		if err != nil {
			if missed++; missed == 1 {
				p.notes = append(p.notes, "an answer of "+p.To+" did not come: "+err.Error())
			}
			if over {
				return err
			}
			continue
		}
		p.take(probe.Arrivals(a.Records))
		p.dropped = a.Dropped
		at := time.Since(start) - probeWarmup
		p.sample(a.Braids, at, at > 0 && at <= p.For+period)
	}
	return nil
}

// take books arrivals on the sender's clock.
func (p *liveProbe) take(all []probe.Arrival) {
	period := int64(time.Second) / int64(p.PacketsPerSecond)
	for _, a := range all {
		if a.Number < p.first || a.Number >= p.end {
			continue
		}
		late := max(0, a.At-a.Sent-int64(p.skew)) // the estimate may be off by more than a short way takes
		due := int64(a.Number-p.first) * period
		p.meter.Arrived(measure.Stamp{Number: a.Number, Sent: due}, due+late)
	}
}

// sample turns the receiver's path counters into differences.
func (p *liveProbe) sample(braids []node.BraidStatus, at time.Duration, counted bool) {
	for _, b := range braids {
		if b.Peer == p.From && b.Fence == p.Fence {
			p.track.add(p.sampler, b, at, counted)
		}
	}
}

// report has the shape of a simulated run's.
func (p *liveProbe) report() *Report {
	res := p.meter.Result(p.first, p.end)
	s := StreamReport{
		Name: "probe", From: p.From, To: p.To, App: p.App, Viewers: 1, DeadlineMS: float64(p.Deadline.Milliseconds()),
		Sent: res.Sent, Delivered: res.Delivered, LongestGap: millis(res.LongestGap), MOS: res.MOS, Paths: []PathReport{},
		Latency:           LatencyMS{P50: millis(res.P50), P90: millis(res.P90), P99: millis(res.P99), P999: millis(res.P999), Max: millis(res.Max)},
		Series:            seriesOf(res.Series, p.step),
		DuplicatesDropped: p.track.duplicates,
	}
	if s.Sent > 0 {
		s.UndeliveredRatio = 1 - float64(s.Delivered)/float64(s.Sent)
		s.LateRatio = float64(res.Late) / float64(s.Sent)
	}
	copies, frames := uint64(0), uint64(0)
	for _, t := range p.track.ordered() {
		s.Paths = append(s.Paths, PathReport{Hops: t.hops, Sent: t.sent, Lost: t.lost, First: t.first, Rescued: t.rescued})
		copies, frames = copies+t.sent, max(frames, t.sent)
	}
	if frames > 0 {
		s.CopiesPerPacket = float64(copies) / float64(frames)
	}
	p.notes = append(p.notes, fmt.Sprintf("the clock of %s is %.1f ms ahead of that of %s, within %.1f ms; latencies are corrected by that, and may be off by as much",
		p.To, millis(int64(p.skew)), p.From, millis(int64(p.within))))
	if p.dropped > 0 {
		p.notes = append(p.notes, fmt.Sprintf("%d arrivals found no room at %s while it was not asked", p.dropped, p.To))
	}
	r := &Report{
		Name: "probe", Version: p.Version, Duration: p.For.Seconds(), Formation: p.formed.Seconds(), Streams: []StreamReport{s}, Nodes: []NodeReport{{Name: p.From, Alive: true}, {Name: p.To, Alive: true}},
		Events: []EventReport{}, Notes: p.notes, Safe: true,
	}
	r.Checks = []Check{{Name: CheckDuplicates, OK: res.Duplicates == 0, Violations: int(res.Duplicates)}}
	r.Safe = res.Duplicates == 0
	nodes := []scenario.Node{{Name: p.From}, {Name: p.To}}
	for _, path := range s.Paths {
		for _, hop := range path.Hops {
			if !slices.ContainsFunc(nodes, func(n scenario.Node) bool { return n.Name == hop }) {
				nodes = append(nodes, scenario.Node{Name: hop})
			}
		}
	}
	r.page.scenario = &scenario.Scenario{Name: "probe", Nodes: nodes, Duration: p.For}
	r.page.streams = []pageStream{{report: s, result: res, step: p.step, track: p.track}}
	return r
}
