package load

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what came of a run. Sent counts one for each viewer that should get the packet.
type Result struct {
	Publishers       int       `json:"publishers"`
	Viewers          int       `json:"viewers"`
	Seconds          float64   `json:"seconds"`
	Sent             uint64    `json:"sent"`
	Delivered        uint64    `json:"delivered"`
	LostRatio        float64   `json:"lost_ratio"`
	PacketsOut       float64   `json:"packets_per_second_out"`
	Latency          Quantiles `json:"latency_ms"` // one-way, from the publisher's send to the viewer's receive
	PublisherJoin    Quantiles `json:"publisher_join_ms"`
	ViewerJoin       Quantiles `json:"viewer_join_ms"`
	Newcomers        int       `json:"newcomers,omitempty"` // that were to join in the window, and leave
	FailedJoins      int       `json:"failed_joins"`        // of them
	NewcomerJoin     Quantiles `json:"newcomer_join_ms"`    // of those that joined
	LostSessions     int       `json:"lost_sessions"`       // that ended before the run did
	Moves            uint64    `json:"moves"`               // of sessions to another node, because theirs asked for it
	Twice            uint64    `json:"twice"`               // packets that a viewer had got before
	Foreign          uint64    `json:"foreign"`             // packets that carry no stamp of ours
	GeneratorCPU     float64   `json:"generator_cpu_s"`
	Server           *Server   `json:"server,omitempty"`
	LatencyHistogram []Bar     `json:"latency_histogram"`
}

// Quantiles of a distribution, in milliseconds.
type Quantiles struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Bar is one step of a histogram: so many packets took at most UpToMS, and longer than the bar before.
type Bar struct {
	UpToMS float64 `json:"up_to_ms"`
	Count  int64   `json:"count"`
}

// Server is the named process in the window.
type Server struct {
	PID             int     `json:"pid"`
	CPUSeconds      float64 `json:"cpu_s"`
	MicrosPerPacket float64 `json:"cpu_us_per_packet"` // by packets that viewers received
	MemoryMB        float64 `json:"memory_mb"`         // resident, at the end
}

func (b *books) result(c Config, lasted time.Duration) *Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := &Result{
		Publishers: c.Publishers, Viewers: c.Viewers, Seconds: lasted.Seconds(), Delivered: b.delivered, Foreign: b.foreign, Twice: b.twice,
		Latency: quantiles(b.latency), PublisherJoin: quantiles(b.joins["publisher"]), ViewerJoin: quantiles(b.joins["viewer"]),
		PacketsOut: float64(b.delivered) / max(lasted.Seconds(), 0.001),
	}
	for i, sent := range b.sent {
		r.Sent += sent * b.viewers[i]
	}
	if r.Sent > 0 {
		r.LostRatio = max(0, 1-float64(r.Delivered)/float64(r.Sent))
	}
	r.LatencyHistogram = bars(b.latency)
	return r
}

func (b *books) quantilesOf(what string) Quantiles {
	b.mu.Lock()
	defer b.mu.Unlock()
	return quantiles(b.joins[what])
}

// bars has four steps for each doubling, from the first that holds anything to the last.
func bars(h *hdrhistogram.Histogram) (out []Bar) {
	bound := 1.0
	var bar Bar
	for _, d := range h.Distribution() {
		if d.Count == 0 {
			continue
		}
		for float64(d.To) > bound {
			if bar.Count > 0 || len(out) > 0 {
				out = append(out, Bar{bound / 1000, bar.Count})
			}
			bound, bar.Count = bound*1.189207115002721, 0 // the fourth root of 2
		}
		bar.Count += d.Count
	}
	if bar.Count > 0 {
		out = append(out, Bar{bound / 1000, bar.Count})
	}
	return out
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	at := func(q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1000 }
	return Quantiles{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}

// WriteJSON writes the result, indented.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Summary is the result as text.
func (r *Result) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d publishers, %d viewers, %.0f s: %.0f packets/s to viewers\n", r.Publishers, r.Viewers, r.Seconds, r.PacketsOut)
	fmt.Fprintf(&b, "sent %d, delivered %d, lost %.4f %%\n", r.Sent, r.Delivered, 100*r.LostRatio)
	row := func(what string, q Quantiles) {
		fmt.Fprintf(&b, "%-18s p50 %8.2f  p90 %8.2f  p99 %8.2f  p99.9 %8.2f  max %8.2f ms\n", what, q.P50, q.P90, q.P99, q.P999, q.Max)
	}
	row("one-way latency", r.Latency)
	row("publishers joined", r.PublisherJoin)
	if r.Viewers > 0 {
		row("viewers joined", r.ViewerJoin)
	}
	if r.Newcomers > 0 {
		row("newcomers joined", r.NewcomerJoin)
		fmt.Fprintf(&b, "%d of %d newcomers could not join\n", r.FailedJoins, r.Newcomers)
	}
	if s := r.Server; s != nil {
		fmt.Fprintf(&b, "process %d: %.2f s of processor time, %.1f µs for each packet received, %.0f MB\n", s.PID, s.CPUSeconds, s.MicrosPerPacket, s.MemoryMB)
	}
	fmt.Fprintf(&b, "the generator itself: %.2f s of processor time\n", r.GeneratorCPU)
	if r.Moves > 0 {
		fmt.Fprintf(&b, "sessions moved to another node %d times\n", r.Moves)
	}
	if r.Twice > 0 {
		fmt.Fprintf(&b, "%d packets came twice\n", r.Twice)
	}
	if r.LostSessions > 0 {
		fmt.Fprintf(&b, "%d sessions ended before the run did\n", r.LostSessions)
	}
	return b.String()
}
