package demo

import (
	"slices"
	"strings"
	"time"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim/demo/page"
)

const (
	// lossWindow is what "loss now" covers.
	lossWindow = 5 * time.Second
	// flowMemory is how long a flow without new packets is still shown.
	flowMemory = 5 * time.Second
	// pathMemory is how long a path that left is still shown.
	pathMemory = 60 * time.Second
)

// flows turns what nodes say of their braids into what the page draws. It is pure: the caller brings the time; one
// goroutine at a time.
type flows struct {
	known map[string]*flowState
}

type flowState struct {
	flow  page.Flow
	grown time.Time // when packets last arrived
	paths map[string]*pathState
	order []string
}

type pathState struct {
	path    page.Path
	seen    time.Time // when the receiver last listed it
	used    time.Time // when it was last active
	samples []lossSample
}

type lossSample struct {
	at         time.Time
	sent, lost uint64
}

func newFlows() *flows { return &flows{known: make(map[string]*flowState)} }

// observe takes the status of all living nodes and returns the flows that carry media, in a stable order.
func (f *flows) observe(now time.Time, statuses []node.Status) []page.Flow {
	sent := outgoing(statuses)
	for _, s := range statuses {
		for _, b := range s.Braids {
			if b.PacketsDelivered > 0 {
				f.update(now, b.Peer, s.Node, b, sent)
			}
		}
	}
	out := []page.Flow{}
	for key, state := range f.known {
		if now.Sub(state.grown) > flowMemory {
			delete(f.known, key)
			continue
		}
		out = append(out, state.view(now))
	}
	slices.SortFunc(out, func(a, b page.Flow) int { return strings.Compare(a.From+" "+a.To, b.From+" "+b.To) })
	return out
}

// outgoing collects what senders say of their paths: they decide which are in use, and they alone know what was sent.
func outgoing(statuses []node.Status) map[string]node.PathStatus {
	out := make(map[string]node.PathStatus)
	for _, s := range statuses {
		for _, b := range s.Braids {
			for _, p := range b.Out {
				known, seen := out[route(p.Hops)]
				if seen { // the path was left and taken again: two records
					p.Sent += known.Sent
					p.Active, p.Alive = p.Active || known.Active, p.Alive || known.Alive
				}
				out[route(p.Hops)] = p
			}
		}
	}
	return out
}

// merged joins records of one path in a receiver's list: those of earlier lives are summed up.
func merged(paths []node.PathStatus) []node.PathStatus {
	var out []node.PathStatus
	for _, p := range paths {
		i := slices.IndexFunc(out, func(o node.PathStatus) bool { return slices.Equal(o.Hops, p.Hops) })
		if i < 0 {
			out = append(out, p)
			continue
		}
		o := &out[i]
		if p.Active || !o.Active { // the newer life's delays
			o.DelayMS, o.JitterMS = p.DelayMS, p.JitterMS
		}
		o.Active, o.Alive = o.Active || p.Active, o.Alive || p.Alive
		o.Sent, o.Lost, o.First, o.Rescued = o.Sent+p.Sent, o.Lost+p.Lost, o.First+p.First, o.Rescued+p.Rescued
	}
	return out
}

func (f *flows) update(now time.Time, from, to string, b node.BraidStatus, sent map[string]node.PathStatus) {
	key := from + " " + to
	state := f.known[key]
	if state == nil {
		state = &flowState{grown: now, paths: make(map[string]*pathState)}
		f.known[key] = state
	}
	if b.PacketsDelivered != state.flow.Delivered {
		state.grown = now
	}
	state.flow = page.Flow{
		From: from, To: to, Delivered: b.PacketsDelivered, Undelivered: b.Undelivered,
		Duplicates: b.Duplicates, Repaired: b.Repaired,
	}
	for _, p := range merged(b.In) {
		count := p.Sent
		if out, ok := sent[route(p.Hops)]; ok {
			// A sender hears late, and doubts a slow path sooner than the receiver, who has its packets in hand.
			p.Active, p.Alive, count = out.Active, out.Active && (out.Alive || p.Alive), out.Sent
		}
		state.update(now, p, count)
	}
}

func (s *flowState) update(now time.Time, p node.PathStatus, sent uint64) {
	key := route(p.Hops)
	state := s.paths[key]
	if state == nil {
		state = &pathState{used: now}
		s.paths[key] = state
		s.order = append(s.order, key)
	}
	state.seen = now
	if p.Active {
		state.used = now
	}
	state.path = page.Path{
		Hops: p.Hops, Active: p.Active, Alive: p.Alive, Sent: sent, Lost: p.Lost, First: p.First,
		Rescued: p.Rescued, DelayMS: p.DelayMS, JitterMS: p.JitterMS,
	}
	if n := len(state.samples); n > 0 && state.path.Sent < state.samples[n-1].sent {
		state.samples = nil // the session began anew
	}
	state.samples = append(state.samples, lossSample{now, state.path.Sent, p.Lost})
	for len(state.samples) > 2 && now.Sub(state.samples[0].at) > lossWindow {
		state.samples = state.samples[1:]
	}
}

// loss of the window in percent.
func (p *pathState) loss() float64 {
	if len(p.samples) < 2 {
		return 0
	}
	first, last := p.samples[0], p.samples[len(p.samples)-1]
	if last.sent <= first.sent || last.lost <= first.lost {
		return 0
	}
	return min(100, 100*float64(last.lost-first.lost)/float64(last.sent-first.sent))
}

func (s *flowState) view(now time.Time) page.Flow {
	out := s.flow
	out.Paths = []page.Path{}
	s.order = slices.DeleteFunc(s.order, func(key string) bool {
		old := now.Sub(s.paths[key].used) > pathMemory
		if old {
			delete(s.paths, key)
		}
		return old
	})
	for _, key := range s.order {
		state := s.paths[key]
		p := state.path
		p.LossPercent = state.loss()
		if state.seen != now { // no longer in the receiver's list
			p.Active, p.Alive = false, false
		}
		out.Paths = append(out.Paths, p)
	}
	return out
}

// route is a path as text.
func route(hops []string) string { return strings.Join(hops, " > ") }

// relayInUse picks the relay that would be missed most: of the active relayed path with the most first arrivals.
func relayInUse(flow page.Flow) (string, bool) {
	best, most := "", uint64(0)
	for _, p := range flow.Paths {
		if p.Active && p.Alive && len(p.Hops) > 2 && (best == "" || p.First > most) {
			best, most = p.Hops[1], p.First
		}
	}
	return best, best != ""
}
