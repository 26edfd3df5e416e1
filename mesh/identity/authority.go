package identity

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"path/filepath"
	"time"
)

const (
	// authorityPrefix begins the role of an authority's certificate: tern://MESH/role/authority-NAME.
	authorityPrefix = "authority-"
	// authorityFiles is the name of its two files: authority.crt, authority.key.
	authorityFiles = "authority"
	// defaultAuthorityValid is how long an authority's certificate lives if AuthorityOptions.Valid is zero.
	defaultAuthorityValid = 365 * 24 * time.Hour
)

// AuthorityOptions says what the certificate of a lease authority states.
type AuthorityOptions struct {
	Name      string        // 1-53 of [a-z0-9-]
	Valid     time.Duration // zero: one year
	NotBefore time.Time     // zero: five minutes ago
}

// IssueAuthority makes an Ed25519 key and a certificate for a lease authority, signed by the CA in caDir:
// outDir/authority.key (mode 0600) and outDir/authority.crt. Files of an earlier one are replaced.
func IssueAuthority(caDir, outDir string, o AuthorityOptions) error {
	if err := CheckName("authority's name", o.Name); err != nil {
		return err
	}
	if err := CheckName("authority's name with its prefix", authorityPrefix+o.Name); err != nil {
		return err
	}
	s, err := LoadSigner(caDir)
	if err != nil {
		return err
	}
	template, err := newTemplate(o.Name, o.NotBefore, cmp.Or(o.Valid, defaultAuthorityValid))
	if err != nil {
		return err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.URIs = []*url.URL{san{mesh: s.mesh, role: authorityPrefix + o.Name}.uri()}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make key of authority %s: %w", o.Name, err)
	}
	return s.issue(template, key, outDir, authorityFiles)
}

// Authority is an authority's own certificate with its key. It does not change.
type Authority struct {
	Trust
	Name string
	Cert *x509.Certificate
	Key  ed25519.PrivateKey
}

// LoadAuthority reads dir/authority.crt and dir/authority.key and checks them against the CA now (time.Now).
func LoadAuthority(caFile, dir string) (Authority, error) {
	t, err := LoadTrust(caFile)
	if err != nil {
		return Authority{}, err
	}
	certFile, keyFile := filepath.Join(dir, authorityFiles+certSuffix), filepath.Join(dir, authorityFiles+keySuffix)
	cert, err := readCert(certFile)
	if err != nil {
		return Authority{}, fmt.Errorf("%w; `tern ca authority` makes it", err)
	}
	key, err := readEdKey(keyFile)
	if err != nil {
		return Authority{}, err
	}
	name, public, err := t.authorityAt(cert, time.Now())
	switch {
	case err != nil:
		return Authority{}, fmt.Errorf("%s does not fit %s: %w; issue it again with `tern ca authority`", certFile, caFile, err)
	case !public.Equal(key.Public()):
		return Authority{}, fmt.Errorf("%s is not the key of %s; issue both again with `tern ca authority`", keyFile, certFile)
	}
	return Authority{Trust: t, Name: name, Cert: cert, Key: key}, nil
}

// ServerTLS is the accepting side: TLS 1.3; a client must show a P-256 key and prove that it holds it, and may be anybody.
// The CA's certificate goes along for machines that know only its Pin.
func (a Authority) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{{Certificate: [][]byte{a.Cert.Raw, a.CA.Raw}, PrivateKey: a.Key, Leaf: a.Cert}},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true, // a resumed session would not prove the key anew
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := ClientKey(cs)
			return err
		},
	}
}

// ClientKey is the key that the client of a connection to an authority has proved to hold.
func ClientKey(cs tls.ConnectionState) (*ecdsa.PublicKey, error) {
	if len(cs.PeerCertificates) == 0 {
		return nil, errors.New("the client showed no key")
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("the client's key is not ECDSA P-256")
	}
	return key, nil
}

// SignLeased makes a node certificate (DER) for the public key of a machine with a lease. Its serial number tells the key:
// see SerialScope.
func (s Signer) SignLeased(key *ecdsa.PublicKey, o IssueOptions) (der []byte, serial string, err error) {
	template, err := s.nodeTemplate(o)
	if err != nil {
		return nil, "", err
	}
	if template.SerialNumber, err = leasedSerial(key); err != nil {
		return nil, "", err
	}
	der, err = s.sign(template, key)
	return der, template.SerialNumber.Text(16), err
}

const (
	// leasedMark is the first byte of a leased certificate's serial number, eight bytes of the key's hash and seven random
	// ones follow. Other serial numbers of the CA are a byte shorter at least.
	leasedMark   = 0x4c
	leasedDigits = 32
	scopeDigits  = 18 // mark and key
)

func leasedSerial(key *ecdsa.PublicKey) (*big.Int, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	b := append([]byte{leasedMark}, sum[:8]...)
	b = append(b, make([]byte, 7)...)
	if _, err := rand.Read(b[9:]); err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return new(big.Int).SetBytes(b), nil
}

// SerialScope is what revoking one serial number (lower-case hex) takes back: for a certificate that came with a lease every
// certificate of the same key, of which there is a new one each day; for any other, that number alone.
func SerialScope(serial string) string {
	if len(serial) == leasedDigits && serial[:2] == hex.EncodeToString([]byte{leasedMark}) {
		return serial[:scopeDigits]
	}
	return serial
}

// KeyScope is the SerialScope of every leased certificate of a key.
func KeyScope(key *ecdsa.PublicKey) (string, error) {
	serial, err := leasedSerial(key)
	if err != nil {
		return "", err
	}
	return SerialScope(serial.Text(16)), nil
}
