package token

import (
	"encoding/base64"
	"encoding/json"
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

// hs256 is the one algorithm: neither "none" nor another family is ever tried.
var hs256 = jwt.SigningMethodHS256

// segment decodes one part: base64url, unpadded, without stray bits.
var segment = base64.RawURLEncoding.Strict()

// claims are the JWT's. Times are pointers to tell absent from zero. The library's own
// checks of claims are not used, so that now and the limits are in one place.
type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub,omitempty"`
	Channel   string   `json:"chan"`
	IssuedAt  *float64 `json:"iat,omitempty"`
	ExpiresAt *float64 `json:"exp,omitempty"`
	NotBefore *float64 `json:"nbf,omitempty"`
	Can       []string `json:"can"`
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
	if err := checkHeader(signed[:strings.IndexByte(signed, '.')]); err != nil {
		return Grant{}, err
	}
	sig, err := decodeSegment(sigText)
	if err != nil {
		return Grant{}, ReasonMalformed
	}
	keys := app.keys()
	if len(keys) == 0 {
		return Grant{}, ReasonNoCertificate
	}
	if !signedByOne(signed, sig, keys) {
		// Which of two refusals to log may be told by a claim that nobody proved.
		if c, err := decodeClaims(signed); err == nil && c.Issuer != app.ID {
			return Grant{}, ReasonWrongApp
		}
		return Grant{}, ReasonBadSignature
	}
	c, err := decodeClaims(signed)
	if err != nil {
		return Grant{}, err
	}
	if c.Issuer != app.ID {
		return Grant{}, ReasonWrongApp
	}
	return c.grant(w)
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

// checkHeader demands HS256 and no extension that must be understood.
func checkHeader(text string) error {
	if text == usualHeader {
		return nil
	}
	var h struct {
		Alg  string          `json:"alg"`
		Crit json.RawMessage `json:"crit"`
	}
	raw, err := decodeSegment(text)
	if err != nil || json.Unmarshal(raw, &h) != nil {
		return fmt.Errorf("%w: header", ReasonMalformed)
	}
	if h.Alg != hs256.Alg() || h.Crit != nil {
		return ReasonUnsupported
	}
	return nil
}

// signedByOne tries the keys in order; each comparison takes constant time.
func signedByOne(signed string, sig []byte, keys []string) bool {
	for _, k := range keys {
		if hs256.Verify(signed, sig, []byte(k)) == nil {
			return true
		}
	}
	return false
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

// grant applies the time rules and the claim can. The claims are authentic by now.
func (c *claims) grant(w want) (Grant, error) {
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
	return g, nil
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

// createJWT signs the claims that o describes.
func createJWT(o CreateOptions) (string, error) {
	iat := float64(o.Now.Unix())
	exp := iat + o.TTL.Seconds()
	c := claims{Issuer: o.App, Subject: o.User, Channel: o.Channel, IssuedAt: &iat, ExpiresAt: &exp, Can: slices.Clone(o.Can)}
	tok, err := jwt.NewWithClaims(hs256, &c).SignedString([]byte(o.Certificate))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return tok, nil
}
