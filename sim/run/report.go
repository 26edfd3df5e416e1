package run

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ternmesh/tern/sim/run/measure"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// Report is what a run found; it is the JSON that tern sim run --json writes. Milliseconds and seconds are the
// scenario's, but for WallSeconds and CPU.
type Report struct {
	Name        string         `json:"name"`
	Seed        uint64         `json:"seed"`
	Version     string         `json:"version"`
	WallSeconds float64        `json:"wall_s"`
	Virtual     bool           `json:"virtual"`
	Duration    float64        `json:"duration_s"`
	Warmup      float64        `json:"warmup_s"`
	Formation   float64        `json:"formation_s"`
	Recovery    float64        `json:"recovery_s"` // after all faults were healed; -1: not within the bound
	Safe        bool           `json:"safe"`
	Checks      []Check        `json:"checks"`
	Streams     []StreamReport `json:"streams"`
	Nodes       []NodeReport   `json:"nodes"`
	Events      []EventReport  `json:"events"`
	Notes       []string       `json:"notes,omitempty"`

	page pageData // for the HTML
}

// StreamReport is one stream at one destination.
type StreamReport struct {
	Name              string       `json:"name"`
	From              string       `json:"from"`
	To                string       `json:"to"`
	App               string       `json:"app"`
	Viewers           int          `json:"viewers"` // figures are those of the viewer that got least
	Sent              uint64       `json:"sent"`
	Delivered         uint64       `json:"delivered"`
	UndeliveredRatio  float64      `json:"undelivered_ratio"`
	Latency           LatencyMS    `json:"latency_ms"`
	DeadlineMS        float64      `json:"deadline_ms"`
	LateRatio         float64      `json:"late_ratio"` // delivered after the deadline, of all sent
	LongestGap        float64      `json:"longest_gap_ms"`
	Freezes           int          `json:"freezes"`
	FrozenMS          float64      `json:"frozen_ms"`
	MOS               float64      `json:"mos"`
	CopiesPerPacket   float64      `json:"copies_per_packet"`
	DuplicatesDropped uint64       `json:"duplicates_dropped"`
	Repeats           uint64       `json:"repeats,omitempty"` // retransmissions on a WebRTC viewer's last mile of what had come
	Refused           bool         `json:"refused,omitempty"` // the policy keeps the stream from this destination
	Paths             []PathReport `json:"paths"`
	Series            Series       `json:"series"`
}

// Series is a stream over time, by the instant of sending from t=0, in spells of StepSeconds.
type Series struct {
	StepSeconds float64   `json:"step_s"`
	Sent        []uint64  `json:"sent"`
	Delivered   []uint64  `json:"delivered"`
	MeanMS      []float64 `json:"mean_ms"` // latency; 0 where nothing was delivered
}

func seriesOf(buckets []measure.Bucket, step time.Duration) Series {
	s := Series{StepSeconds: step.Seconds(), Sent: []uint64{}, Delivered: []uint64{}, MeanMS: []float64{}}
	for _, b := range buckets {
		mean := 0.0
		if b.Delivered > 0 {
			mean = millis(b.LatencySum) / float64(b.Delivered)
		}
		s.Sent, s.Delivered, s.MeanMS = append(s.Sent, b.Sent), append(s.Delivered, b.Delivered), append(s.MeanMS, mean)
	}
	return s
}

// LatencyMS is one-way, from the publisher's node to the viewer's.
type LatencyMS struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// PathReport is one path of the session that carried a stream, counted at the receiver. Streams between the same nodes in
// one fence share a session, and so these figures.
type PathReport struct {
	Hops    []string `json:"hops"`
	Sent    uint64   `json:"sent"`
	Lost    uint64   `json:"lost"`
	First   uint64   `json:"first"`
	Rescued uint64   `json:"rescued"`
}

