package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Identity is a node's own certificate with its key, and the CA that it trusts. Load makes it; fields are read-only.
// Methods are safe for concurrent use.
type Identity struct {
	Mesh, Node, Region string
	Voter              bool
	Cert               tls.Certificate // Leaf is set
	Roots              *x509.CertPool  // the mesh's CA alone

	refused atomic.Pointer[func(node, serial string) bool] // see Revoke
	skew    func() time.Duration                           // see Skew

	mu       sync.Mutex
	verified map[[32]byte]verifiedCert // guarded by mu; at most maxVerified
}

// ID returns the node's compact id.
func (id *Identity) ID() uint32 { return NodeID(id.Mesh, id.Node) }

// Load reads a node's identity and refuses, with the file and what to do about it, whatever could not work: a key that
// is not the certificate's, a certificate of another CA or mesh, one that is expired or not valid yet (time.Now).
func Load(caFile, certFile, keyFile string) (*Identity, error) {
	ca, err := readCert(caFile)
	if err != nil {
		return nil, err
	}
	mesh, err := meshOfCA(ca.URIs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", caFile, err)
	}
	leaf, err := readCert(certFile)
	if err != nil {
		return nil, err
	}
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s; issue both again with `tern ca issue`", keyFile, certFile)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	id := &Identity{
		Mesh:     mesh,
		Cert:     tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		Roots:    roots,
		verified: make(map[[32]byte]verifiedCert),
	}
	self, err := id.check(leaf, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s does not fit %s: %w; issue it again with `tern ca issue`", certFile, caFile, err)
	}
	id.Node, id.Region, id.Voter = self.Node, self.Region, self.Voter
	return id, nil
}
