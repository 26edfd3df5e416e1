package token

import (
	"bytes"
	"compress/zlib"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// CreateOptions describe a token to make. Format is Format007 or FormatJWT; App,
// Certificate, Channel and Now must be set; "*" as Channel (every channel) exists in
// a JWT only. User "" is anybody. TTL is 1 s to 24 h, in whole seconds. Can lists
// rights besides joining (CanPublishAudio, ...); a 007 token always lets its holder
// subscribe. Rand yields the 007 salt; nil is crypto/rand.
type CreateOptions struct {
	Format      string
	App         string
	Certificate string
	Channel     string
	User        string
	Now         time.Time
	TTL         time.Duration
	Can         []string
	Rand        io.Reader
}

// Create makes a token. Its errors name the option and never hold the certificate.
func Create(o CreateOptions) (string, error) {
	if err := o.validate(); err != nil {
		return "", err
	}
	if o.Format == Format007 {
		return create007(o)
	}
	return createJWT(o)
}

func (o CreateOptions) validate() error {
	switch {
	case o.Format != Format007 && o.Format != FormatJWT:
		return fmt.Errorf("create token: format %q is neither %q nor %q", o.Format, Format007, FormatJWT)
	case o.App == "":
		return fmt.Errorf("create token: app is empty")
	case o.Certificate == "":
		return fmt.Errorf("create token: certificate is empty")
	case o.Channel == "":
		return fmt.Errorf("create token: channel is empty")
	case o.Now.IsZero():
		return fmt.Errorf("create token: now is not set")
	case o.TTL < time.Second || o.TTL > MaxLifetime:
		return fmt.Errorf("create token: ttl %s is not between 1s and %s", o.TTL, MaxLifetime)
	}
	for _, can := range o.Can {
		if can == canJoin || new(Grant).field(can) == nil {
			return fmt.Errorf("create token: unknown right %q (known: %s)", can,
				strings.Join([]string{CanPublishAudio, CanPublishVideo, CanPublishData, CanSubscribe}, ", "))
		}
	}
	if o.Format == Format007 {
		return o.validate007()
	}
	return nil
}

// validate007 holds the limits that other readers of this format enforce.
func (o CreateOptions) validate007() error {
	switch {
	case !hex32(o.App):
		return fmt.Errorf("create token: a 007 token needs an app id of 32 hex digits")
	case !hex32(o.Certificate):
		return fmt.Errorf("create token: a 007 token needs a certificate of 32 hex digits")
	case len(o.Channel) >= 64 || o.Channel == anyChannel:
		return fmt.Errorf("create token: a 007 token needs one channel of at most 63 bytes")
	case len(o.User) > 255:
		return fmt.Errorf("create token: a 007 token needs a user of at most 255 bytes")
	}
	return nil
}

func hex32(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// create007 builds a token with one RTC service.
func create007(o CreateOptions) (string, error) {
	salt, err := newSalt(o.Rand)
	if err != nil {
		return "", err
	}
	issued, ttl := uint32(o.Now.Unix()), uint32(o.TTL/time.Second)
	body := appendString(nil, o.App)
	for _, v := range []uint32{issued, ttl, salt} {
		body = binary.LittleEndian.AppendUint32(body, v)
	}
	body = binary.LittleEndian.AppendUint16(body, 1) // services
	body = appendRTC(body, o, ttl)
	return pack007(append(appendString(nil, string(sign007(o.Certificate, issued, salt, body))), body...))
}

// newSalt draws from [1, 99999998], the range that upstream builders use.
func newSalt(source io.Reader) (uint32, error) {
	if source == nil {
		source = rand.Reader
	}
	var b [4]byte
	if _, err := io.ReadFull(source, b[:]); err != nil {
		return 0, fmt.Errorf("create token: draw a salt: %w", err)
	}
	return 1 + binary.LittleEndian.Uint32(b[:])%99999998, nil
}

// appendRTC writes the service; privileges stand in ascending order.
func appendRTC(b []byte, o CreateOptions, ttl uint32) []byte {
	ids := []uint16{privJoin}
	for i, can := range []string{CanPublishAudio, CanPublishVideo, CanPublishData} {
		if slices.Contains(o.Can, can) {
			ids = append(ids, uint16(privPublishAudio+i))
		}
	}
	b = binary.LittleEndian.AppendUint16(b, serviceRTC)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(ids)))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint16(b, id)
		b = binary.LittleEndian.AppendUint32(b, ttl)
	}
	return appendString(appendString(b, o.Channel), o.User)
}

// appendString writes u16 length and bytes; callers have checked the length.
func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

// pack007 compresses and encodes signed content.
func pack007(raw []byte) (string, error) {
	var buf bytes.Buffer
	z := zlib.NewWriter(&buf)
	if _, err := z.Write(raw); err != nil {
		return "", fmt.Errorf("compress token: %w", err)
	}
	if err := z.Close(); err != nil {
		return "", fmt.Errorf("compress token: %w", err)
	}
	return prefix007 + base64.StdEncoding.EncodeToString(buf.Bytes()), nil
}
