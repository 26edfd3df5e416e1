package token

import (
	"crypto/hmac"
	"fmt"
	"time"
)

// Privileges of an RTC service.
const (
	privJoin         = 1
	privPublishAudio = 2
	privPublishVideo = 3
	privPublishData  = 4
)

// verify007 runs the checks in order: shape, app, signature, time, service.
func verify007(tok string, app App, w want) (Grant, error) {
	c, err := decode007(tok)
	if err != nil {
		return Grant{}, err
	}
	if c.appID != app.ID {
		return Grant{}, ReasonWrongApp
	}
	if err := c.authentic(app); err != nil {
		return Grant{}, err
	}
	if err := c.inTime(w.now); err != nil {
		return Grant{}, err
	}
	if c.leftover > 0 {
		return Grant{}, fmt.Errorf("%w: %d bytes after the last service", ReasonMalformed, c.leftover)
	}
	return c.rtc(w)
}

// authentic tries the certificates, primary first.
func (c content) authentic(app App) error {
	keys := app.keys()
	if len(keys) == 0 {
		return ReasonNoCertificate
	}
	for _, cert := range keys {
		if hmac.Equal(sign007(cert, c.issued, c.salt, c.body), c.signature) {
			return nil
		}
	}
	return ReasonBadSignature
}

func (c content) inTime(now time.Time) error {
	switch {
	case time.Unix(int64(c.issued), 0).After(now.Add(clockSkew)):
		return ReasonNotYetValid
	case !now.Before(c.end()):
		return ReasonExpired
	}
	return nil
}

// end is the token's expiry, clamped to 24 hours after its issue.
func (c content) end() time.Time { return c.at(c.expire) }

// at turns seconds after the issue into an instant, clamped like end.
func (c content) at(seconds uint32) time.Time {
	after := min(time.Duration(seconds)*time.Second, MaxLifetime)
	return time.Unix(int64(c.issued), 0).Add(after)
}

// rtc picks the one RTC service that the grant comes from: it must match as a whole,
// and of several that do, the one with the most live rights wins, the first of equals.
func (c content) rtc(w want) (Grant, error) {
	var best Grant
	bestRights, refused := 0, error(ReasonNoService)
	for _, s := range c.services {
		if s.kind != serviceRTC {
			continue
		}
		g, err := c.service(s, w)
		if err != nil {
			refused = nearest(refused, err)
			continue
		}
		if n := g.rights(w.now); n > bestRights {
			best, bestRights = g, n
		}
	}
	if bestRights == 0 {
		return Grant{}, refused
	}
	return best, nil
}

// service turns one RTC service into a grant, or says why it does not match.
func (c content) service(s service, w want) (Grant, error) {
	if s.channel == "" || (!w.anyChan && s.channel != w.channel) {
		return Grant{}, ReasonWrongChannel
	}
	if w.user != "" && s.user != "" && s.user != w.user {
		return Grant{}, ReasonWrongUser
	}
	g := c.expiries(s)
	if g.User == "" {
		g.User = w.user
	}
	if !w.now.Before(g.Join) { // zero (absent) is before any now as well
		return Grant{}, fmt.Errorf("%w: absent or expired", ReasonNoJoin)
	}
	return g, nil
}

// expiries reads the privileges. A value of 0 sets no limit of its own; join bounds
// the rest, and whoever may join may subscribe.
func (c content) expiries(s service) Grant {
	g := Grant{App: c.appID, Channel: s.channel, User: s.user}
	for _, p := range s.privileges {
		until := c.end()
		if p.seconds != 0 {
			until = earlier(c.at(p.seconds), until)
		}
		g.set(p.id, until)
	}
	return g.bounded()
}

// set gives a right by its privilege number. Whoever may join may subscribe.
func (g *Grant) set(privilege uint16, until time.Time) {
	switch privilege {
	case privJoin:
		g.Join, g.Subscribe = until, until
	case privPublishAudio:
		g.PublishAudio = until
	case privPublishVideo:
		g.PublishVideo = until
	case privPublishData:
		g.PublishData = until
	}
}

// bounded cuts every right at the end of Join.
func (g Grant) bounded() Grant {
	for _, f := range []*time.Time{&g.PublishAudio, &g.PublishVideo, &g.PublishData} {
		*f = earlier(*f, g.Join)
	}
	return g
}

// rights counts what is granted at now.
func (g Grant) rights(now time.Time) (n int) {
	for _, t := range []time.Time{g.Join, g.PublishAudio, g.PublishVideo, g.PublishData, g.Subscribe} {
		if now.Before(t) {
			n++
		}
	}
	return n
}

// nearest keeps the refusal of the service that came closest to matching.
func nearest(a, b error) error {
	rank := map[Reason]int{ReasonNoService: 0, ReasonWrongChannel: 1, ReasonWrongUser: 2, ReasonNoJoin: 3}
	if rank[ReasonOf(b)] > rank[ReasonOf(a)] {
		return b
	}
	return a
}
