package access

import (
	"net/http"
	"time"

	"github.com/ternmesh/tern/node/access/token"
)

// pass is what a session lives on: the token it last showed, who it is, and where it
// came from. A later token may replace it, for the same user and session only.
type pass struct {
	bearer  string // never logged
	user    string // "" where the token is anybody's and nobody was named
	room    string // the room token's session, "" for other tokens
	id      string // the room token's own name, used up when the session opens
	owner   ownerLines
	expires time.Time
}

// renewed takes the token of a PATCH: whoever sends another one than before wants to
// stay longer. True if the token that was sent is in force now, which the one of before
// is already; a problem leaves the old pass in force.
func (s *session) renewed(r *http.Request) (bool, *problem) {
	old := s.passport()
	tok := bearer(r)
	if tok == "" || tok == old.bearer {
		return tok != "", nil
	}
	a, now := s.a, s.a.now()
	app := a.app(s.app)
	grant, err := a.verify(r, tok, app, s.channel, old.user)
	if err != nil {
		return false, refusal(err)
	}
	next := pass{bearer: tok, user: grant.User, room: grant.Session, id: grant.ID, owner: a.ownerOf(r.Header), expires: s.need.expiry(grant)}
	switch {
	case !now.Before(next.expires):
		return false, refusal(token.ReasonNotGranted)
	case old.user != "" && next.user != old.user:
		return false, refusal(token.ReasonWrongUser)
	case next.room != old.room:
		return false, refusal(token.ReasonWrongSession)
	}
	if reason := next.owner.refusal(app); reason != "" {
		return false, ownerProblem(reason)
	}
	if !a.used.take(s.app, next.id, next.expires) {
		return false, refusal(token.ReasonReplayed)
	}
	s.mu.Lock()
	s.pass = next
	s.mu.Unlock()
	a.counts.renewed.Add(1)
	return true, nil
}

// passport returns the pass in force.
func (s *session) passport() pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pass
}

// renewSession is the PATCH of a session that knows no other: plain RTP.
func (a *Access) renewSession(kind string) handler {
	return func(w http.ResponseWriter, r *http.Request) *problem {
		s, p := a.of(kind, r)
		if p != nil {
			return p
		}
		if !a.patches.allow(r.RemoteAddr, a.now()) {
			return &problem{status: http.StatusTooManyRequests, detail: "too many requests", reason: "patch_rate", retryAfter: 1}
		}
		renewed, p := s.renewed(r)
		if p != nil {
			return p
		}
		if !renewed {
			return bad("no_token", "send a new token to renew the session", nil)
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}
