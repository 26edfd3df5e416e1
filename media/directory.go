package media

import (
	"errors"
	"fmt"
	"math"
	"sort"
	"time"
)

// Bounds and times of the directory's soft state.
const (
	registrationTTL   = 15 * time.Second
	maxPerChannel     = 1024      // registrations of one channel
	maxPerHolder      = 16 * 1024 // registrations of one node: one bad node cannot fill the table
	maxRegistrations  = 64 * 1024 // registrations of all channels
	maxGenerationSkew = 1 << 62   // a generation is Unix milliseconds plus takeovers; beyond is rubbish
)

// Registration says that a node holds a stream. It is soft state: it lives registrationTTL unless renewed.
type Registration struct {
	Key
	Origin      string  `json:"origin"`        // the stream's ingress
	Node        string  `json:"node"`          // who offers it; equals Origin at depth 0
	Generation  uint64  `json:"generation"`    // of the publication at Origin
	Depth       uint8   `json:"depth"`         // hops from Origin to Node
	Load        float64 `json:"load"`          // of Node, 0 = idle
	SinceUnixMS int64   `json:"since_unix_ms"` // start of the stream
	Tracks      []Track `json:"tracks"`
}

// check validates a registration that came from the network.
func (r Registration) check() error {
	if err := checkKey(r.Key); err != nil {
		return err
	}
	if err := errors.Join(checkName("origin", r.Origin), checkName("node", r.Node)); err != nil {
		return err
	}
	switch {
	case r.Depth > MaxDepth:
		return fmt.Errorf("%w: depth %d, at most %d is allowed", ErrInvalid, r.Depth, MaxDepth)
	case r.Depth == 0 && r.Node != r.Origin:
		return fmt.Errorf("%w: depth 0 at a node other than the origin", ErrInvalid)
	case r.Generation == 0 || r.Generation > maxGenerationSkew:
		return fmt.Errorf("%w: generation %d", ErrInvalid, r.Generation)
	case math.IsNaN(r.Load) || math.IsInf(r.Load, 0) || r.Load < 0:
		return fmt.Errorf("%w: load %v", ErrInvalid, r.Load)
	}
	return checkTracks(r.Tracks)
}

// holding identifies a registration within its channel.
type holding struct{ stream, node string }

type entry struct {
	reg     Registration
	expires time.Time
}

// table is a directory node's soft state: a pure core, all times are parameters. Not safe for concurrent use.
type table struct {
	rooms   map[room]map[holding]entry
	holders map[string]int // registrations per node
	total   int
}

func newTable() *table {
	return &table{rooms: map[room]map[holding]entry{}, holders: map[string]int{}}
}

// put stores or renews a registration, already checked. It answers a refusal by name, "" when stored. An
// older generation of the same holding is refused: it is a late packet of the past.
func (t *table) put(now time.Time, r Registration) (refused string) {
	rm, h := r.room(), holding{r.Stream, r.Node}
	old, renew := t.rooms[rm][h]
	renew = renew && now.Before(old.expires)
	if renew && old.reg.Generation > r.Generation {
		return "stale"
	}
	if !renew {
		if t.total >= maxRegistrations || t.holders[r.Node] >= maxPerHolder || len(t.rooms[rm]) >= maxPerChannel {
			t.sweep(now) // what is dead must not keep the living out
		}
		switch {
		case t.total >= maxRegistrations:
			return "table full"
		case t.holders[r.Node] >= maxPerHolder:
			return "node full"
		case len(t.rooms[rm]) >= maxPerChannel:
			return "channel full"
		}
	}
	if t.rooms[rm] == nil {
		t.rooms[rm] = map[holding]entry{}
	}
	if _, exists := t.rooms[rm][h]; !exists {
		t.holders[r.Node]++
		t.total++
	}
	t.rooms[rm][h] = entry{r, now.Add(registrationTTL)}
	return ""
}

// drop withdraws a holding up to and including a generation; a newer one stays.
func (t *table) drop(key Key, node string, generation uint64) {
	rm, h := key.room(), holding{key.Stream, node}
	if e, ok := t.rooms[rm][h]; ok && e.reg.Generation <= generation {
		t.remove(rm, h)
	}
}

func (t *table) remove(rm room, h holding) {
	delete(t.rooms[rm], h)
	if len(t.rooms[rm]) == 0 {
		delete(t.rooms, rm)
	}
	t.total--
	if t.holders[h.node]--; t.holders[h.node] == 0 {
		delete(t.holders, h.node)
	}
}

// get returns the living registrations of a channel, longest live first: if an answer has to be cut, the
// choice of the longest-lived stream stays right.
func (t *table) get(now time.Time, app, channel string) []Registration {
	var out []Registration
	for _, e := range t.rooms[room{app, channel}] {
		if now.Before(e.expires) {
			out = append(out, e.reg)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].older(out[j]) })
	return out
}

// older orders registrations by the age of their stream, then by names, so that the order is total.
func (r Registration) older(o Registration) bool {
	switch {
	case r.SinceUnixMS != o.SinceUnixMS:
		return r.SinceUnixMS < o.SinceUnixMS
	case r.Stream != o.Stream:
		return r.Stream < o.Stream
	}
	return r.Node < o.Node
}

// sweep forgets what has expired.
func (t *table) sweep(now time.Time) {
	for rm, hs := range t.rooms {
		for h, e := range hs {
			if !now.Before(e.expires) {
				t.remove(rm, h)
			}
		}
	}
}

// union merges the answers of several directory nodes: per stream and node the highest generation wins.
func union(answers ...[]Registration) []Registration {
	best := map[holding]Registration{}
	for _, answer := range answers {
		for _, r := range answer {
			h := holding{r.Stream, r.Node}
			if old, ok := best[h]; !ok || r.Generation > old.Generation {
				best[h] = r
			}
		}
	}
	out := make([]Registration, 0, len(best))
	for _, r := range best {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].older(out[j]) })
	return out
}

// holdersOf returns who offers a stream, the one to ask first in front: the newest generation (two ingresses
// may claim one stream id while a publisher moves), then the highest origin name, then the least depth, then
// the least load.
func holdersOf(regs []Registration, stream string) []Registration {
	var out []Registration
	for _, r := range regs {
		if r.Stream == stream {
			out = append(out, r)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		switch {
		case a.Generation != b.Generation:
			return a.Generation > b.Generation
		case a.Origin != b.Origin:
			return a.Origin > b.Origin
		case a.Depth != b.Depth:
			return a.Depth < b.Depth
		case a.Load != b.Load:
			return a.Load < b.Load
		}
		return a.Node < b.Node
	})
	return out
}

// streamsOf returns one StreamInfo per stream, longest live first; a stream with several claims is described
// by the one that a subscriber would get.
func streamsOf(regs []Registration) []StreamInfo {
	var out []StreamInfo
	seen := map[string]bool{}
	for _, r := range regs {
		if seen[r.Stream] {
			continue
		}
		seen[r.Stream] = true
		w := holdersOf(regs, r.Stream)[0]
		out = append(out, StreamInfo{w.Stream, w.Origin, w.Generation, w.SinceUnixMS, w.Tracks})
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].SinceUnixMS != out[j].SinceUnixMS {
			return out[i].SinceUnixMS < out[j].SinceUnixMS
		}
		return out[i].Stream < out[j].Stream
	})
	return out
}