// NodeReport is one node over the whole run, formation included.
type NodeReport struct {
	Name            string  `json:"name"`
	Region          string  `json:"region"`
	Alive           bool    `json:"alive"` // at the end
	Starts          int     `json:"starts"`
	CPUSeconds      float64 `json:"cpu_s"` // sampled
	BytesSent       uint64  `json:"bytes_sent"`
	BytesReceived   uint64  `json:"bytes_received"` // by its links; the last few may have been dropped after
	PacketsSent     uint64  `json:"packets_sent"`
	PacketsReceived uint64  `json:"packets_received"`
}

// EventReport is one thing that happened.
type EventReport struct {
	At    float64 `json:"at_s"`
	For   float64 `json:"for_s,omitempty"`
	Label string  `json:"label"`
}

// WriteJSON writes the report, indented.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// report closes the books of a run.
func (st *stage) report(o Options) *Report {
	s := st.scenario
	r := &Report{
		Name: s.Name, Seed: s.Seed, Version: o.Version, Duration: s.Duration.Seconds(), Warmup: s.Warmup.Seconds(),
		Formation: st.formed.Seconds(), Recovery: st.recovered.Seconds(), Streams: []StreamReport{}, Events: []EventReport{},
	}
	if st.recovered < 0 {
		r.Recovery = -1
	}
	for _, f := range st.flows {
		for _, to := range f.To {
			r.Streams = append(r.Streams, st.streamReport(r, f, to))
		}
	}
	for _, err := range st.mesh.failures() {
		st.check.fail(CheckNodes, "%v", err)
	}
	for _, one := range st.mesh.members {
		r.Nodes = append(r.Nodes, st.nodeReport(one))
	}
	for _, e := range s.Events {
		r.Events = append(r.Events, EventReport{At: e.At.Seconds(), For: e.For.Seconds(), Label: e.Label})
	}
	r.Checks = st.check.verdicts()
	r.Safe = true
	for _, c := range r.Checks {
		r.Safe = r.Safe && c.OK
	}
	r.Notes = st.check.notes
	r.page.scenario = s
	return r
}

// streamReport reports the viewer that got least at a destination, and holds all of them against the checkers.
func (st *stage) streamReport(r *Report, f *flow, to string) StreamReport {
	var worst measure.Result
	var player measure.Player
	out := StreamReport{Name: f.Name, From: f.From, To: to, App: f.App, Viewers: f.Viewers, DeadlineMS: float64(f.Deadline.Milliseconds())}
	for _, v := range f.views {
		if v.to.Name != to {
			continue
		}
		res, p := v.result()
		st.checkView(v, res)
		if v.viewer == 0 {
			player = p
		}
		if v.viewer == 0 || res.Delivered < worst.Delivered {
			worst = res
		}
		out.Refused = !v.allowed
		out.Repeats += v.repeated()
	}
	out.Sent, out.Delivered = worst.Sent, worst.Delivered
	if worst.Sent > 0 {
		out.UndeliveredRatio = 1 - float64(worst.Delivered)/float64(worst.Sent)
		out.LateRatio = float64(worst.Late) / float64(worst.Sent)
	}
	out.Latency = LatencyMS{P50: millis(worst.P50), P90: millis(worst.P90), P99: millis(worst.P99), P999: millis(worst.P999), Max: millis(worst.Max)}
	out.LongestGap, out.MOS = millis(worst.LongestGap), worst.MOS
	if f.Kind == scenario.Video {
		count, total := player.Freezes(int64(min(f.Stop, f.end) + f.Deadline))
		out.Freezes, out.FrozenMS = count, millis(total)
	}
	key := sessionKey{from: f.From, to: to, fence: st.mesh.fenceOf(appOf(f.Stream))}
	out.Paths = []PathReport{}
	out.Series = seriesOf(worst.Series, st.step)
	if track := st.sampler.sessions[key]; track != nil {
		out.DuplicatesDropped = track.duplicates
		for _, p := range track.ordered() {
			out.Paths = append(out.Paths, PathReport{Hops: p.hops, Sent: p.sent, Lost: p.lost, First: p.first, Rescued: p.rescued})
		}
		out.CopiesPerPacket = st.check.copies.ratio(key.fence, st.check.ids[f.From], st.check.ids[to])
	}
	r.page.streams = append(r.page.streams, pageStream{report: out, result: worst, step: st.step, from: st.scenario.Warmup, track: st.sampler.sessions[key]})
	return out
}

