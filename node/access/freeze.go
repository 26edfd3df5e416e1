package access

import (
	"cmp"
	"slices"
	"time"

	"github.com/ternmesh/tern/media"
)

const (
	// A picture stands still if the next frame is this much later than frames are on average (W3C, webrtc-stats: a freeze).
	freezeTimes = 3
	freezeOver  = 150 * time.Millisecond
	// freezeMean frames make the average, and freezeLeast are needed before it counts.
	freezeMean, freezeLeast = 30, 10
)

// still watches the frames that are written to one viewer, and counts when its picture stands still for want of them. What its
// last mile loses it does not see: of that keyframe requests tell. Pure.
type still struct {
	began  time.Time // when the newest frame began
	mean   time.Duration
	frames int
	count  int
	total  time.Duration
}

// frame takes note of the first packet of a frame, and returns for how long the picture stood still before it.
func (s *still) frame(now time.Time) (frozen time.Duration) {
	if s.frames++; s.frames == 1 {
		s.began = now
		return 0
	}
	gap := now.Sub(s.began)
	s.began = now
	if s.frames > freezeLeast && gap > max(freezeTimes*s.mean, s.mean+freezeOver) {
		s.count++
		s.total += gap
		frozen = gap
	}
	s.mean += (gap - s.mean) / time.Duration(min(s.frames-1, freezeMean))
	return frozen
}

// Watched is how the viewers of one stream at this node fare: WebRTC viewers that are there now, since they came.
type Watched struct {
	App           string        `json:"app"`
	Channel       string        `json:"channel"`
	Stream        string        `json:"stream"`
	Freezes       int           `json:"freezes"`        // gaps in the frames written to them, above three times the mean and 150 ms more than it
	Frozen        time.Duration `json:"frozen"`         // nanoseconds, the sum of these
	FrozenViewers int           `json:"frozen_viewers"` // that had any
	KeyframeAsks  uint64        `json:"keyframe_asks"`
	Trip          time.Duration `json:"trip"` // nanoseconds, the longest round trip to one of them
}

// Watched lists the streams that WebRTC viewers watch here. Safe at any time.
func (a *Access) Watched() []Watched {
	sums := make(map[media.Key]*Watched)
	for _, one := range a.all() {
		if one.viewer == nil {
			continue
		}
		u, s := one.viewer.audience.Load(), one.viewer.shard.Load()
		if u == nil || s == nil {
			continue
		}
		w := sums[u.key]
		if w == nil {
			w = &Watched{App: u.key.App, Channel: u.key.Channel, Stream: u.key.Stream}
			sums[u.key] = w
		}
		s.mu.Lock()
		one.viewer.fares(w)
		s.mu.Unlock()
	}
	out := make([]Watched, 0, len(sums))
	for _, w := range sums {
		out = append(out, *w)
	}
	slices.SortFunc(out, func(a, b Watched) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Channel, b.Channel), cmp.Compare(a.Stream, b.Stream))
	})
	return out
}

// fares adds this viewer to a sum. Called with the shard's lock held.
func (v *viewer) fares(w *Watched) {
	froze := false
	for i, t := range v.tracks {
		if t == nil || slices.Index(v.tracks, t) != i { // layers of one picture share theirs
			continue
		}
		w.Freezes += t.still.count
		w.Frozen += t.still.total
		w.Trip = max(w.Trip, t.trip)
		froze = froze || t.still.count > 0
	}
	w.KeyframeAsks += v.asked.Load()
	if froze {
		w.FrozenViewers++
	}
}
