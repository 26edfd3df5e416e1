package token

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Rights as they stand in the JWT claim "can" and in a Report.
const (
	canJoin         = "join" // only in a Report: every admitted token may join
	CanPublishAudio = "publish_audio"
	CanPublishVideo = "publish_video"
	CanPublishData  = "publish_data"
	CanSubscribe    = "subscribe"
)

// anyChannel in the claim chan means every channel of the app.
const anyChannel = "*"

// usualHeader is {"alg":"HS256","typ":"JWT"} as nearly every builder writes it. It is
// compared before anything is decoded, because decoding it costs more than the MAC.
const usualHeader = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

// hs256 is the algorithm of certificates. Neither "none" nor another family than those
// of a key's own kind is ever tried.
var hs256 = jwt.SigningMethodHS256

// segment decodes one part: base64url, unpadded, without stray bits.
var segment = base64.RawURLEncoding.Strict()

// claims are the JWT's. Times are pointers to tell absent from zero. The library's own
// checks of claims are not used, so that now and the limits are in one place.
type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub,omitempty"`
	Channel   string   `json:"chan,omitempty"`
	IssuedAt  *float64 `json:"iat,omitempty"`
	ExpiresAt *float64 `json:"exp,omitempty"`
	NotBefore *float64 `json:"nbf,omitempty"`
	Can       []string `json:"can,omitempty"`
	Session   string   `json:"sid,omitempty"`
	ID        string   `json:"jti,omitempty"`

	Video *videoGrant `json:"video,omitempty"` // makes it a LiveKit token
}

// The library asks a type of claims for these when it signs; it calls none of them.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// verifyJWT checks header and signature, and only then decodes the claims.
func verifyJWT(tok string, app App, w want) (Grant, error) {
	signed, sigText := cutLast(tok)
	h, err := readHeader(signed[:strings.IndexByte(signed, '.')])
	if err != nil {
		return Grant{}, err
	}
	sig, err := decodeSegment(sigText)
	if err != nil {
		return Grant{}, ReasonMalformed
	}
	if err := h.check(signed, sig, app); err != nil {
		// Which of two refusals to log may be told by a claim that nobody proved.
		if c, bad := decodeClaims(signed); bad == nil && !app.named(c.Issuer) && errors.Is(err, ReasonBadSignature) {
			return Grant{}, ReasonWrongApp
		}
		return Grant{}, err
	}
	c, err := decodeClaims(signed)
	switch {
	case err != nil:
		return Grant{}, err
	case !app.named(c.Issuer):
		return Grant{}, ReasonWrongApp
	}
	g, err := c.grant(app, h, w)
	g.App = app.ID
	return g, err
}

// grant judges claims that are authentic by now.
func (c *claims) grant(app App, h header, w want) (Grant, error) {
	switch {
	case c.Video == nil:
		return c.own(app, w)
	case app.RoomTokens:
		return Grant{}, fmt.Errorf("%w: the app takes room tokens only", ReasonUnsupported)
	case h.Alg != hs256.Alg():
		return Grant{}, fmt.Errorf("%w: a LiveKit token is signed with HS256", ReasonUnsupported)
	}
	return c.livekit(w)
}

// cutLast splits a compact JWS into what is signed and the signature.
func cutLast(tok string) (signed, sig string) {
	i := strings.LastIndexByte(tok, '.') // format has counted two dots
	return tok[:i], tok[i+1:]
}

// decodeSegment refuses the line breaks that the base64 package would skip.
func decodeSegment(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, ReasonMalformed
	}
	return segment.DecodeString(text)
}

// header is the JOSE header, as far as it decides.
type header struct {
	Alg  string          `json:"alg"`
	Key  string          `json:"kid"`
	Crit json.RawMessage `json:"crit"`
}

// readHeader demands one of three algorithms and no extension that must be understood.
func readHeader(text string) (header, error) {
	if text == usualHeader {
		return header{Alg: hs256.Alg()}, nil
	}
	var h header
	raw, err := decodeSegment(text)
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return h, fmt.Errorf("%w: header", ReasonMalformed)
	}
	if h.Crit != nil || (h.Alg != hs256.Alg() && h.Alg != algES256 && h.Alg != algEdDSA) {
		return h, ReasonUnsupported
	}
	return h, nil
}

// check verifies the signature: HS256 with the certificates, primary first, the others
// with the public keys of their own kind. So a public key is never used as a secret.
func (h header) check(signed string, sig []byte, app App) error {
	if h.Alg != hs256.Alg() {
		return h.checkPublic(signed, sig, app.Keys)
	}
	keys := app.keys()
	if len(keys) == 0 {
		return ReasonNoCertificate
	}
	for _, k := range keys { // each comparison takes constant time
		if hs256.Verify(signed, sig, []byte(k)) == nil {
			return nil
		}
	}
	return ReasonBadSignature
}

