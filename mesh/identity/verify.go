package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// ErrOtherMesh is wrapped by every refusal of a certificate that belongs to another mesh: another CA or another name.
var ErrOtherMesh = errors.New("certificate of another mesh")

// ErrOtherNode is wrapped when a dial reached a node of this mesh, but not the one meant.
var ErrOtherNode = errors.New("certificate of another node")

// ErrRevoked is wrapped by every refusal of a certificate that was good but is so no more: see Revoke.
var ErrRevoked = errors.New("certificate is revoked")

// maxVerified bounds the cache of verified certificates; a full cache is emptied, which costs one more verification each.
const maxVerified = 2048

// Peer is what a verified node certificate says.
type Peer struct {
	Mesh, Node, Region string
	Voter              bool
	Cert               *x509.Certificate
}

// ID returns the peer's compact id.
func (p Peer) ID() uint32 { return NodeID(p.Mesh, p.Node) }

// verifiedCert remembers that a certificate chains to the CA. Its validity is checked again at every use.
type verifiedCert struct {
	peer Peer
	key  *ecdsa.PublicKey
}

// check verifies a node certificate: P-256, chain to this mesh's CA, validity at now, names, and the mesh's name.
func (id *Identity) check(cert *x509.Certificate, now time.Time) (Peer, error) {
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		return Peer{}, errors.New("certificate key is not ECDSA P-256")
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots:         id.Roots,
		Intermediates: x509.NewCertPool(), // none: the CA signs nodes directly
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err := chainError(cert, now, err); err != nil {
		return Peer{}, err
	}
	peer, err := peerFromURIs(cert.URIs)
	if err != nil {
		return Peer{}, err
	}
	if peer.Mesh != id.Mesh {
		return Peer{}, fmt.Errorf("%w: it is of %q, this is %q", ErrOtherMesh, peer.Mesh, id.Mesh)
	}
	peer.Cert = cert
	return peer, id.revokedError(peer)
}

// Revoke sets who is refused from now on, by the node's name and the certificate's serial number (see Peer.Serial); nil:
// nobody. It holds for handshakes and signatures to come; what was accepted before is for the callers to end. refused is
// called from many goroutines.
func (id *Identity) Revoke(refused func(node, serial string) bool) { id.refused.Store(&refused) }

// Skew makes the identity judge validity by a wall clock that is so far ahead of time.Now. It is for simulations, and to be called
// before the identity is used.
func (id *Identity) Skew(by func() time.Duration) { id.skew = by }

func (id *Identity) now() time.Time {
	if id.skew == nil {
		return time.Now()
	}
	return time.Now().Add(id.skew())
}

// Revoked says whether a peer whose certificate was accepted earlier would be refused now.
func (id *Identity) Revoked(p Peer) bool {
	refused := id.refused.Load()
	return refused != nil && *refused != nil && (*refused)(p.Node, p.Serial())
}

func (id *Identity) revokedError(p Peer) error {
	if id.Revoked(p) {
		return fmt.Errorf("%w by the policy: node %q, serial %s", ErrRevoked, p.Node, p.Serial())
	}
	return nil
}

// Serial is the serial number of the peer's certificate in lower-case hex without leading zeros; "" without a certificate.
func (p Peer) Serial() string {
	if p.Cert == nil || p.Cert.SerialNumber == nil {
		return ""
	}
	return p.Cert.SerialNumber.Text(16)
}

// chainError puts the library's answer into the operator's words.
func chainError(cert *x509.Certificate, now time.Time, err error) error {
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return fmt.Errorf("%w: not signed by this mesh's CA (%q)", ErrOtherMesh, cert.Subject.CommonName)
	}
	if err := validAt(cert, now); err != nil {
		return err
	}
	return fmt.Errorf("verify certificate %q: %w", cert.Subject.CommonName, err)
}

func validAt(cert *x509.Certificate, now time.Time) error {
	if now.After(cert.NotAfter) {
		return fmt.Errorf("certificate %q expired at %s (now %s)", cert.Subject.CommonName, day(cert.NotAfter), day(now))
	}
	if now.Before(cert.NotBefore) {
		return fmt.Errorf("certificate %q is not valid before %s (now %s); is the clock right?", cert.Subject.CommonName, day(cert.NotBefore), day(now))
	}
	return nil
}

// Check says whose certificate it is (DER, straight from the network), or why it does not count now.
func (id *Identity) Check(certDER []byte) (Peer, error) {
	known, err := id.checkDER(certDER, id.now())
	return known.peer, err
}

// checkDER is check for the encoded form, remembering certificates that passed: gossip shows the same ones every second.
func (id *Identity) checkDER(der []byte, now time.Time) (verifiedCert, error) {
	sum := sha256.Sum256(der)
	id.mu.Lock()
	known, ok := id.verified[sum]
	id.mu.Unlock()
	if ok {
		return known, errors.Join(validAt(known.peer.Cert, now), id.revokedError(known.peer))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return verifiedCert{}, fmt.Errorf("parse certificate: %w", err)
	}
	peer, err := id.check(cert, now)
	if err != nil {
		return verifiedCert{}, err
	}
	known = verifiedCert{peer: peer, key: cert.PublicKey.(*ecdsa.PublicKey)}
	id.mu.Lock()
	defer id.mu.Unlock()
	if len(id.verified) >= maxVerified || id.verified == nil {
		id.verified = make(map[[32]byte]verifiedCert)
	}
	id.verified[sum] = known
	return known, nil
}

// PeerOf returns who is at the other end of a connection made with ServerTLS or ClientTLS. The handshake has verified
// the certificate; PeerOf only reads it.
func PeerOf(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, errors.New("the peer showed no certificate")
	}
	cert := cs.PeerCertificates[0]
	peer, err := peerFromURIs(cert.URIs)
	if err != nil {
		return Peer{}, err
	}
	peer.Cert = cert
	return peer, nil
}
