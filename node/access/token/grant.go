package token

import (
	"fmt"
	"strings"
	"time"
)

const (
	// MaxSize is the longest token that is looked at, in bytes.
	MaxSize = 4096
	// MaxLifetime bounds every grant, counted from the token's issue time (or from
	// the moment of entry where no token is needed).
	MaxLifetime = 24 * time.Hour
	// clockSkew is how far ahead of ours an issuer's clock may run.
	clockSkew = 60 * time.Second
)

// Values of App.Auth.
const (
	AuthToken = "token"  // a token is required
	AuthAppID = "app_id" // knowing the app id is enough
)

// App is what must be known of an app to check its tokens. Any other Auth than the
// two values above admits nobody. Certificates are secrets: primary first, then the
// secondary during a rotation; empty ones are ignored.
type App struct {
	ID           string
	Certificates []string
	Auth         string
}

// Grant is what a client may do, each right until its own expiry; zero = not granted.
// An expiry is exclusive: at that instant the right is gone. No right outlives Join.
// User is "" where the token is good for anybody.
type Grant struct {
	App, Channel, User                                       string
	Join, PublishAudio, PublishVideo, PublishData, Subscribe time.Time
}

// Verify checks tok against app and returns what it grants in channel at now. The
// error wraps exactly one Reason. Where the app's auth mode asks for no token, tok is
// not looked at and everything is granted for 24 hours. Safe for concurrent use.
func Verify(tok string, app App, channel string, now time.Time) (Grant, error) {
	return VerifyUser(tok, app, channel, "", now)
}

// VerifyUser is Verify for a client that says who it is: the token must be good for
// that user, or for anybody. The empty user claims nothing.
func VerifyUser(tok string, app App, channel, user string, now time.Time) (Grant, error) {
	switch app.Auth {
	case AuthAppID:
		until := now.Add(MaxLifetime)
		return Grant{App: app.ID, Channel: channel, User: user, Join: until, PublishAudio: until,
			PublishVideo: until, PublishData: until, Subscribe: until}, nil
	case AuthToken:
	default:
		return Grant{}, fmt.Errorf("%w: %q", ReasonAuthMode, app.Auth)
	}
	return verify(tok, app, want{channel: channel, user: user, now: now})
}

// want is what the verifier compares a token with.
type want struct {
	channel string
	anyChan bool // inspect without a channel: the token's own is taken
	user    string
	now     time.Time
}

// verify is the part after the auth mode: cap, format, key.
func verify(tok string, app App, w want) (Grant, error) {
	switch format(tok) {
	case "":
		return Grant{}, shapeError(tok)
	case Format007:
		return verify007(tok, app, w)
	default:
		return verifyJWT(tok, app, w)
	}
}

// Names of the formats, as in Create and Report.
const (
	Format007 = "007"
	FormatJWT = "tern"
)

// format tells the formats apart by shape alone; "" if it is neither or too large.
func format(tok string) string {
	switch {
	case len(tok) > MaxSize:
		return ""
	case strings.HasPrefix(tok, prefix007):
		return Format007
	case strings.Count(tok, ".") == 2:
		return FormatJWT
	}
	return ""
}

// shapeError says why format found none.
func shapeError(tok string) error {
	switch {
	case tok == "":
		return ReasonMissing
	case len(tok) > MaxSize:
		return fmt.Errorf("%w: %d bytes, at most %d", ReasonTooLarge, len(tok), MaxSize)
	}
	return ReasonUnsupported
}

// keys returns the app's usable certificates in order.
func (a App) keys() []string {
	for i, c := range a.Certificates {
		if c == "" { // rare: copy only then
			rest := App{Certificates: a.Certificates[i+1:]}
			return append(append([]string(nil), a.Certificates[:i]...), rest.keys()...)
		}
	}
	return a.Certificates
}

// earlier returns the earlier of two expiries; zero (not granted) wins.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && a.Before(b)) {
		return a
	}
	return b
}
