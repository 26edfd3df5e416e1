package access

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pion/srtp/v3"
)

// suite is one way to protect plain RTP, by its name in an SDP's a=crypto (RFC 4568,
// 6188, 7714).
type suite struct {
	name      string
	profile   srtp.ProtectionProfile
	key, salt int // bytes
}

var suites = []suite{
	{"AEAD_AES_128_GCM", srtp.ProtectionProfileAeadAes128Gcm, 16, 12},
	{"AEAD_AES_256_GCM", srtp.ProtectionProfileAeadAes256Gcm, 32, 12},
	{"AES_CM_128_HMAC_SHA1_80", srtp.ProtectionProfileAes128CmHmacSha1_80, 16, 14},
	{"AES_CM_128_HMAC_SHA1_32", srtp.ProtectionProfileAes128CmHmacSha1_32, 16, 14},
	{"AES_256_CM_HMAC_SHA1_80", srtp.ProtectionProfileAes256CmHmacSha1_80, 32, 14},
}

// replayWindow is how far a packet may be late and still be told from a replay.
const replayWindow = 256

// suiteOf finds a suite by name; the error lists them all.
func suiteOf(name string) (suite, error) {
	i := slices.IndexFunc(suites, func(s suite) bool { return strings.EqualFold(s.name, name) })
	if i < 0 {
		var names []string
		for _, s := range suites {
			names = append(names, s.name)
		}
		return suite{}, fmt.Errorf("srtp: %.40q is none of %s", name, strings.Join(names, ", "))
	}
	return suites[i], nil
}

// secret is one session's key and salt. Both directions of a track use it, with SSRCs of
// their own, so that no key stream is used twice.
type secret struct {
	suite
	bytes []byte // key, then salt; never logged
}

// newSecret draws one.
func (s suite) newSecret() secret {
	b := make([]byte, s.key+s.salt)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return secret{s, b}
}

// line is the a=crypto attribute's value. Whoever reads it can read and write the media:
// it is in the answer to an authenticated request and nowhere else.
func (s secret) line() string {
	return "1 " + s.name + " inline:" + base64.StdEncoding.EncodeToString(s.bytes)
}

// context makes one direction's state; with replay protection for what comes in.
func (s secret) context(in bool) (*srtp.Context, error) {
	var options []srtp.ContextOption
	if in {
		options = []srtp.ContextOption{srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow)}
	}
	c, err := srtp.CreateContext(s.bytes[:s.key], s.bytes[s.key:], s.profile, options...)
	if err != nil {
		return nil, fmt.Errorf("SRTP context: %w", err)
	}
	return c, nil
}

// contexts are both.
func (s secret) contexts() (in, out *srtp.Context, err error) {
	in, err1 := s.context(true)
	out, err2 := s.context(false)
	return in, out, errors.Join(err1, err2)
}
