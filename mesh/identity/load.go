package identity

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Identity is a node's own certificate with its key, and the CA that it trusts. Load or LoadLeased makes it; fields are
// read-only, the certificate can be replaced (Renew).
// Methods are safe for concurrent use.
type Identity struct {
	Mesh, Node, Region string
	Voter              bool
	Roots              *x509.CertPool // the mesh's CA alone

	cert    atomic.Pointer[tls.Certificate]                // see Cert
	refused atomic.Pointer[func(node, serial string) bool] // see Revoke
	skew    func() time.Duration                           // see Skew
	memo    *Memo                                          // see Share; nil: none

	mu       sync.Mutex
	verified map[[32]byte]verifiedCert // guarded by mu; at most maxVerified
}

// ID returns the node's compact id.
func (id *Identity) ID() uint32 { return NodeID(id.Mesh, id.Node) }

// Cert is the node's certificate of this moment, with its key; Leaf is set. It is read-only.
func (id *Identity) Cert() *tls.Certificate { return id.cert.Load() }

// Load reads a node's identity and refuses, with the file and what to do about it, whatever could not work: a key that
// is not the certificate's, a certificate of another CA or mesh, one that is expired or not valid yet (time.Now).
func Load(caFile, certFile, keyFile string) (*Identity, error) {
	t, err := LoadTrust(caFile)
	if err != nil {
		return nil, err
	}
	leaf, key, err := readPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	id, err := t.identity(leaf, key)
	if err != nil {
		return nil, fmt.Errorf("%s does not fit %s: %w; issue it again with `tern ca issue`", certFile, caFile, err)
	}
	return id, nil
}

// readPair reads a certificate and the key that belongs to it.
func readPair(certFile, keyFile string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	leaf, err := readCert(certFile)
	if err != nil {
		return nil, nil, err
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, nil, fmt.Errorf("%s is not the key of %s; issue both again with `tern ca issue`", keyFile, certFile)
	}
	return leaf, key, nil
}

// identity is a node's, checked now (time.Now).
func (t Trust) identity(leaf *x509.Certificate, key *ecdsa.PrivateKey) (*Identity, error) {
	id := &Identity{Mesh: t.Mesh, Roots: t.roots, verified: make(map[[32]byte]verifiedCert)}
	self, err := id.check(leaf, time.Now())
	if err != nil {
		return nil, err
	}
	id.Node, id.Region, id.Voter = self.Node, self.Region, self.Voter
	id.cert.Store(&tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf})
	return id, nil
}
