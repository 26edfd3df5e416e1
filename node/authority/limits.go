package authority

import (
	"net/netip"
	"sync"

	"golang.org/x/time/rate"
)

const (
	// perSecond and burst bound the requests of all; a thousand machines in a minute pass.
	perSecond = 50
	burst     = 200
	// sourceEvery and sourceBurst bound those of one source: a site of many machines behind one address passes, since each
	// asks once a day.
	sourcePerSecond = 1
	sourceBurst     = 20
	// maxSources bounds the sources that are remembered; a full table is emptied, which costs a burst each.
	maxSources = 4096
	// maxConns bounds open connections; more wait in the kernel's queue.
	maxConns = 512
	// maxPerSource bounds those of one source; more are closed at once.
	maxPerSource = 32
)

// limits are the rates of requests.
type limits struct {
	all *rate.Limiter

	mu      sync.Mutex
	sources map[netip.Prefix]*rate.Limiter // guarded by mu; at most maxSources
}

func newLimits() *limits {
	return &limits{all: rate.NewLimiter(perSecond, burst), sources: make(map[netip.Prefix]*rate.Limiter)}
}

// allow asks the source's limit first: one that is above its own takes nothing from the others.
func (l *limits) allow(source netip.Prefix) bool {
	l.mu.Lock()
	one := l.sources[source]
	if one == nil {
		if len(l.sources) >= maxSources {
			clear(l.sources)
		}
		one = rate.NewLimiter(sourcePerSecond, sourceBurst)
		l.sources[source] = one
	}
	l.mu.Unlock()
	return one.Allow() && l.all.Allow()
}
