package node

import (
	"context"
	"sync"
	"time"
)

const (
	// historyEvery is the time between two samples; a sample costs one walk over the node's own counters and links.
	historyEvery = 10 * time.Second
	// historyKept bounds the samples: an hour.
	historyKept = 360
)

// Sample is the node at one moment. Rates are per second since the sample before.
type Sample struct {
	At          int64   `json:"at"` // Unix milliseconds
	Sessions    int     `json:"sessions"`
	PacketsIn   float64 `json:"packets_in"`  // RTP from clients
	PacketsOut  float64 `json:"packets_out"` // RTP to clients
	Delivered   float64 `json:"delivered"`   // media frames from peers
	Rescued     float64 `json:"rescued"`     // of those: the best path lost them
	Repaired    float64 `json:"repaired"`
	Undelivered float64 `json:"undelivered"`
	Dropped     float64 `json:"dropped"` // by the filter, all reasons
	Members     int     `json:"members"` // alive
	Findings    int     `json:"findings"`
}

// history is a node's own memory of the last hour; a restart forgets it. What is older belongs into Prometheus.
type history struct {
	mu      sync.Mutex // guards everything
	samples []Sample
	last    totals
	lastAt  time.Time
}

// totals are the counters behind a Sample's rates.
type totals struct{ in, out, delivered, rescued, repaired, undelivered, dropped uint64 }

// observe adds a sample; pure but for the lock. The first one has no rates.
func (h *history) observe(now time.Time, s Sample, t totals) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if seconds := now.Sub(h.lastAt).Seconds(); !h.lastAt.IsZero() && seconds > 0 {
		rate := func(now, before uint64) float64 {
			if now < before { // a path set or a peer went, and its counters with it
				return 0
			}
			return float64(now-before) / seconds
		}
		l := h.last
		s.PacketsIn, s.PacketsOut, s.Delivered = rate(t.in, l.in), rate(t.out, l.out), rate(t.delivered, l.delivered)
		s.Rescued, s.Repaired, s.Undelivered = rate(t.rescued, l.rescued), rate(t.repaired, l.repaired), rate(t.undelivered, l.undelivered)
		s.Dropped = rate(t.dropped, l.dropped)
	}
	s.At = now.UnixMilli()
	h.last, h.lastAt = t, now
	if len(h.samples) == historyKept {
		copy(h.samples, h.samples[1:])
		h.samples = h.samples[:historyKept-1]
	}
	h.samples = append(h.samples, s)
}

// since lists the samples after a moment in Unix milliseconds, oldest first.
func (h *history) since(at int64) []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []Sample{}
	for _, s := range h.samples {
		if s.At > at {
			out = append(out, s)
		}
	}
	return out
}

// keepHistory samples until ctx ends.
func (n *Node) keepHistory(ctx context.Context) error {
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	for {
		n.history.observe(n.sample(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (n *Node) sample(now time.Time) (time.Time, Sample, totals) {
	status := n.status(n.mesh.Own) // findings look at no others
	s := Sample{Sessions: n.sessions(), Findings: len(status.Findings)}
	for _, m := range status.Members {
		if m.Alive {
			s.Members++
		}
	}
	t := totals{in: status.Access.PacketsIn, out: status.Access.PacketsOut}
	for _, b := range status.Braids {
		t.delivered += b.PacketsDelivered
		t.repaired += b.Repaired
		t.undelivered += b.Undelivered
		for _, p := range b.In {
			t.rescued += p.Rescued
		}
	}
	for _, c := range n.filter.Report().Counts {
		if c.Verdict == "drop" {
			t.dropped += c.Packets
		}
	}
	return now, s, t
}
