package token

import (
	"bytes"
	"compress/zlib"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// CreateOptions describe a token to make. Format is one of the four; App, Certificate
// (or Signer), Channel and Now must be set; "*" as Channel (every channel) exists in
// Tern's own format only. User "" is anybody. TTL is 1 s to 24 h, in whole seconds. Can
// lists rights besides joining (CanPublishAudio, ...); 007 and 006 always let their
// holder subscribe. Signer (P-256 or Ed25519) makes ES256 or EdDSA of Tern's own
// format, with KeyID as kid. Session and ID make it a room token, of 5 to 15 minutes.
// Rand yields the salt of 007 and 006; nil is crypto/rand.
type CreateOptions struct {
	Format      string
	App         string
	Certificate string
	Signer      crypto.Signer
	KeyID       string
	Channel     string
	User        string
	Session, ID string
	Now         time.Time
	TTL         time.Duration
	Can         []string
	Rand        io.Reader
}

// Formats lists the names that Create knows.
func Formats() []string { return []string{FormatJWT, FormatLiveKit, Format007, Format006} }

// Create makes a token. Its errors name the option and never hold the certificate.
func Create(o CreateOptions) (string, error) {
	if err := o.validate(); err != nil {
		return "", fmt.Errorf("create token: %w", err)
	}
	switch o.Format {
	case Format007:
		return create007(o)
	case Format006:
		return create006(o)
	}
	return createJWT(o)
}

func (o CreateOptions) validate() error {
	switch {
	case !slices.Contains(Formats(), o.Format):
		return fmt.Errorf("format %q is not one of %s", o.Format, strings.Join(Formats(), ", "))
	case o.App == "":
		return errors.New("app is empty")
	case o.Certificate == "" && o.Signer == nil:
		return errors.New("certificate is empty")
	case o.Signer != nil && (o.Format != FormatJWT || algorithmOf(o.Signer.Public()) == ""):
		return fmt.Errorf("a private key signs the format %s alone, and is on P-256 or Ed25519", FormatJWT)
	case o.Channel == "":
		return errors.New("channel is empty")
	case o.Now.IsZero():
		return errors.New("now is not set")
	case o.TTL < time.Second || o.TTL > MaxLifetime:
		return fmt.Errorf("ttl %s is not between 1s and %s", o.TTL, MaxLifetime)
	}
	for _, can := range o.Can {
		if can == canJoin || new(Grant).field(can) == nil {
			return fmt.Errorf("unknown right %q (known: %s)", can,
				strings.Join([]string{CanPublishAudio, CanPublishVideo, CanPublishData, CanSubscribe}, ", "))
		}
	}
	if o.Session != "" || o.ID != "" {
		return o.validateRoom()
	}
	switch o.Format {
	case Format007, Format006:
		return o.validate007()
	case FormatLiveKit:
		return o.validateLiveKit()
	}
	return nil
}

// minRoomLifetime leaves a client time to use the token once.
const minRoomLifetime = 5 * time.Minute

func (o CreateOptions) validateRoom() error {
	switch {
	case o.Format != FormatJWT:
		return fmt.Errorf("a session or id needs the format %s", FormatJWT)
	case o.Session == "" || o.ID == "" || o.User == "" || o.Channel == anyChannel:
		return errors.New("a room token needs a user, one channel, a session and an id")
	case o.TTL < minRoomLifetime || o.TTL > maxRoomLifetime:
		return fmt.Errorf("ttl %s of a room token is not between %s and %s", o.TTL, minRoomLifetime, maxRoomLifetime)
	}
	return nil
}

func (o CreateOptions) validateLiveKit() error {
	if o.User == "" || o.Channel == anyChannel {
		return errors.New("a livekit token needs a user and one channel")
	}
	return nil
}

// validate007 holds the limits that other readers of 007 and 006 enforce.
func (o CreateOptions) validate007() error {
	switch {
	case !hex32(o.App):
		return fmt.Errorf("a %s token needs an app id of 32 hex digits", o.Format)
	case !hex32(o.Certificate):
		return fmt.Errorf("a %s token needs a certificate of 32 hex digits", o.Format)
	case len(o.Channel) >= 64 || o.Channel == anyChannel:
		return fmt.Errorf("a %s token needs one channel of at most 63 bytes", o.Format)
	case len(o.User) > 255:
		return fmt.Errorf("a %s token needs a user of at most 255 bytes", o.Format)
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

// appendRTC writes the service.
func appendRTC(b []byte, o CreateOptions, ttl uint32) []byte {
	b = binary.LittleEndian.AppendUint16(b, serviceRTC)
	b = appendPrivileges(b, o.Can, ttl)
	return appendString(appendString(b, o.Channel), o.User)
}

// appendPrivileges writes the map of joining and what can lists, in ascending order.
func appendPrivileges(b []byte, rights []string, value uint32) []byte {
	ids := []uint16{privJoin}
	for i, can := range []string{CanPublishAudio, CanPublishVideo, CanPublishData} {
		if slices.Contains(rights, can) {
			ids = append(ids, uint16(privPublishAudio+i))
		}
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(ids)))
	for _, id := range ids {
		b = binary.LittleEndian.AppendUint16(b, id)
		b = binary.LittleEndian.AppendUint32(b, value)
	}
	return b
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
