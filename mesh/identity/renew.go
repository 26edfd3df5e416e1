package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
)

// ErrOtherIdentity is wrapped when a new certificate says something else of the node than the one before.
var ErrOtherIdentity = errors.New("the new certificate is of another node, region or vote")

// LoadLeased is Load with the certificate (DER) of a lease instead of a file.
func LoadLeased(caFile, keyFile string, certDER []byte) (*Identity, error) {
	t, err := LoadTrust(caFile)
	if err != nil {
		return nil, err
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	leaf, err := parseFor(certDER, key)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, keyFile)
	}
	id, err := t.identity(leaf, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the lease: %w", err)
	}
	return id, nil
}

// parseFor reads a certificate and holds it against a key.
func parseFor(certDER []byte, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	leaf, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the certificate of the lease is for another key than this node's: enrol again (`tern enrol`)")
	}
	return leaf, nil
}

// Renew takes a new certificate (DER) for the node's present key into use: handshakes and signatures from now on show it,
// connections that exist go on. It is an error, and nothing changes, if the certificate is not good now or says anything else
// of the node than the one before. Safe for concurrent use.
func (id *Identity) Renew(certDER []byte) error {
	key, ok := id.Cert().PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("the identity holds no ECDSA key")
	}
	leaf, err := parseFor(certDER, key)
	if err != nil {
		return err
	}
	return id.replace(leaf, key)
}

// Reload takes a certificate and a key from files into use, as Renew does, if the certificate is another one; it says whether
// it was. The key may be another one, too.
func (id *Identity) Reload(certFile, keyFile string) (changed bool, err error) {
	leaf, key, err := readPair(certFile, keyFile)
	if err != nil || leaf.Equal(id.Cert().Leaf) {
		return false, err
	}
	if err := id.replace(leaf, key); err != nil {
		return false, fmt.Errorf("%s: %w", certFile, err)
	}
	return true, nil
}

// Examine says why Reload would not take the files; nil if it would.
func (id *Identity) Examine(certFile, keyFile string) error {
	leaf, _, err := readPair(certFile, keyFile)
	if err != nil || leaf.Equal(id.Cert().Leaf) {
		return err
	}
	return id.fits(leaf)
}

// fits says why a certificate cannot take the place of the one before.
func (id *Identity) fits(leaf *x509.Certificate) error {
	self, err := id.check(leaf, id.now())
	if err != nil {
		return err
	}
	if self.Node != id.Node || self.Region != id.Region || self.Voter != id.Voter {
		return fmt.Errorf("%w: node %q in %q, voter %v; this process is %q in %q, voter %v: restart the node with it",
			ErrOtherIdentity, self.Node, self.Region, self.Voter, id.Node, id.Region, id.Voter)
	}
	return nil
}

func (id *Identity) replace(leaf *x509.Certificate, key *ecdsa.PrivateKey) error {
	if err := id.fits(leaf); err != nil {
		return err
	}
	id.cert.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf})
	return nil
}
