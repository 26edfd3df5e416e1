package access

import (
	"net/http"

	"github.com/ternmesh/tern/node/access/token"
)

// holder is whose half-open sessions are counted together: those of one token, or of everybody who needs none for an app. A client
// has a new address, channel, stream or spelling of its token for the asking; a token it has not.
type holder struct{ app, token string }

func (a *Access) holderOf(j join) holder {
	if a.app(j.app).Auth == token.AuthAppID {
		return holder{app: j.app} // what it sent as a token was not looked at
	}
	return holder{j.app, token.Core(j.pass.bearer)}
}

// halfOpen makes room for a session where too many wait for their clients to connect. One source may have maxHalfOpen of them.
// Where half of all places wait, the oldest session of the holder that has most is to give way: to anybody else's at once, and to
// the same holder's when it has had time to connect. So a flood takes places from itself alone. Called with Access.mu held.
func (a *Access) halfOpen(s *session) (yields *session, refused *problem) {
	if s.pc == nil {
		return nil, nil // plain RTP has a quota of its own
	}
	all, same := 0, 0
	for _, other := range a.sessions {
		if other.pc == nil || other.connected.Load() {
			continue
		}
		if all++; other.source == s.source {
			same++
		}
	}
	switch {
	case same >= maxHalfOpen:
		return nil, &problem{status: http.StatusTooManyRequests, reason: "half_open_source", detail: "too many of your sessions wait for their clients to connect", retryAfter: 5}
	case all < max(1, a.cfg.MaxSessions/2):
		return nil, nil
	}
	of := map[holder]int{}
	for _, other := range a.sessions {
		if other.pc != nil && !other.connected.Load() {
			of[other.holder]++
		}
	}
	for _, other := range a.sessions {
		switch {
		case other.pc == nil || other.connected.Load():
		case yields == nil, of[other.holder] > of[yields.holder], of[other.holder] == of[yields.holder] && other.opened.Before(yields.opened):
			yields = other
		}
	}
	if yields == nil || (of[s.holder] >= of[yields.holder] && s.opened.Sub(yields.opened) < connectsIn) {
		return nil, &problem{status: http.StatusServiceUnavailable, reason: "half_open", detail: "too many sessions wait for their clients to connect: try again", retryAfter: 5}
	}
	return yields, nil
}
