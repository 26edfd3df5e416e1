package access

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Whoever can send requests can cause refusals, so their log lines have a limit for each
// reason; what is left out is summed up. Counters count everything.
const (
	refusalBurst    = 10               // lines at once per reason
	refusalRate     = 1                // lines per second and reason after that
	refusalSumEvery = 10 * time.Second // between two summaries of a reason
)

// refusals decides which refusals are logged. Reasons are words of this package, never of
// a client, so the map has a few dozen entries at most.
type refusals struct {
	mu   sync.Mutex
	by   map[string]*refusalLog
	seen map[string]uint64 // all of them, by reason
}

// refusalLog is one reason's.
type refusalLog struct {
	bucket *rate.Limiter
	more   uint64    // left out since the last summary
	summed time.Time // the last summary, or when the first one was left out
}

func (r *refusals) init() {
	r.by, r.seen = map[string]*refusalLog{}, map[string]uint64{}
}

// note counts one refusal and says whether to log it.
func (r *refusals) note(reason string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[reason]++
	l := r.by[reason]
	if l == nil {
		l = &refusalLog{bucket: rate.NewLimiter(refusalRate, refusalBurst)}
		r.by[reason] = l
	}
	if l.bucket.AllowN(now, 1) {
		return true
	}
	if l.more == 0 && now.Sub(l.summed) > refusalSumEvery {
		l.summed = now // a flood begins: its summary covers 10 s of it
	}
	l.more++
	return false
}

// due takes the summaries that are to be written at now: how many were left out, by
// reason.
func (r *refusals) due(now time.Time) map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]uint64{}
	for reason, l := range r.by {
		if l.more > 0 && now.Sub(l.summed) >= refusalSumEvery {
			out[reason] = l.more
			l.more, l.summed = 0, now
		}
	}
	return out
}

// counted returns all refusals by reason.
func (r *refusals) counted() map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}

// sumRefusals writes the summaries.
func (a *Access) sumRefusals(now time.Time) {
	for reason, more := range a.refused.due(now) {
		a.log.LogAttrs(context.Background(), slog.LevelInfo, "more refused for this reason",
			slog.String("reason", reason), slog.Uint64("more", more))
	}
}
