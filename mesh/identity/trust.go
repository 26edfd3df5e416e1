package identity

import (
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
	"os"
	"strings"
	"time"
)

// Trust is a mesh's CA without its key: what a machine needs to know of a mesh before it has an identity in it.
type Trust struct {
	Mesh  string
	CA    *x509.Certificate
	roots *x509.CertPool
}

// LoadTrust reads the CA's certificate.
func LoadTrust(caFile string) (Trust, error) {
	ca, err := readCert(caFile)
	if err != nil {
		return Trust{}, err
	}
	t, err := trustOf(ca)
	if err != nil {
		return Trust{}, fmt.Errorf("%s: %w", caFile, err)
	}
	return t, nil
}

func trustOf(ca *x509.Certificate) (Trust, error) {
	mesh, err := meshOfCA(ca.URIs)
	if err != nil {
		return Trust{}, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return Trust{Mesh: mesh, CA: ca, roots: roots}, nil
}

// Pin is the SHA-256 of the CA's certificate (DER), in hex.
func (t Trust) Pin() string { return pinOf(t.CA.Raw) }

func pinOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Save writes the CA's certificate to a file, whole or not at all.
func (t Trust) Save(file string) error { return writePEM(file, pemCert, t.CA.Raw, 0o644) }

// AuthorityOf says which authority of this mesh a certificate (DER, from anywhere) is of, and its key. It judges no dates: what
// the authority signs carries its own.
func (t Trust) AuthorityOf(certDER []byte) (name string, key ed25519.PublicKey, err error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return "", nil, fmt.Errorf("parse the authority's certificate: %w", err)
	}
	return t.authorityAt(cert, cert.NotBefore)
}

// authorityAt verifies the certificate of an authority at a time.
func (t Trust) authorityAt(cert *x509.Certificate, at time.Time) (string, ed25519.PublicKey, error) {
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: t.roots, Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err := chainError(cert, at, err); err != nil {
		return "", nil, err
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok {
		return "", nil, errors.New("an authority's key is Ed25519")
	}
	for _, u := range cert.URIs {
		s, err := parseSAN(u)
		if name, is := strings.CutPrefix(s.role, authorityPrefix); err == nil && is && s.mesh == t.Mesh {
			return name, key, nil
		}
	}
	return "", nil, fmt.Errorf("certificate %q is not an authority's of mesh %q", cert.Subject.CommonName, t.Mesh)
}

// NodeOf reads a node certificate (DER) that this mesh's CA signed; it judges no dates.
func (t Trust) NodeOf(certDER []byte) (Peer, error) {
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return Peer{}, fmt.Errorf("parse certificate: %w", err)
	}
	id := &Identity{Mesh: t.Mesh, Roots: t.roots}
	return id.check(cert, cert.NotBefore)
}

// AuthorityTLS is how a machine talks to an authority: it proves that it holds key, by a certificate that says nothing else,
// and the other end must be an authority of this mesh now (time.Now).
func (t Trust) AuthorityTLS(key *ecdsa.PrivateKey) (*tls.Config, error) {
	return authorityTLS(key, func(chain []*x509.Certificate) error {
		_, _, err := t.authorityAt(chain[0], time.Now())
		return err
	})
}

// PinnedTLS is AuthorityTLS for a machine that knows of the mesh no more than its CA's Pin: the authority shows the CA. found
// is called with it once it fits.
func PinnedTLS(pin string, key *ecdsa.PrivateKey, found func(Trust)) (*tls.Config, error) {
	return authorityTLS(key, func(chain []*x509.Certificate) error {
		for _, ca := range chain[1:] {
			if pinOf(ca.Raw) != pin {
				continue
			}
			t, err := trustOf(ca)
			if err == nil {
				_, _, err = t.authorityAt(chain[0], time.Now())
			}
			if err == nil {
				found(t)
			}
			return err
		}
		return errors.New("it is not an authority of the mesh that the invitation is for (its CA is another)")
	})
}

func authorityTLS(key *ecdsa.PrivateKey, verify func(chain []*x509.Certificate) error) (*tls.Config, error) {
	own, err := bare(key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{own},
		// Authorities are known by their SAN, not by a host name; VerifyConnection does all of the verification.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("the authority showed no certificate")
			}
			return verify(cs.PeerCertificates)
		},
	}, nil
}

// bare makes a certificate that signs itself and only carries a key.
func bare(key *ecdsa.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate for the node's key: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// NodeKey reads a node's key. With create, a file that does not exist is made, with a new key, mode 0600.
func NodeKey(file string, create bool) (*ecdsa.PrivateKey, error) {
	if _, err := os.Lstat(file); create && errors.Is(err, os.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("make the node's key: %w", err)
		}
		return key, writeKey(file, key)
	}
	return readKey(file)
}

// KeyID names a public key: SHA-256 of its PKIX form, in hex. It is no secret.
func KeyID(key any) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return pinOf(der), nil
}
