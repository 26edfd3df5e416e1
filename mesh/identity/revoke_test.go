package identity

import (
	"errors"
	"testing"
)

func TestRevokedCertificatesAreRefusedInHandshakesAndSignatures(t *testing.T) {
	ca := newCA(t, "m")
	good, bad := issue(t, ca, IssueOptions{Node: "good", Region: "eu"}), issue(t, ca, IssueOptions{Node: "bad", Region: "eu"})
	cert, sig, err := bad.Sign("test", []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	peer, err := good.Verify("test", []byte("message"), cert, sig) // from now on the certificate is in the cache
	if err != nil || peer.Serial() == "" || peer.Serial() != bad.Cert().Leaf.SerialNumber.Text(16) {
		t.Fatalf("before: serial %q, %v", peer.Serial(), err)
	}
	for name, refused := range map[string]func(node, serial string) bool{
		"by name":   func(node, _ string) bool { return node == "bad" },
		"by serial": func(_, serial string) bool { return serial == peer.Serial() },
	} {
		good.Revoke(refused)
		if _, err := good.Verify("test", []byte("message"), cert, sig); !errors.Is(err, ErrRevoked) {
			t.Errorf("%s: a signature counts still: %v", name, err)
		}
		if _, _, serverErr, _ := handshake(t, good.ServerTLS(), bad.ClientTLS("good")); !errors.Is(serverErr, ErrRevoked) {
			t.Errorf("%s: it may dial in: %v", name, serverErr)
		}
		if _, _, _, clientErr := handshake(t, bad.ServerTLS(), good.ClientTLS("bad")); !errors.Is(clientErr, ErrRevoked) {
			t.Errorf("%s: it is dialed: %v", name, clientErr)
		}
	}
	good.Revoke(nil)
	if _, err := good.Verify("test", []byte("message"), cert, sig); err != nil || good.Revoked(peer) {
		t.Errorf("after it was readmitted: %v", err)
	}
}
