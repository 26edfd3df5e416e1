package token

import "time"

// InspectOptions say what to compare a token with. Empty App, Channel and User are
// taken from the token itself (006 holds no channel and no user, so both must be given);
// without Certificates or Keys nothing can be admitted, but the token is still shown.
// Issuers are further names of App. Room asks for a room token. Now must be set.
type InspectOptions struct {
	App          string
	Certificates []string
	Keys         []Key
	Issuers      []string
	Channel      string
	User         string
	Room         bool
	Now          time.Time
}

// Report says what a token holds and whether it would be admitted. Grants and
// ExpiresAt are Unix seconds. Where Admitted is false, Reason says why, and the other
// fields are what the token claims, proven or not.
type Report struct {
	Format    string           `json:"format"`
	Admitted  bool             `json:"admitted"`
	Reason    Reason           `json:"reason"`
	App       string           `json:"app"`
	Channel   string           `json:"channel"`
	User      string           `json:"user"`
	Grants    map[string]int64 `json:"grants"`
	ExpiresAt int64            `json:"expires_at"`
}

// Inspect reports on tok. It holds no secret, so a report may be printed.
func Inspect(tok string, o InspectOptions) Report {
	r := Report{Format: format(tok), Grants: map[string]int64{}}
	r.claim(tok)
	// 006 is a choice of the app's policy, which is not known here.
	app := App{ID: o.App, Certificates: o.Certificates, Keys: o.Keys, Issuers: o.Issuers, Auth: AuthToken, Legacy006: true, RoomTokens: o.Room}
	if app.ID == "" {
		app.ID = r.App
	}
	g, err := verify(tok, app, want{channel: o.Channel, anyChan: o.Channel == "", user: o.User, now: o.Now})
	if err != nil {
		r.Reason = ReasonOf(err)
		return r
	}
	r.Admitted = true
	r.Grants = map[string]int64{}
	r.show(g)
	return r
}

// claim fills the report from the token without believing it.
func (r *Report) claim(tok string) {
	switch r.Format {
	case Format007:
		c, err := decode007(tok)
		if err != nil {
			return
		}
		r.App, r.ExpiresAt = c.appID, c.end().Unix()
		for _, s := range c.services {
			if s.kind == serviceRTC {
				g := c.expiries(s)
				r.show(g)
				return
			}
		}
	case Format006:
		if c, err := decode006(tok); err == nil {
			r.App, r.ExpiresAt = c.appID, int64(c.expires)
			r.show(c.expiries("", ""))
		}
	case FormatJWT:
		r.claimJWT(tok)
	}
}

// claimJWT fills the report from a JWT of either kind.
func (r *Report) claimJWT(tok string) {
	signed, _ := cutLast(tok)
	c, err := decodeClaims(signed)
	if err != nil {
		return
	}
	if c.Video != nil {
		r.Format = FormatLiveKit
	}
	r.App, r.Channel, r.User = c.Issuer, c.Channel, c.Subject
	exp, ok := numericDate(c.ExpiresAt)
	switch {
	case !ok:
	case c.Video != nil:
		r.show(c.livekitRights(exp))
	default:
		r.show(c.rights(c.Channel, exp))
	}
}

// show copies a grant. The session ends with join, so that is the expiry shown.
func (r *Report) show(g Grant) {
	r.App, r.Channel, r.User = g.App, g.Channel, g.User
	for _, right := range []string{canJoin, CanPublishAudio, CanPublishVideo, CanPublishData, CanSubscribe} {
		if t := *g.field(right); !t.IsZero() {
			r.Grants[right] = t.Unix()
		}
	}
	if !g.Join.IsZero() {
		r.ExpiresAt = g.Join.Unix()
	}
}
