package lease

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

const (
	// Term is how long a lease lasts.
	Term = 7 * 24 * time.Hour
	// MaxFileBytes bounds a lease file.
	MaxFileBytes = 64 << 10
	// FileVersion is the one that this program reads and writes.
	FileVersion = 1
)

// Grant is the part of a lease that the authority signs. Times are Unix seconds.
type Grant struct {
	Version     int    `json:"version"`
	Mesh        string `json:"mesh"`
	Node        string `json:"node"`
	Fingerprint string `json:"fingerprint"` // of the machine, 32 lower-case hex digits
	Issuer      string `json:"issuer"`      // the authority's name
	IssuerKey   string `json:"issuer_key"`  // KeyID of its key
	Issued      int64  `json:"issued"`
	Expires     int64  `json:"expires"`
	Nonce       string `json:"nonce"`       // as the node asked, hex
	Certificate []byte `json:"certificate"` // the node's, DER
}

// Lease is a whole file.
type Lease struct {
	Grant             Grant  `json:"grant"`
	IssuerCertificate []byte `json:"issuer_certificate"` // DER; certifies the issuer's key
	Signature         []byte `json:"signature"`          // Ed25519 over the grant
	LastSeen          int64  `json:"last_seen"`
	Void              bool   `json:"void"`
	MAC               []byte `json:"mac"` // HMAC-SHA256 over the four fields above, with the node's own key
}

var fingerprint = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ValidFingerprint says whether s has the form of a machine's fingerprint.
func ValidFingerprint(s string) bool { return fingerprint.MatchString(s) }

// KeyID names an issuer's key: the first eight bytes of its SHA-256, hex.
func KeyID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// signed is what the signature covers: the same bytes for equal grants.
func (g Grant) signed() []byte {
	b, _ := json.Marshal(g) // plain fields: it cannot fail
	return append([]byte("tern lease 1\n"), b...)
}

// Sign makes a lease of a grant. The caller seals it (Seal) where it is kept.
func Sign(g Grant, key ed25519.PrivateKey, issuerCertificate []byte) Lease {
	g.Version, g.IssuerKey = FileVersion, KeyID(key.Public().(ed25519.PublicKey))
	return Lease{Grant: g, IssuerCertificate: issuerCertificate, Signature: ed25519.Sign(key, g.signed()), LastSeen: g.Issued}
}

// Issuer checks an issuer's certificate and returns its name and key; it is the caller's, who knows the mesh's CA.
type Issuer func(certificate []byte) (name string, key ed25519.PublicKey, err error)

// Check verifies form, issuer and signature; it asks no clock and no machine.
func (l Lease) Check(mesh, node string, issuer Issuer) error {
	g := l.Grant
	switch {
	case g.Version != FileVersion:
		return fmt.Errorf("lease of version %d; this program reads %d", g.Version, FileVersion)
	case g.Mesh != mesh || g.Node != node:
		return fmt.Errorf("lease of node %q of mesh %q, this is %q of %q", g.Node, g.Mesh, node, mesh)
	case !ValidFingerprint(g.Fingerprint):
		return errors.New("lease without a machine's fingerprint")
	case g.Expires <= g.Issued || g.Expires > g.Issued+int64(Term.Seconds()):
		return errors.New("lease for no time, or for more than seven days")
	}
	name, key, err := issuer(l.IssuerCertificate)
	switch {
	case err != nil:
		return fmt.Errorf("lease of an unknown authority: %w", err)
	case len(key) != ed25519.PublicKeySize || name != g.Issuer || KeyID(key) != g.IssuerKey:
		return fmt.Errorf("the lease says that %q issued it, its certificate says %q", g.Issuer, name)
	case !ed25519.Verify(key, g.signed(), l.Signature):
		return errors.New("the authority's signature does not match")
	}
	return nil
}

// mac covers the node's own fields and ties them to one grant.
func (l Lease) mac(key []byte) []byte {
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "tern lease seal\n%d %v\n", l.LastSeen, l.Void)
	m.Write(l.Signature)
	m.Write(l.IssuerCertificate)
	return m.Sum(nil)
}

// Seal returns the lease with the MAC of the node's own fields.
func (l Lease) Seal(key []byte) Lease {
	l.MAC = l.mac(key)
	return l
}

// Sealed says whether the node's own fields are as it wrote them.
func (l Lease) Sealed(key []byte) bool { return hmac.Equal(l.MAC, l.mac(key)) }

// Encode is the file.
func (l Lease) Encode() ([]byte, error) { return json.MarshalIndent(l, "", "  ") }

// Decode reads a file, strictly. The bytes may come from anywhere; nothing in them is believed before Check and Sealed.
func Decode(b []byte) (Lease, error) {
	if len(b) > MaxFileBytes {
		return Lease{}, fmt.Errorf("lease of %d bytes, at most %d are read", len(b), MaxFileBytes)
	}
	var l Lease
	if err := decodeStrictly(b, &l); err != nil {
		return Lease{}, fmt.Errorf("lease: %w", err)
	}
	return l, nil
}

var errEdited = errors.New("last_seen or void were not written by this node")
