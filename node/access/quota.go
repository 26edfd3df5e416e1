package access

import (
	"fmt"
	"net/http"
	"net/netip"
	"sync"
)

// quota bounds the plain RTP sessions of one app and of one source: a range of ports is
// soon used up, and one token may be used any number of times.
type quota struct {
	perApp, perSource int // set once

	mu      sync.Mutex // guards the rest; entries of zero are removed
	apps    map[string]int
	sources map[netip.Prefix]int
}

func (q *quota) init(perApp, perSource int) {
	q.perApp, q.perSource = perApp, perSource
	q.apps, q.sources = map[string]int{}, map[netip.Prefix]int{}
}

// take counts one ingest, or says which limit is reached: its token is good, so the
// client may know. Each success needs one give.
func (q *quota) take(app string, source netip.Prefix) *problem {
	q.mu.Lock()
	defer q.mu.Unlock()
	over := func(reason, whose string, most int) *problem {
		return &problem{status: http.StatusTooManyRequests, reason: reason, retryAfter: 5,
			detail: fmt.Sprintf("%s has %d RTP sessions open, which is the limit", whose, most)}
	}
	switch {
	case q.sources[source] >= q.perSource:
		return over("rtp_source_limit", "this address", q.perSource)
	case q.apps[app] >= q.perApp:
		return over("rtp_app_limit", "this app", q.perApp)
	}
	q.apps[app]++
	q.sources[source]++
	return nil
}

// give takes one ingest off the count.
func (q *quota) give(app string, source netip.Prefix) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.apps[app]--; q.apps[app] == 0 {
		delete(q.apps, app)
	}
	if q.sources[source]--; q.sources[source] == 0 {
		delete(q.sources, source)
	}
}

// reached says that one session more would be over an app's limits; nil if not. Sessions
// of a thousand are looked through in less time than the rest of a join takes.
func (l Limits) reached(s *session, open map[string]*session) *problem {
	if l == (Limits{}) {
		return nil
	}
	publishers, viewers := 0, 0
	channels := map[string]bool{s.channel: true}
	for _, other := range open {
		if other.app != s.app {
			continue
		}
		channels[other.channel] = true
		if other.watches() {
			viewers++
		} else {
			publishers++
		}
	}
	over := func(reason, what string, most int) *problem {
		return &problem{status: http.StatusTooManyRequests, reason: reason, retryAfter: 5,
			detail: fmt.Sprintf("the app has %d %s open here, which is its limit", most, what)}
	}
	switch {
	case l.Channels > 0 && len(channels) > l.Channels:
		return over("app_channels", "channels", l.Channels)
	case s.watches() && l.Viewers > 0 && viewers >= l.Viewers:
		return over("app_viewers", "viewers", l.Viewers)
	case !s.watches() && l.Publishers > 0 && publishers >= l.Publishers:
		return over("app_publishers", "publishers", l.Publishers)
	}
	return nil
}

// watches tells viewers from publishers.
func (s *session) watches() bool { return s.kind == kindWHEP || s.kind == kindRTPOut }
