package token

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"
)

// The old "006" token: "006", the app id in clear (32 characters), then base64 of
//
//	string signature, u32 crc32(channel), u32 crc32(user), string message
//	message: u32 salt, u32 expiry (Unix seconds), map u16 privilege -> u32 Unix seconds
//
// signed with HMAC-SHA256 over app id, channel, user and message one after the other.
// Nothing separates channel and user, and the checksums are not signed: a token for
// user 23 in room1 is as good for user 3 in room12. So it is off unless the policy
// asks for it, and an app that does must not let clients choose their names.

const (
	prefix006 = "006"
	appID006  = 32
)

// content006 is a parsed 006 token.
type content006 struct {
	appID, signature, message string
	channelSum, userSum       uint32
	expires                   uint32 // Unix seconds
	privileges                []privilege
}

// decode006 undoes base64 and parses; nothing may be left over.
func decode006(tok string) (content006, error) {
	var c content006
	rest := strings.TrimPrefix(tok, prefix006)
	if len(rest) < appID006 || strings.ContainsAny(rest, "\r\n") {
		return c, fmt.Errorf("%w: too short, or a line break", ReasonMalformed)
	}
	c.appID = rest[:appID006]
	raw, err := base64.StdEncoding.Strict().DecodeString(rest[appID006:])
	if err != nil {
		return c, fmt.Errorf("%w: base64", ReasonMalformed)
	}
	p := parser{rest: raw}
	c.signature = string(p.bytes())
	c.channelSum, c.userSum = p.u32(), p.u32()
	c.message = string(p.bytes())
	m := parser{rest: []byte(c.message)}
	m.u32() // salt
	c.expires = m.u32()
	c.privileges = m.privileges()
	switch {
	case p.short || m.short || len(p.rest) > 0 || len(m.rest) > 0:
		return c, fmt.Errorf("%w: ends early or late", ReasonMalformed)
	case m.duplicate:
		return c, fmt.Errorf("%w: a privilege twice", ReasonMalformed)
	case len(c.signature) != sigSize:
		return c, fmt.Errorf("%w: signature of %d bytes", ReasonMalformed, len(c.signature))
	}
	return c, nil
}

// verify006 runs the checks in the order of verify007. The token holds neither channel
// nor user, so both must be known before the signature can be checked.
func verify006(tok string, app App, w want) (Grant, error) {
	if !app.Legacy006 {
		return Grant{}, fmt.Errorf("%w: 006 is not switched on for the app", ReasonUnsupported)
	}
	c, err := decode006(tok)
	user := w.user
	if c.userSum == 0 { // of the empty name: for anybody
		user = ""
	}
	switch {
	case err != nil:
		return Grant{}, err
	case c.appID != app.ID:
		return Grant{}, ReasonWrongApp
	case len(app.keys()) == 0:
		return Grant{}, ReasonNoCertificate
	case w.channel == "" || crc32.ChecksumIEEE([]byte(w.channel)) != c.channelSum:
		return Grant{}, ReasonWrongChannel
	case crc32.ChecksumIEEE([]byte(user)) != c.userSum:
		return Grant{}, ReasonWrongUser
	case !c.authentic(app, w.channel, user):
		return Grant{}, ReasonBadSignature
	}
	end := time.Unix(int64(c.expires), 0)
	switch {
	case !w.now.Before(end):
		return Grant{}, ReasonExpired
	case end.After(w.now.Add(MaxLifetime + clockSkew)):
		// The token does not say when it was issued, so that cutting it off would let it
		// live for ever, a day at a time.
		return Grant{}, fmt.Errorf("%w: it would live %s more", ReasonLifetime, end.Sub(w.now).Round(time.Second))
	}
	g := c.expiries(w.channel, w.user)
	if !w.now.Before(g.Join) {
		return Grant{}, fmt.Errorf("%w: absent or expired", ReasonNoJoin)
	}
	return g, nil
}

func (c content006) authentic(app App, channel, user string) bool {
	return slices.ContainsFunc(app.keys(), func(cert string) bool {
		return hmac.Equal(sign006(cert, c.appID, channel, user, c.message), []byte(c.signature))
	})
}

func sign006(certificate, appID, channel, user, message string) []byte {
	return mac([]byte(certificate), []byte(appID+channel+user+message))
}

// expiries reads the privileges: absolute times, 0 for no limit of its own.
func (c content006) expiries(channel, user string) Grant {
	g := Grant{App: c.appID, Channel: channel, User: user}
	for _, p := range c.privileges {
		until := time.Unix(int64(c.expires), 0)
		if p.seconds != 0 {
			until = earlier(time.Unix(int64(p.seconds), 0), until)
		}
		g.set(p.id, until)
	}
	return g.bounded()
}

// create006 builds an RTC token.
func create006(o CreateOptions) (string, error) {
	salt, err := newSalt(o.Rand)
	if err != nil {
		return "", err
	}
	until := uint32(o.Now.Add(o.TTL).Unix())
	message := binary.LittleEndian.AppendUint32(nil, salt)
	message = binary.LittleEndian.AppendUint32(message, until)
	message = appendPrivileges(message, o.Can, until)
	sig := sign006(o.Certificate, o.App, o.Channel, o.User, string(message))
	raw := appendString(nil, string(sig))
	raw = binary.LittleEndian.AppendUint32(raw, crc32.ChecksumIEEE([]byte(o.Channel)))
	raw = binary.LittleEndian.AppendUint32(raw, crc32.ChecksumIEEE([]byte(o.User)))
	raw = appendString(raw, string(message))
	return prefix006 + o.App + base64.StdEncoding.EncodeToString(raw), nil
}
