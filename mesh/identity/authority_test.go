package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func newAuthority(t *testing.T, ca, name string) Authority {
	t.Helper()
	dir := t.TempDir()
	if err := IssueAuthority(ca, dir, AuthorityOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
	a, err := LoadAuthority(CAFile(ca), dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func nodeKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAMachineProvesItsKeyToAnAuthorityOfItsMesh(t *testing.T) {
	ca := newCA(t, "demo")
	one, key := newAuthority(t, ca, "one"), nodeKey(t)
	client, err := one.AuthorityTLS(key)
	if err != nil {
		t.Fatal(err)
	}
	atServer, _, sErr, cErr := handshake(t, one.ServerTLS(), client)
	if err := errors.Join(sErr, cErr); err != nil {
		t.Fatal(err)
	}
	if got, err := ClientKey(atServer); err != nil || !got.Equal(key.Public()) {
		t.Fatalf("the authority saw another key: %v", err)
	}
	other := newAuthority(t, newCA(t, "demo"), "one")
	if _, _, _, cErr := handshake(t, other.ServerTLS(), client); !errors.Is(cErr, ErrOtherMesh) {
		t.Errorf("an authority of another CA: %v", cErr)
	}
	node := issue(t, ca, IssueOptions{Node: "a", Region: "eu"})
	if _, _, _, cErr := handshake(t, node.ServerTLS(), client); cErr == nil {
		t.Error("a node passed for an authority")
	}
	if _, _, sErr, _ := handshake(t, one.ServerTLS(), &tls.Config{InsecureSkipVerify: true}); sErr == nil {
		t.Error("a client without a key was let in")
	}
	if _, _, sErr, _ := handshake(t, node.ServerTLS(), &tls.Config{InsecureSkipVerify: true, Certificates: one.ServerTLS().Certificates}); sErr == nil {
		t.Error("an authority passed for a node")
	}
}

func TestAnInvitedMachineLearnsTheCAByItsPin(t *testing.T) {
	one := newAuthority(t, newCA(t, "demo"), "one")
	var found Trust
	client, err := PinnedTLS(one.Pin(), nodeKey(t), func(tr Trust) { found = tr })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, sErr, cErr := handshake(t, one.ServerTLS(), client); sErr != nil || cErr != nil || found.Mesh != "demo" || found.Pin() != one.Pin() {
		t.Fatalf("server %v, client %v, found mesh %q", sErr, cErr, found.Mesh)
	}
	other := newAuthority(t, newCA(t, "demo"), "one")
	if _, _, _, cErr := handshake(t, other.ServerTLS(), client); cErr == nil {
		t.Error("an authority whose CA is not the pinned one was believed")
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := found.Save(file); err != nil {
		t.Fatal(err)
	}
	if back, err := LoadTrust(file); err != nil || back.Pin() != one.Pin() {
		t.Errorf("the CA's file: %v", err)
	}
}

// leased makes an identity with a certificate such as an authority signs.
func leased(t *testing.T, ca, keyFile string, o IssueOptions) (*Identity, []byte, string) {
	t.Helper()
	key, err := NodeKey(keyFile, true)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := LoadSigner(ca)
	if err != nil {
		t.Fatal(err)
	}
	der, serial, err := signer.SignLeased(&key.PublicKey, o)
	if err != nil {
		t.Fatal(err)
	}
	id, err := LoadLeased(CAFile(ca), keyFile, der)
	if err != nil {
		t.Fatal(err)
	}
	return id, der, serial
}

func TestARenewedCertificateIsShownAtTheNextHandshake(t *testing.T) {
	ca, keyFile := newCA(t, "demo"), filepath.Join(t.TempDir(), "a.key")
	o := IssueOptions{Node: "a", Region: "eu", Valid: time.Hour}
	id, _, first := leased(t, ca, keyFile, o)
	_, next, second := leased(t, ca, keyFile, o)
	peer := issue(t, ca, IssueOptions{Node: "b", Region: "eu"})
	server, client := id.ServerTLS(), peer.ClientTLS("a") // made before the renewal
	shown := func() string {
		_, atClient, sErr, cErr := handshake(t, server, client)
		if err := errors.Join(sErr, cErr); err != nil {
			t.Fatal(err)
		}
		return atClient.PeerCertificates[0].SerialNumber.Text(16)
	}
	if got := shown(); got != first {
		t.Fatalf("shown %s, want %s", got, first)
	}
	if err := id.Renew(next); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != second {
		t.Errorf("after the renewal: shown %s, want %s", got, second)
	}
	asClient := id.ClientTLS("b")
	atServer, _, _, _ := handshake(t, peer.ServerTLS(), asClient)
	if got := atServer.PeerCertificates[0].SerialNumber.Text(16); got != second {
		t.Errorf("as a client: shown %s, want %s", got, second)
	}
	cert, sig, err := id.Sign("health", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := peer.Verify("health", []byte("x"), cert, sig); err != nil || p.Serial() != second {
		t.Errorf("signed by %s: %v", p.Serial(), err)
	}
}

func TestRenewRefusesWhatIsNotThisNodes(t *testing.T) {
	ca, dir := newCA(t, "demo"), t.TempDir()
	id, _, serial := leased(t, ca, filepath.Join(dir, "a.key"), IssueOptions{Node: "a", Region: "eu"})
	_, otherKey, _ := leased(t, ca, filepath.Join(dir, "b.key"), IssueOptions{Node: "a", Region: "eu"})
	_, otherNode, _ := leased(t, ca, filepath.Join(dir, "a.key"), IssueOptions{Node: "c", Region: "eu"})
	_, voter, _ := leased(t, ca, filepath.Join(dir, "a.key"), IssueOptions{Node: "a", Region: "eu", Voter: true})
	for what, der := range map[string][]byte{"another key": otherKey, "another node": otherNode, "a voter": voter, "rubbish": []byte("x"), "nothing": nil} {
		if err := id.Renew(der); err == nil || id.Cert().Leaf.SerialNumber.Text(16) != serial {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := LoadLeased(CAFile(ca), filepath.Join(dir, "a.key"), otherKey); err == nil {
		t.Error("a lease for another key was loaded")
	}
}

func TestReloadTakesUpReplacedFiles(t *testing.T) {
	ca, out := newCA(t, "demo"), t.TempDir()
	o := IssueOptions{Node: "a", Region: "eu"}
	if err := Issue(ca, out, o); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(out, "a.crt"), filepath.Join(out, "a.key")
	id, err := Load(CAFile(ca), cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if changed, err := id.Reload(cert, key); changed || err != nil {
		t.Fatalf("unchanged files: %v %v", changed, err)
	}
	if err := Issue(ca, out, o); err != nil { // a new key, too
		t.Fatal(err)
	}
	if changed, err := id.Reload(cert, key); !changed || err != nil {
		t.Fatalf("replaced files: %v %v", changed, err)
	}
	der, sig, err := id.Sign("health", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := id.Verify("health", []byte("x"), der, sig); err != nil {
		t.Error(err)
	}
	o.Region = "us"
	if err := Issue(ca, out, o); err != nil {
		t.Fatal(err)
	}
	if changed, err := id.Reload(cert, key); changed || !errors.Is(err, ErrOtherIdentity) {
		t.Errorf("another region: %v %v", changed, err)
	}
}

func TestRevokingOneLeasedSerialMeansTheKey(t *testing.T) {
	ca, dir := newCA(t, "demo"), t.TempDir()
	_, _, first := leased(t, ca, filepath.Join(dir, "a.key"), IssueOptions{Node: "a", Region: "eu"})
	_, _, second := leased(t, ca, filepath.Join(dir, "a.key"), IssueOptions{Node: "a", Region: "eu"})
	_, _, other := leased(t, ca, filepath.Join(dir, "b.key"), IssueOptions{Node: "a", Region: "eu"})
	if first == second || SerialScope(first) != SerialScope(second) || SerialScope(first) == SerialScope(other) {
		t.Errorf("scopes of %s, %s and of another key %s", first, second, other)
	}
	for range 20 {
		plain := Peer{Cert: issue(t, ca, IssueOptions{Node: "a", Region: "eu"}).Cert().Leaf}.Serial()
		if SerialScope(plain) != plain {
			t.Errorf("the serial number %s of `tern ca issue` is taken for a lease's", plain)
		}
	}
}

func TestNoCertificateIsMadeForNoTime(t *testing.T) {
	ca, dir := newCA(t, "demo"), t.TempDir()
	wantError(t, IssueAuthority(ca, dir, AuthorityOptions{Name: "one", Valid: -time.Hour}), "negative")
	wantError(t, IssueAdmin(ca, dir, AdminOptions{Admin: Admin{Name: "alice", Role: "operator"}, Valid: -time.Hour}), "negative")
	long := time.Now().AddDate(40, 0, 0)
	wantError(t, IssueAuthority(ca, dir, AuthorityOptions{Name: "one", NotBefore: long}), "would never be valid")
	wantError(t, IssueAdmin(ca, dir, AdminOptions{Admin: Admin{Name: "alice", Role: "operator"}, NotBefore: long}), "would never be valid")
}
