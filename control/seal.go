package control

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Sealing, from the outside in:
//
//	certificate  AES-256-GCM under the key of its app's fence, bound to the app's id; stored as
//	             "sealed:" fingerprint ":" key id ":" base64url(nonce | ciphertext)
//	fence key    32 random bytes; HPKE (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM) to the node keys of its readers
//	node key     X25519, in the node's key file
const (
	sealedPrefix  = "sealed:"
	fenceKeyBytes = 32
	maxNodeKeys   = 4 // in one key file; more than two only in the middle of two rotations
)

var (
	wrapInfo = []byte("tern fence key 1")  // HPKE info of a fence key in a document
	handInfo = []byte("tern fence keys 1") // and of fence keys that a node hands to another
	keepInfo = []byte("tern kept keys 1")  // and of those that a node keeps on its own disk
)

// nodeKey is one key of a node's key file.
type nodeKey struct {
	id      string // of the public key
	public  []byte
	private hpke.PrivateKey
}

func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// keyID names a public key: the first eight bytes of its SHA-256, in hex.
func keyID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// loadNodeKeys reads a key file, and makes one with a fresh key if there is none. The first key is the node's; the
// others still open what was sealed to them. shared says that the file does not lie in the data directory, which is
// closed to others already: it must be itself.
func loadNodeKeys(path string, shared bool) ([]nodeKey, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	if shared && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s has mode %04o, so that others can read it: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	keys, err := parseNodeKeys(b)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w; restore it from a backup, or remove it for a new key: certificates sealed to the old one come back from the other nodes", path, err)
	}
	return keys, nil
}

// parseNodeKeys reads one key a line, base64 of the private key; empty lines and lines that begin with # are skipped.
func parseNodeKeys(b []byte) (keys []nodeKey, err error) {
	for i, line := range bytes.Split(b, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if len(keys) == maxNodeKeys {
			return nil, fmt.Errorf("more than %d keys", maxNodeKeys)
		}
		raw, err := base64.StdEncoding.DecodeString(string(line))
		if err != nil || len(raw) != fenceKeyBytes {
			return nil, fmt.Errorf("line %d is not a key: base64 of 32 bytes", i+1)
		}
		private, err := kem().NewPrivateKey(raw)
		if err != nil {
			return nil, fmt.Errorf("line %d is not an X25519 key", i+1)
		}
		public := private.PublicKey().Bytes()
		keys = append(keys, nodeKey{id: keyID(public), public: public, private: private})
	}
	if len(keys) == 0 {
		return nil, errors.New("holds no key")
	}
	return keys, nil
}

func newKeyFile(path string) ([]nodeKey, error) {
	private, err := kem().GenerateKey()
	if err != nil {
		return nil, err
	}
	raw, err := private.Bytes()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("# This node's key: certificates in the policy are sealed to it. Put a new key above it to rotate.\n%s\n",
		base64.StdEncoding.EncodeToString(raw))
	if err := writeFile(path, []byte(text)); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	return parseNodeKeys([]byte(text))
}

// sealTo encrypts to a public key.
func sealTo(public, info, plain []byte) ([]byte, error) {
	pk, err := kem().NewPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("public key of a node: %w", err)
	}
	return hpke.Seal(pk, hpke.HKDFSHA256(), hpke.AES256GCM(), info, plain)
}

// openWith decrypts what was sealed to one of the keys.
func openWith(keys []nodeKey, info, sealed []byte) ([]byte, error) {
	for _, k := range keys {
		if plain, err := hpke.Open(k.private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed); err == nil {
			return plain, nil
		}
	}
	return nil, errors.New("not sealed to this node's key")
}

// fenceKey is a key in the clear; only memory holds it so.
type fenceKey struct {
	ID    string   `json:"id"`
	Fence []string `json:"fence"` // sorted
	Key   []byte   `json:"key"`

	ready cipher.AEAD // of Key, in the ring: a policy has thousands of certificates and few keys; safe for concurrent use
}

func newFenceKey(fence []string) fenceKey {
	b := make([]byte, fenceKeyBytes)
	_, _ = rand.Read(b) // never fails
	sum := sha256.Sum256(append([]byte("id"), b...))
	return fenceKey{ID: hex.EncodeToString(sum[:8]), Fence: fence, Key: b}
}

func (k fenceKey) aead() (cipher.AEAD, error) {
	if k.ready != nil {
		return k.ready, nil
	}
	block, err := aes.NewCipher(k.Key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal hides an app's secret.
func (k fenceKey) seal(app, secret string) (string, error) {
	a, err := k.aead()
	if err != nil {
		return "", err
	}
	box := a.Seal(nil, nil, []byte(secret), []byte(app))
	return sealedPrefix + strings.TrimPrefix(Fingerprint(secret), fingerprintPrefix) + ":" + k.ID + ":" + base64.RawURLEncoding.EncodeToString(box), nil
}

// open is the inverse.
func (k fenceKey) open(app string, s sealed) (string, error) {
	a, err := k.aead()
	if err != nil {
		return "", err
	}
	plain, err := a.Open(nil, nil, s.box, []byte(app))
	if err != nil {
		return "", fmt.Errorf("certificate of app %q: %w", app, err)
	}
	return string(plain), nil
}

// sealed is a certificate as documents hold it.
type sealed struct {
	fingerprint string // as people see it
	key         string // id
	box         []byte
}

func isSealed(s string) bool { return strings.HasPrefix(s, sealedPrefix) }

func parseSealed(s string) (out sealed, err error) {
	parts := strings.Split(s, ":")
	if len(parts) != 4 || parts[0]+":" != sealedPrefix || len(parts[1]) != 8 {
		return out, errors.New("not a sealed certificate")
	}
	out.fingerprint, out.key = fingerprintPrefix+parts[1], parts[2]
	out.box, err = base64.RawURLEncoding.DecodeString(parts[3])
	return out, err
}

// fingerprintOf names a secret in whatever form it is.
func fingerprintOf(s string) string {
	switch {
	case isSealed(s):
		if parts := strings.SplitN(s, ":", 3); len(parts) == 3 {
			return fingerprintPrefix + parts[1]
		}
		return fingerprintPrefix
	case isFingerprint(s):
		return s
	}
	return Fingerprint(s)
}
