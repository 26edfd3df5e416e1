package identity

import (
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

	serial *big.Int // nil: drawn
}

// Issue makes a fresh key and a node certificate for it, signed by the CA in caDir, and writes outDir/NODE.key (mode
// 0600) and outDir/NODE.crt. Files of an earlier certificate of that node are replaced, which is how one is renewed.
func Issue(caDir, outDir string, o IssueOptions) error {
	if err := errors.Join(CheckName("node name", o.Node), CheckRegion(o.Region)); err != nil {
		return err
	}
	if o.Valid < 0 {
		return fmt.Errorf("validity of %v is negative", o.Valid)
	}
	ca, caKey, mesh, err := loadCA(caDir)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key of node %s: %w", o.Node, err)
	}
	der, err := nodeCertificate(ca, caKey, mesh, &key.PublicKey, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(outDir, 0o700); err != nil {
		return fmt.Errorf("make directory for certificates: %w", err)
	}
	if err := writeKey(filepath.Join(outDir, o.Node+".key"), key); err != nil {
		return err
	}
	return writePEM(filepath.Join(outDir, o.Node+".crt"), pemCert, der, 0o644)
}

// nodeCertificate signs one for a node's public key.
func nodeCertificate(ca *x509.Certificate, caKey *ecdsa.PrivateKey, mesh string, key *ecdsa.PublicKey, o IssueOptions) ([]byte, error) {
	valid := o.Valid
	if valid == 0 {
		valid = defaultValid
	}
	template, err := newTemplate(o.Node, o.NotBefore, valid)
	if err != nil {
		return nil, err
	}
	if o.serial != nil {
		template.SerialNumber = o.serial
	}
	// A certificate that outlives its CA, or starts before it, fails at a moment nobody expects.
	if template.NotAfter.After(ca.NotAfter) {
		template.NotAfter = ca.NotAfter
	}
	if template.NotBefore.Before(ca.NotBefore) {
		template.NotBefore = ca.NotBefore
	}
	if !template.NotAfter.After(template.NotBefore) {
		return nil, fmt.Errorf("the CA is valid from %s to %s; a certificate of node %s for then would never be valid",
			day(ca.NotBefore), day(ca.NotAfter), o.Node)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.URIs = []*url.URL{san{mesh: mesh, region: o.Region, node: o.Node}.uri()}
	if o.Voter {
		template.URIs = append(template.URIs, san{mesh: mesh, role: roleVoter}.uri())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key, caKey)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of node %s: %w", o.Node, err)
	}
	return der, nil
}

// newTemplate holds what CA and node certificates have in common.
func newTemplate(name string, notBefore time.Time, valid time.Duration) (*x509.Certificate, error) {
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
	}, nil
}

// loadCA reads the CA's files and checks that they belong together.
func loadCA(dir string) (ca *x509.Certificate, key *ecdsa.PrivateKey, mesh string, err error) {
	certFile, keyFile := filepath.Join(dir, caCertFile), filepath.Join(dir, caKeyFile)
	if ca, err = readCert(certFile); err != nil {
		return nil, nil, "", fmt.Errorf("%w; `tern ca init` makes a CA", err)
	}
	if key, err = readKey(keyFile); err != nil {
		return nil, nil, "", err
	}
	if mesh, err = meshOfCA(ca.URIs); err != nil {
		return nil, nil, "", fmt.Errorf("%s: %w", certFile, err)
	}
	if !key.PublicKey.Equal(ca.PublicKey) {
		return nil, nil, "", fmt.Errorf("%s is not the key of %s; restore the pair from your copy", keyFile, certFile)
	}
	return ca, key, mesh, nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
