package access

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// sealer protects the RTP of one viewer. AES-GCM (RFC 7714), which nearly every client agrees to, is done here, from the shared
// payload straight into the outbox, with all of a viewer's state in two places: at a hundred viewers what costs is not the
// cipher but the memory that one viewer's packet touches after another's. The older suites are the library's. Not for
// concurrent use; nil: the library writes.
type sealer struct {
	aead  cipher.AEAD
	salt  [12]byte
	nonce [12]byte
	older *srtp.Context // instead of aead
}

// Labels of keys that are derived from the master key (RFC 3711, 4.3.2).
const labelKey, labelSalt = 0, 2

// newSealer takes a master key and salt of the profile's lengths.
func newSealer(key, salt []byte, profile srtp.ProtectionProfile) (*sealer, error) {
	if profile != srtp.ProtectionProfileAeadAes128Gcm && profile != srtp.ProtectionProfileAeadAes256Gcm {
		c, err := srtp.CreateContext(key, salt, profile)
		return &sealer{older: c}, err
	}
	s := &sealer{}
	if len(salt) != len(s.salt) {
		return nil, fmt.Errorf("a salt of %d bytes for AES-GCM", len(salt))
	}
	session, err1 := derive(key, salt, labelKey, len(key))
	sessionSalt, err2 := derive(key, salt, labelSalt, len(salt))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(session)
	if err != nil {
		return nil, err
	}
	copy(s.salt[:], sessionSalt)
	s.aead, err = cipher.NewGCM(block)
	return s, err
}

// derive is the key derivation of RFC 3711, 4.3, for keys that are never derived anew.
func derive(key, salt []byte, label byte, size int) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, aes.BlockSize)
	copy(iv, salt)
	iv[7] ^= label
	out := make([]byte, size)
	cipher.NewCTR(block, iv).XORKeyStream(out, out)
	return out, nil
}

// seal completes a packet in b, whose first head bytes are its header, with before and payload, protected; it returns the
// packet's length, 0 if it must not be sent. b has srtpRoom bytes more than the packet. h is the header again; turns counts
// for its source.
func (s *sealer) seal(b []byte, head int, before, payload []byte, h *rtp.Header, turns *turns) int {
	at := head + copy(b[head:], before)
	if s.older != nil {
		at += copy(b[at:], payload)
		sealed, err := s.older.EncryptRTP(b[:0], b[:at], h)
		if err != nil {
			return 0
		}
		return len(sealed)
	}
	turn, ok := turns.of(h.SequenceNumber)
	if !ok {
		return 0
	}
	if len(before) > 0 {
		at += copy(b[at:], payload)
		payload = b[head:at]
	}
	s.nonce = s.salt
	for i, x := range [...]uint32{h.SSRC, turn} {
		word := s.nonce[2+4*i:]
		binary.BigEndian.PutUint32(word, binary.BigEndian.Uint32(word)^x)
	}
	binary.BigEndian.PutUint16(s.nonce[10:], binary.BigEndian.Uint16(s.nonce[10:])^h.SequenceNumber)
	return len(s.aead.Seal(b[:head], s.nonce[:], payload, b[:head]))
}

// turns counts how often the numbers of one source began again, as its receivers do (RFC 3711, 3.3.1): a number is the one
// nearest to the highest so far. With source and number it makes a nonce, so a packet that goes again must be the same.
// The zero value is ready.
type turns struct {
	top   uint64 // turns and number of the highest packet
	began bool
}

// lateMost is how far behind the highest a number may be: more than packets are kept for, and than ways differ. A publisher that goes
// back further begins its numbers anew with other packets, which must not get the nonces of those before; receivers refuse them too.
const lateMost = 1024

// of is the turn of a number; false for one from before the first turn, beyond the last, or too late.
func (t *turns) of(number uint16) (turn uint32, ok bool) {
	if !t.began {
		t.began, t.top = true, uint64(number)
	}
	at := int64(t.top) + int64(int16(number-uint16(t.top)))
	if at < 0 || at >= 1<<48 || int64(t.top)-at > lateMost {
		return 0, false
	}
	t.top = max(t.top, uint64(at))
	return uint32(at >> 16), true
}
