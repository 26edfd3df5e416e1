package access

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/node/fair"
)

// maxSources bounds the addresses whose joins are remembered.
const maxSources = 4096

// sourceLimits is one token bucket per source: an IPv4 address or an IPv6 /64, which
// is what one subscriber usually has. The least recently seen is forgotten first.
type sourceLimits struct {
	limit rate.Limit
	burst int

	mu     sync.Mutex
	recent *list.List // of *sourceLimit, most recent first
	byAddr map[netip.Prefix]*list.Element
}

type sourceLimit struct {
	addr   netip.Prefix
	bucket *rate.Limiter
}

func newSourceLimits(limit rate.Limit, burst int) *sourceLimits {
	return &sourceLimits{limit: limit, burst: burst, recent: list.New(), byAddr: map[netip.Prefix]*list.Element{}}
}

// allow takes one join from the bucket of remote ("host:port"). Addresses that do not
// parse share one bucket.
func (l *sourceLimits) allow(remote string, now time.Time) bool {
	addr := fair.SourceOf(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	e, ok := l.byAddr[addr]
	if !ok {
		if l.recent.Len() >= maxSources {
			oldest := l.recent.Back()
			delete(l.byAddr, l.recent.Remove(oldest).(*sourceLimit).addr)
		}
		e = l.recent.PushFront(&sourceLimit{addr: addr, bucket: rate.NewLimiter(l.limit, l.burst)})
		l.byAddr[addr] = e
	}
	l.recent.MoveToFront(e)
	return e.Value.(*sourceLimit).bucket.AllowN(now, 1)
}