// decodeClaims reads the claims of a JWS without its signature.
func decodeClaims(signed string) (*claims, error) {
	raw, err := decodeSegment(signed[strings.IndexByte(signed, '.')+1:])
	c := new(claims)
	if err != nil || json.Unmarshal(raw, c) != nil {
		return nil, fmt.Errorf("%w: claims", ReasonMalformed)
	}
	return c, nil
}

// own applies the rules of Tern's own format.
func (c *claims) own(app App, w want) (Grant, error) {
	exp, err := c.times(w.now)
	if err != nil {
		return Grant{}, err
	}
	channel := c.Channel
	switch {
	case channel == "":
		return Grant{}, fmt.Errorf("%w: chan is missing", ReasonWrongChannel)
	case w.anyChan:
	case channel != anyChannel && channel != w.channel:
		return Grant{}, ReasonWrongChannel
	default:
		channel = w.channel
	}
	if w.user != "" && c.Subject != "" && c.Subject != w.user {
		return Grant{}, ReasonWrongUser
	}
	g := c.rights(channel, exp)
	if g.User == "" {
		g.User = w.user
	}
	if app.RoomTokens {
		g.Session, g.ID = c.Session, c.ID
		return g, c.room()
	}
	return g, nil
}

// maxRoomLifetime bounds a room token: whoever catches one has little time.
const maxRoomLifetime = 15 * time.Minute

// room checks what a room token must say on top: one user, one channel, one session,
// its own name, and a short life.
func (c *claims) room() error {
	switch life := *c.ExpiresAt - *c.IssuedAt; {
	case c.Subject == "" || c.Session == "" || c.ID == "" || c.Channel == anyChannel:
		return fmt.Errorf("%w: a room token names sub, one chan, sid and jti", ReasonMalformed)
	case life > maxRoomLifetime.Seconds():
		return fmt.Errorf("%w: a room token lives at most %s", ReasonLifetime, maxRoomLifetime)
	}
	return nil
}

// rights turns the claim can into a grant until exp. Unknown rights are for later
// versions and ignored.
func (c *claims) rights(channel string, exp time.Time) Grant {
	g := Grant{App: c.Issuer, Channel: channel, User: c.Subject, Join: exp}
	for _, can := range c.Can {
		if f := g.field(can); f != nil {
			*f = exp
		}
	}
	return g
}

// times checks iat, nbf and exp and returns the expiry.
func (c *claims) times(now time.Time) (time.Time, error) {
	iat, ok1 := numericDate(c.IssuedAt)
	exp, ok2 := numericDate(c.ExpiresAt)
	if !ok1 || !ok2 {
		return time.Time{}, fmt.Errorf("%w: iat and exp are required", ReasonMalformed)
	}
	start := iat
	if c.NotBefore != nil {
		nbf, ok := numericDate(c.NotBefore)
		if !ok {
			return time.Time{}, fmt.Errorf("%w: nbf", ReasonMalformed)
		}
		if nbf.After(start) {
			start = nbf
		}
	}
	switch {
	case start.After(now.Add(clockSkew)):
		return time.Time{}, ReasonNotYetValid
	case !now.Before(exp):
		return time.Time{}, ReasonExpired
	case exp.Sub(iat) > MaxLifetime:
		return time.Time{}, fmt.Errorf("%w: exp is %s after iat", ReasonLifetime, exp.Sub(iat))
	}
	return exp, nil
}

// numericDate converts seconds since 1970; absent, negative or absurd values are no date.
func numericDate(v *float64) (time.Time, bool) {
	const year9999 = 253402300799
	if v == nil || !(*v >= 0 && *v <= year9999) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(*v * 1000)), true
}

// field returns the expiry that a right's name stands for, nil if there is none.
func (g *Grant) field(right string) *time.Time {
	switch right {
	case canJoin:
		return &g.Join
	case CanPublishAudio:
		return &g.PublishAudio
	case CanPublishVideo:
		return &g.PublishVideo
	case CanPublishData:
		return &g.PublishData
	case CanSubscribe:
		return &g.Subscribe
	}
	return nil
}

// createJWT signs the claims that o describes, with the signer if there is one.
func createJWT(o CreateOptions) (string, error) {
	iat := float64(o.Now.Unix())
	exp := iat + o.TTL.Seconds()
	c := claims{Issuer: o.App, Subject: o.User, IssuedAt: &iat, ExpiresAt: &exp, Session: o.Session, ID: o.ID}
	if o.Format == FormatLiveKit {
		c.NotBefore, c.Video = &iat, videoOf(o)
	} else {
		c.Channel, c.Can = o.Channel, slices.Clone(o.Can)
	}
	method, key := jwt.SigningMethod(hs256), any([]byte(o.Certificate))
	if o.Signer != nil {
		method, key = jwt.GetSigningMethod(algorithmOf(o.Signer.Public())), o.Signer
	}
	t := jwt.NewWithClaims(method, &c)
	if o.KeyID != "" {
		t.Header["kid"] = o.KeyID
	}
	tok, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return tok, nil
}
