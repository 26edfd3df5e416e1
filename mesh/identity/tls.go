package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// ServerTLS returns a new configuration for the accepting side: TLS 1.3, and the client must show a valid node
// certificate of this mesh. A certificate of another mesh ends the handshake with ErrOtherMesh.
func (id *Identity) ServerTLS(alpn ...string) *tls.Config {
	c := id.baseTLS(alpn)
	// Any certificate here, and our own check below: its errors name the mesh, and one check serves both sides.
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(cs tls.ConnectionState) error { return id.verifyConnection(cs, "") }
	return c
}

// ClientTLS returns a new configuration for the dialing side: TLS 1.3, showing this node's certificate. The server must
// be node expectNode of this mesh, or any node of it if expectNode is "".
func (id *Identity) ClientTLS(expectNode string, alpn ...string) *tls.Config {
	c := id.baseTLS(alpn)
	// Host names mean nothing here: nodes are told apart by URI SANs, which the library's host check cannot read.
	// VerifyConnection does all of the verification in its place.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(cs tls.ConnectionState) error { return id.verifyConnection(cs, expectNode) }
	return c
}

func (id *Identity) baseTLS(alpn []string) *tls.Config {
	return &tls.Config{
		// Asked at each handshake, so that a renewed certificate is in use without a new configuration.
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return id.Cert(), nil },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return id.Cert(), nil },
		MinVersion:           tls.VersionTLS13,
		NextProtos:           alpn,
		// A resumed session would skip the peer's proof of its key; handshakes between nodes are rare.
		SessionTicketsDisabled: true,
	}
}

func (id *Identity) verifyConnection(cs tls.ConnectionState, expectNode string) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the peer showed no certificate")
	}
	peer, err := id.check(cs.PeerCertificates[0], id.now())
	if err != nil {
		return err
	}
	if expectNode != "" && peer.Node != expectNode {
		return fmt.Errorf("%w: meant node %q, reached %q", ErrOtherNode, expectNode, peer.Node)
	}
	return nil
}