// checkView holds a viewer's books against the checkers.
func (st *stage) checkView(v *view, res measure.Result) {
	who := fmt.Sprintf("viewer %d of %s at %s", v.viewer, v.flow.Name, v.to.Name)
	if res.Duplicates > 0 {
		st.check.fail(CheckDuplicates, "%s got %d packets more than once", who, res.Duplicates)
	}
	if res.Altered > 0 {
		st.check.fail(CheckIntact, "%s got %d altered packets", who, res.Altered)
	}
	if res.Foreign > 0 {
		st.check.fail(CheckUnauthorised, "%s got %d packets of another stream", who, res.Foreign)
	}
	if v.total > 0 && !v.allowed {
		st.check.fail(CheckUnauthorised, "%s got %d packets, and the policy keeps the app from there", who, v.total)
	}
}

func (st *stage) nodeReport(one *member) NodeReport {
	n, _ := one.living()
	one.mu.Lock()
	r := NodeReport{Name: one.Name, Region: one.Region, Alive: n != nil, Starts: one.starts}
	one.mu.Unlock()
	for _, other := range st.mesh.members {
		if other == one {
			continue
		}
		out, in := st.mesh.net.LinkStats(one.Name, other.Name), st.mesh.net.LinkStats(other.Name, one.Name)
		r.BytesSent += out.Bytes
		r.PacketsSent += out.Sent
		r.PacketsReceived += in.Delivered
		if in.Sent > 0 {
			r.BytesReceived += uint64(float64(in.Bytes) * float64(in.Delivered) / float64(in.Sent))
		}
	}
	return r
}

func millis(ns int64) float64 { return float64(ns) / float64(time.Millisecond) }

// Summary is the report as text for a terminal.
func (r *Report) Summary() string {
	var b strings.Builder
	clock := "real time"
	if r.Virtual {
		clock = "virtual time"
	}
	fmt.Fprintf(&b, "%s: seed %d, %.0f s of %s in %.1f s; formed in %.1f s, recovered in %.1f s\n\n", r.Name, r.Seed, r.Duration, clock, r.WallSeconds, r.Formation, r.Recovery)
	fmt.Fprintf(&b, "%-14s %-18s %9s %11s %8s %8s %8s %8s %8s %5s %7s\n", "stream", "from > to", "sent", "undelivered", "late", "p50 ms", "p99 ms", "gap ms", "freezes", "mos", "copies")
	for _, s := range r.Streams {
		where := s.From + " > " + s.To
		if s.Refused {
			fmt.Fprintf(&b, "%-14s %-18s refused by the policy, %d delivered\n", s.Name, where, s.Delivered)
			continue
		}
		fmt.Fprintf(&b, "%-14s %-18s %9d %10.4f%% %7.3f%% %8.1f %8.1f %8.0f %8d %5.2f %7.2f\n", s.Name, where, s.Sent,
			100*s.UndeliveredRatio, 100*s.LateRatio, s.Latency.P50, s.Latency.P99, s.LongestGap, s.Freezes, s.MOS, s.CopiesPerPacket)
	}
	b.WriteString("\n")
	for _, c := range r.Checks {
		verdict := "ok"
		if !c.OK {
			verdict = fmt.Sprintf("VIOLATED %d times", c.Violations)
		}
		fmt.Fprintf(&b, "%-26s %s\n", c.Name, verdict)
		for _, v := range c.First {
			fmt.Fprintf(&b, "    %s\n", v)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}
