package access

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/node/access/token"
	"github.com/ternmesh/tern/node/fair"
)

// right is what a session lives on.
type right uint8

const (
	rightJoin right = 1 << iota
	rightAudio
	rightVideo
	rightSubscribe
)

// expiry returns the earliest expiry of the rights in need; zero if one is missing.
func (need right) expiry(g token.Grant) time.Time {
	end := g.Join
	for _, f := range []struct {
		bit   right
		until time.Time
	}{{rightAudio, g.PublishAudio}, {rightVideo, g.PublishVideo}, {rightSubscribe, g.Subscribe}} {
		if need&f.bit != 0 && (f.until.IsZero() || f.until.Before(end)) {
			end = f.until
		}
	}
	return end
}

// join is a request that passed the gate.
type join struct {
	app, channel string
	grant        token.Grant
	pass         pass // without its expiry, which depends on what is asked
	source       netip.Prefix
}

// enter is the common beginning of every join: may anybody enter, may this address, may this token. A place is reserved later,
// when the body is here: who sends it slowly must hold none.
func (a *Access) enter(r *http.Request) (join, *problem) {
	a.mu.Lock()
	p := a.full()
	a.mu.Unlock()
	if p != nil {
		return join{}, p
	}
	j, p := a.check(r)
	if p == nil && a.cfg.Draining() {
		p = a.elsewhere(r, j.app)
	}
	return j, p
}

// elsewhere sends a client that may enter, but not here any more, to another node; 503 if there is none. Strangers are
// not told where the other nodes are.
func (a *Access) elsewhere(r *http.Request, app string) *problem {
	base, ok := a.cfg.Elsewhere(app)
	if !ok {
		return &problem{status: http.StatusServiceUnavailable, reason: "draining", detail: "try again", retryAfter: 5}
	}
	return &problem{status: http.StatusTemporaryRedirect, reason: "redirected", detail: "go to the other node", location: base + r.URL.RequestURI()}
}

// check decides by address, names and token.
func (a *Access) check(r *http.Request) (join, *problem) {
	now := a.now()
	if !a.joins.allow(r.RemoteAddr, now) {
		return join{}, &problem{status: http.StatusTooManyRequests, detail: "too many requests", reason: "join_rate", retryAfter: 1}
	}
	j := join{app: r.PathValue("app"), channel: r.PathValue("channel"), source: fair.SourceOf(r.RemoteAddr)}
	user := r.URL.Query().Get("user")
	switch {
	case !validChannel(j.channel):
		return j, bad("bad_channel", "the channel's name is not valid", nil)
	case len(user) > media.MaxNameBytes:
		return j, bad("bad_user", "the user's name is not valid", nil)
	}
	app, tok := a.app(j.app), bearer(r)
	grant, err := a.verify(r, tok, app, j.channel, user)
	if err != nil {
		return j, refusal(err)
	}
	j.grant = grant
	j.pass = pass{bearer: tok, user: grant.User, room: grant.Session, id: grant.ID, owner: a.ownerOf(r.Header)}
	if reason := j.pass.owner.refusal(app); reason != "" {
		return j, ownerProblem(reason)
	}
	return j, nil
}

// verify checks a token. One that names an unknown key is checked again if the app's
// key set turns out to have changed; a room token that was used is refused.
func (a *Access) verify(r *http.Request, tok string, app App, channel, user string) (token.Grant, error) {
	grant, err := token.VerifyUser(tok, app.App, channel, user, a.now())
	if errors.Is(err, token.ReasonUnknownKey) && a.cfg.UnknownKey(r.Context(), app.ID) {
		grant, err = token.VerifyUser(tok, a.app(app.ID).App, channel, user, a.now())
	}
	if err == nil && a.used.has(app.ID, grant.ID) {
		err = token.ReasonReplayed
	}
	return grant, err
}

// ownerProblem refuses what the network's owner does not allow: 403, as those proxies'
// users know it.
func ownerProblem(reason string) *problem {
	return &problem{status: http.StatusForbidden, reason: reason, detail: "the network does not allow this"}
}

// app returns the app, or one that nobody has a certificate of: the work and the
// answer are the same, so that a stranger cannot tell which apps exist.
func (a *Access) app(id string) App {
	if app, ok := a.cfg.App(id); ok {
		return app
	}
	app := a.decoy
	app.ID = id
	return app
}

// refusal turns a token error into an answer.
func refusal(err error) *problem {
	reason := token.ReasonOf(err)
	p := &problem{status: reason.Status(), reason: "token_" + string(reason), err: err, detail: "a valid token is required"}
	if p.status == http.StatusForbidden {
		p.detail = "the token does not allow this"
	}
	return p
}

// require refuses a grant that lacks a right that the request needs.
func (a *Access) require(g token.Grant, need right) (time.Time, *problem) {
	until := need.expiry(g)
	if !a.now().Before(until) {
		return time.Time{}, refusal(token.ReasonNotGranted)
	}
	return until, nil
}

// stillAdmitted asks the token of a session again.
func (a *Access) stillAdmitted(s *session, now time.Time) error {
	app, p := a.app(s.app), s.passport()
	grant, err := token.VerifyUser(p.bearer, app.App, s.channel, p.user, now)
	switch {
	case err != nil:
		return err
	case !now.Before(s.need.expiry(grant)) || p.owner.refusal(app) != "":
		return token.ReasonNotGranted
	}
	return nil
}

// bearer returns the token of the Authorization header, "" if there is none.
func bearer(r *http.Request) string {
	scheme, tok, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(tok)
}

// validChannel bounds channel names: what media takes, without slashes.
func validChannel(s string) bool {
	return s != "" && len(s) <= media.MaxNameBytes && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '/' })
}

// validStream is the grammar of stream ids that clients choose.
func validStream(s string) bool {
	const set = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return s != "" && len(s) <= 64 && strings.Trim(s, set) == ""
}

// hubProblem translates media's errors.
func hubProblem(err error) *problem {
	switch {
	case errors.Is(err, media.ErrNotLive):
		return &problem{status: http.StatusConflict, reason: "not_live", err: err, detail: "nothing is live here now", retryAfter: 2}
	case errors.Is(err, media.ErrNotAllowed):
		return &problem{status: http.StatusForbidden, reason: "fence", err: err, detail: "the token does not allow this"}
	case errors.Is(err, media.ErrInvalid):
		return bad("invalid", "the request is not valid", err)
	}
	// Everything else passes: a limit, a restart, a directory that did not answer.
	return &problem{status: http.StatusServiceUnavailable, reason: "unavailable", err: err, detail: "try again", retryAfter: 2}
}

// full says why no session more may open; nil if one may. Called with mu held.
func (a *Access) full() *problem {
	switch {
	case !a.running:
		return &problem{status: http.StatusServiceUnavailable, reason: "not_running", detail: "try again", retryAfter: 5}
	case len(a.sessions)+a.reserved >= a.cfg.MaxSessions:
		return &problem{status: http.StatusServiceUnavailable, reason: "sessions", detail: "try again", retryAfter: 5}
	}
	return nil
}

// reserve takes a session's place before any work is done for it; each success needs one leave.
func (a *Access) reserve() *problem {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.full(); p != nil {
		return p
	}
	a.reserved++
	return nil
}

// leave gives the place back; a session that was registered has its own by then.
func (a *Access) leave() {
	a.mu.Lock()
	a.reserved--
	a.mu.Unlock()
}
