package token

import (
	"fmt"
	"slices"
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
// secondary during a rotation; empty ones are ignored. Keys are public: they check
// ES256 and EdDSA, and nothing else.
type App struct {
	ID           string
	Certificates []string
	Keys         []Key
	Auth         string

	Issuers    []string // further names of the app in the claim iss
	Legacy006  bool     // accept "006" tokens; see legacy.go for what that risks
	RoomTokens bool     // accept only Tern's JWT, short and bound to a session
	Disabled   bool     // admit nobody
	Banned     []string // users who are not admitted
}

// Grant is what a client may do, each right until its own expiry; zero = not granted.
// An expiry is exclusive: at that instant the right is gone. No right outlives Join.
// User is "" where the token is good for anybody. Session and ID are set for room
// tokens: the session that the token is bound to, and the token's own name, which its
// caller must not accept a second time.
type Grant struct {
	App, Channel, User                                       string
	Session, ID                                              string
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
	var g Grant
	switch app.Auth {
	case AuthAppID:
		until := now.Add(MaxLifetime)
		g = Grant{App: app.ID, Channel: channel, User: user, Join: until, PublishAudio: until,
			PublishVideo: until, PublishData: until, Subscribe: until}
	case AuthToken:
		var err error
		if g, err = verify(tok, app, want{channel: channel, user: user, now: now}); err != nil {
			return Grant{}, err
		}
	default:
		return Grant{}, fmt.Errorf("%w: %q", ReasonAuthMode, app.Auth)
	}
	// Last, so that only who holds a genuine token learns of it.
	switch {
	case app.Disabled:
		return Grant{}, ReasonDisabled
	case g.User != "" && slices.Contains(app.Banned, g.User):
		return Grant{}, ReasonBanned
	}
	return g, nil
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
	f := format(tok)
	switch {
	case f == "":
		return Grant{}, shapeError(tok)
	case f == FormatJWT:
		return verifyJWT(tok, app, w)
	case app.RoomTokens:
		return Grant{}, fmt.Errorf("%w: the app takes room tokens only", ReasonUnsupported)
	case f == Format007:
		return verify007(tok, app, w)
	}
	return verify006(tok, app, w)
}

// Names of the formats, as in Create and Report.
const (
	Format007     = "007"
	Format006     = "006"
	FormatJWT     = "tern"
	FormatLiveKit = "livekit"
)

// format tells the formats apart by shape alone; "" if it is none or too large. A
// LiveKit token has the shape of a JWT and is told by its claims.
func format(tok string) string {
	switch {
	case len(tok) > MaxSize:
		return ""
	case strings.HasPrefix(tok, prefix007):
		return Format007
	case strings.HasPrefix(tok, prefix006):
		return Format006
	case strings.Count(tok, ".") == 2:
		return FormatJWT
	}
	return ""
}

// Core is the same for all spellings of a token that Verify admits, and another for every other token. A 007 token can be
// compressed in any number of ways, and an ES256 signature written in two, so the text itself does not tell whether two clients
// show one token. "" for what is no token.
func Core(tok string) string {
	switch format(tok) {
	case FormatJWT:
		signed, _ := cutLast(tok)
		return signed
	case Format007:
		c, _ := decode007(tok)
		return string(c.signature)
	case Format006:
		c, _ := decode006(tok)
		return c.signature
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

// named says whether iss is one of the app's names.
func (a App) named(iss string) bool {
	return iss != "" && (iss == a.ID || slices.Contains(a.Issuers, iss))
}

// earlier returns the earlier of two expiries; zero (not granted) wins.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && a.Before(b)) {
		return a
	}
	return b
}
