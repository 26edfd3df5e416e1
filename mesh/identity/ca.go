package identity

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

const (
	caCertFile = "ca.crt"
	caKeyFile  = "ca.key"
	certSuffix = ".crt"
	keySuffix  = ".key"

	// caValid is how long a CA lives. Replacing it means new certificates for every node, so it is long.
	caValid = 30 * 365 * 24 * time.Hour
	// defaultValid is how long a node certificate lives if IssueOptions.Valid is zero.
	defaultValid = 365 * 24 * time.Hour
	// clockSkew is how far certificates start before now if no NotBefore is given: clocks of nodes differ.
	clockSkew = 5 * time.Minute
)

// InitCA makes the CA of a new mesh: dir/ca.crt and dir/ca.key (mode 0600). It makes dir if needed and refuses to
// overwrite either file. notBefore is when the CA becomes valid (zero: five minutes ago); it is valid for 30 years.
func InitCA(dir, mesh string, notBefore time.Time) error {
	if err := CheckName("mesh name", mesh); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make CA directory: %w", err)
	}
	certFile, keyFile := filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile)
	if err := refuseExisting(certFile, keyFile); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make CA key: %w", err)
	}
	template, err := newTemplate("tern mesh "+mesh, notBefore, caValid)
	if err != nil {
		return err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	template.URIs = []*url.URL{san{mesh: mesh, role: roleCA}.uri()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make CA certificate: %w", err)
	}
	// The key first: a certificate without its key would look like a CA that lost it.
	if err := writeKey(keyFile, key); err != nil {
		return err
	}
	return writePEM(certFile, pemCert, der, 0o644)
}

// IssueOptions says what a node certificate states.
type IssueOptions struct {
	Node, Region string        // 1-63 of [a-z0-9-]
	Voter        bool          // the node may vote in raft
	Valid        time.Duration // zero: one year; cut at the end of the CA's own validity
	NotBefore    time.Time     // zero: five minutes ago
}

// Issue makes a fresh key and a node certificate for it, signed by the CA in caDir, and writes outDir/NODE.key (mode
// 0600) and outDir/NODE.crt. Files of an earlier certificate of that node are replaced, which is how one is renewed.
func Issue(caDir, outDir string, o IssueOptions) error {
	s, err := LoadSigner(caDir)
	if err != nil {
		return err
	}
	template, err := s.nodeTemplate(o)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key of node %s: %w", o.Node, err)
	}
	return s.issue(template, key, outDir, o.Node)
}

// newTemplate holds what all certificates have in common.
func newTemplate(name string, notBefore time.Time, valid time.Duration) (*x509.Certificate, error) {
	if valid < 0 {
		return nil, fmt.Errorf("validity of %v is negative", valid)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	if notBefore.IsZero() {
		notBefore = time.Now().Add(-clockSkew)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    notBefore,
		NotAfter:     notBefore.Add(valid),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, nil
}

// Signer signs certificates with the CA's key.
type Signer struct {
	mesh string
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey
}

// LoadSigner reads the CA's files and checks that they belong together.
func LoadSigner(caDir string) (Signer, error) {
	certFile, keyFile := CAFile(caDir), filepath.Join(caDir, caKeyFile)
	ca, err := readCert(certFile)
	if err != nil {
		return Signer{}, fmt.Errorf("%w; `tern ca init` makes a CA", err)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return Signer{}, err
	}
	mesh, err := meshOfCA(ca.URIs)
	if err != nil {
		return Signer{}, fmt.Errorf("%s: %w", certFile, err)
	}
	if !key.PublicKey.Equal(ca.PublicKey) {
		return Signer{}, fmt.Errorf("%s is not the key of %s; restore the pair from your copy", keyFile, certFile)
	}
	return Signer{mesh: mesh, ca: ca, key: key}, nil
}

// CAFile is the certificate of the CA in a folder that `tern ca init` made.
func CAFile(caDir string) string { return filepath.Join(caDir, caCertFile) }

// nodeTemplate is a node's certificate but for its key.
func (s Signer) nodeTemplate(o IssueOptions) (*x509.Certificate, error) {
	if err := errors.Join(CheckName("node name", o.Node), CheckRegion(o.Region)); err != nil {
		return nil, err
	}
	template, err := newTemplate(o.Node, o.NotBefore, cmp.Or(o.Valid, defaultValid))
	if err != nil {
		return nil, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.URIs = []*url.URL{san{mesh: s.mesh, region: o.Region, node: o.Node}.uri()}
	if o.Voter {
		template.URIs = append(template.URIs, san{mesh: s.mesh, role: roleVoter}.uri())
	}
	return template, nil
}

// sign makes a certificate (DER) for a public key.
func (s Signer) sign(template *x509.Certificate, key crypto.PublicKey) ([]byte, error) {
	// A certificate that outlives its CA, or starts before it, fails at a moment nobody expects.
	if template.NotAfter.After(s.ca.NotAfter) {
		template.NotAfter = s.ca.NotAfter
	}
	if template.NotBefore.Before(s.ca.NotBefore) {
		template.NotBefore = s.ca.NotBefore
	}
	if !template.NotAfter.After(template.NotBefore) {
		return nil, fmt.Errorf("the CA is valid from %s to %s; a certificate of %s for then would never be valid",
			day(s.ca.NotBefore), day(s.ca.NotAfter), template.Subject.CommonName)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.ca, key, s.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", template.Subject.CommonName, err)
	}
	return der, nil
}

// issue signs a certificate for a new key and writes both: dir/name.key (mode 0600) and dir/name.crt.
func (s Signer) issue(template *x509.Certificate, key crypto.Signer, dir, name string) error {
	der, err := s.sign(template, key.Public())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for certificates: %w", err)
	}
	if err := writeKey(filepath.Join(dir, name+keySuffix), key); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, name+certSuffix), pemCert, der, 0o644)
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
