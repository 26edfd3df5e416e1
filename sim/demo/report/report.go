package report

import (
	"errors"
	"fmt"
	"io"
)

// Event is something that was done to the mesh, or that it did.
type Event struct {
	// AtSeconds counts from the first packet sent.
	AtSeconds float64 `json:"at_seconds"`
	// What is "publish", "watch", "warm-up over", "kill", "sender stopped" and the like.
	What string `json:"what"`
	// Node is the node concerned, if one is.
	Node string `json:"node,omitempty"`
}

// Report is the document of a headless run.
type Report struct {
	Sent              uint64  `json:"sent"`
	Delivered         uint64  `json:"delivered"`
	UndeliveredRatio  float64 `json:"undelivered_ratio"`
	LatencyMS         Latency `json:"latency_ms"`
	DuplicatesDropped uint64  `json:"duplicates_dropped"`
	Paths             []Path  `json:"paths"`
	Events            []Event `json:"events"`
}

// Build puts the figures together. duplicatesDropped are copies of media that the egress dropped after the warm-up.
func Build(t Totals, duplicatesDropped uint64, paths []Path, events []Event) Report {
	r := Report{
		Sent: t.Sent, Delivered: t.Delivered, LatencyMS: t.Latency,
		DuplicatesDropped: duplicatesDropped, Paths: paths, Events: events,
	}
	if t.Sent > 0 {
		r.UndeliveredRatio = float64(t.Sent-min(t.Sent, t.Delivered)) / float64(t.Sent)
	}
	return r
}

// ErrLost is wrapped when packets were sent and not delivered.
var ErrLost = errors.New("packets were lost")

// Check says why a run failed: nothing was sent, fewer packets than minimum were, or some were lost.
func (r Report) Check(minimum uint64) error {
	switch {
	case r.Sent == 0:
		return errors.New("no packet was sent after the warm-up")
	case r.Sent < minimum:
		return fmt.Errorf("only %d packets were sent, the run is worth nothing below %d", r.Sent, minimum)
	case r.Delivered < r.Sent:
		return fmt.Errorf("%w: %d of %d did not arrive", ErrLost, r.Sent-r.Delivered, r.Sent)
	}
	return nil
}

// Print writes the figures for a person.
func (r Report) Print(w io.Writer) {
	fmt.Fprintf(w, "sent %d, delivered %d, undelivered %.4f %%\n", r.Sent, r.Delivered, 100*r.UndeliveredRatio)
	fmt.Fprintf(w, "latency p50 %.1f ms, p99 %.1f ms, max %.1f ms; %d later copies dropped\n",
		r.LatencyMS.P50, r.LatencyMS.P99, r.LatencyMS.Max, r.DuplicatesDropped)
	for _, p := range r.Paths {
		fmt.Fprintf(w, "  %-42s sent %6d  lost %4d  first %6d  rescued %4d\n", route(p.Hops), p.Sent, p.Lost, p.First, p.Rescued)
	}
	for _, e := range r.Events {
		fmt.Fprintf(w, "  %6.1f s  %s %s\n", e.AtSeconds, e.What, e.Node)
	}
}

func route(hops []string) string {
	out := ""
	for i, h := range hops {
		if i > 0 {
			out += " > "
		}
		out += h
	}
	return out
}
