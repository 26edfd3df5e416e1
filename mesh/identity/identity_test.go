package identity

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// newCA makes a CA of the mesh in a fresh directory, valid from a minute ago on the clock of the test.
func newCA(t *testing.T, mesh string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := InitCA(dir, mesh, time.Now().Add(-time.Minute)); err != nil {
		t.Fatalf("make CA of mesh %s: %v", mesh, err)
	}
	return dir
}

func issue(t *testing.T, ca string, o IssueOptions) *Identity {
	t.Helper()
	out := t.TempDir()
	if err := Issue(ca, out, o); err != nil {
		t.Fatalf("issue %+v: %v", o, err)
	}
	id, err := Load(filepath.Join(ca, "ca.crt"), filepath.Join(out, o.Node+".crt"), filepath.Join(out, o.Node+".key"))
	if err != nil {
		t.Fatalf("load what was just issued: %v", err)
	}
	return id
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestInitIssueLoad(t *testing.T) {
	ca := newCA(t, "demo")
	id := issue(t, ca, IssueOptions{Node: "n-1", Region: "eu", Voter: true})
	if id.Mesh != "demo" || id.Node != "n-1" || id.Region != "eu" || !id.Voter || id.ID() != NodeID("demo", "n-1") {
		t.Fatalf("loaded identity is %s/%s/%s voter %v id %x", id.Mesh, id.Region, id.Node, id.Voter, id.ID())
	}
	if issue(t, ca, IssueOptions{Node: "n-2", Region: "eu"}).Voter {
		t.Fatal("a node issued without Voter may vote")
	}
	wantError(t, InitCA(ca, "demo", time.Time{}), "ca.crt exists already", "choose another directory")
	info, err := os.Stat(filepath.Join(ca, "ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("CA key: mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestNodeKeyIsPrivate(t *testing.T) {
	ca, out := newCA(t, "demo"), t.TempDir()
	for range 2 { // the second time replaces files
		if err := Issue(ca, out, IssueOptions{Node: "a", Region: "eu"}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(out, "a.key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("node key: mode %v, %v; want 0600", info.Mode(), err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(out, ".*"))
	if len(left) != 0 {
		t.Fatalf("temporary files left behind: %v", left)
	}
}

func TestNamesAreChecked(t *testing.T) {
	ca := newCA(t, "demo")
	long := strings.Repeat("x", 64)
	for _, c := range []struct {
		o    IssueOptions
		want string
	}{
		{IssueOptions{Node: "", Region: "eu"}, "node name is empty"},
		{IssueOptions{Node: "N1", Region: "eu"}, `'N' at position 1`},
		{IssueOptions{Node: long, Region: "eu"}, "64 characters"},
		{IssueOptions{Node: "../x", Region: "eu"}, "node name"},
		{IssueOptions{Node: "a", Region: "eu west"}, "region name"},
		{IssueOptions{Node: "voter", Region: "role"}, "reserved"},
		{IssueOptions{Node: "a", Region: "eu", Valid: -1}, "negative"},
	} {
		wantError(t, Issue(ca, t.TempDir(), c.o), c.want)
	}
	wantError(t, InitCA(t.TempDir(), "de/mo", time.Time{}), "mesh name")
	if err := Issue(ca, t.TempDir(), IssueOptions{Node: long[:63], Region: "eu"}); err != nil {
		t.Fatalf("63 characters are allowed: %v", err)
	}
}

func TestLoadSaysWhichFileAndWhatToDo(t *testing.T) {
	ca, other, out := newCA(t, "demo"), newCA(t, "demo"), t.TempDir()
	for _, node := range []string{"a", "b"} {
		if err := Issue(ca, out, IssueOptions{Node: node, Region: "eu"}); err != nil {
			t.Fatal(err)
		}
	}
	caFile, a, aKey, bKey := filepath.Join(ca, "ca.crt"), filepath.Join(out, "a.crt"), filepath.Join(out, "a.key"), filepath.Join(out, "b.key")
	load := func(files ...string) error { _, err := Load(files[0], files[1], files[2]); return err }

	wantError(t, load(caFile, a, bKey), "b.key is not the key of", "issue both again")
	wantError(t, load(filepath.Join(other, "ca.crt"), a, aKey), "does not fit", "not signed by this mesh's CA")
	wantError(t, load(a, a, aKey), "a.crt", "not a mesh's CA")
	wantError(t, load(caFile, aKey, aKey), "a.key has no PEM block \"CERTIFICATE\"")
	wantError(t, load(caFile, filepath.Join(out, "missing.crt"), aKey), "missing.crt")
	if err := os.WriteFile(a, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantError(t, load(caFile, a, aKey), "a.crt is damaged", "issue it again")
	wantError(t, Issue(t.TempDir(), out, IssueOptions{Node: "a", Region: "eu"}), "ca.crt", "tern ca init")
}

func TestExpiryFollowsTheClockOfTheBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "demo")
		id := issue(t, ca, IssueOptions{Node: "a", Region: "eu", Valid: time.Hour, NotBefore: time.Now()})
		cert, sig, err := id.Sign("test", []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := id.Verify("test", []byte("x"), cert, sig); err != nil {
			t.Fatalf("valid certificate refused in the year 2000: %v", err)
		}
		time.Sleep(2 * time.Hour)
		_, err = id.Verify("test", []byte("x"), cert, sig) // cached by now: expiry must still be seen
		wantError(t, err, "expired at 2000-01-01T01:00:00Z")
	})
}

func TestCertificateStaysWithinTheCA(t *testing.T) {
	ca := newCA(t, "demo")
	id := issue(t, ca, IssueOptions{Node: "a", Region: "eu", Valid: 100 * 365 * 24 * time.Hour})
	cert, err := readCert(filepath.Join(ca, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if id.Cert().Leaf.NotAfter.After(cert.NotAfter) {
		t.Fatalf("node certificate lives until %v, its CA until %v", id.Cert().Leaf.NotAfter, cert.NotAfter)
	}
	early := IssueOptions{Node: "b", Region: "eu", NotBefore: cert.NotBefore.Add(-48 * time.Hour), Valid: time.Hour}
	wantError(t, Issue(ca, t.TempDir(), early), "would never be valid")
}

// bufferedConn never blocks a writer. Over a bare pipe an alert and a flight, sent at once, would wait for each other.
type bufferedConn struct {
	net.Conn
	out chan []byte
}

func buffered(c net.Conn) bufferedConn {
	b := bufferedConn{Conn: c, out: make(chan []byte, 64)}
	go func() {
		for p := range b.out {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	}()
	return b
}

func (b bufferedConn) Write(p []byte) (int, error) {
	b.out <- append([]byte(nil), p...)
	return len(p), nil
}

// handshake runs mutual TLS over a pipe and returns what each side saw.
func handshake(t *testing.T, server, client *tls.Config) (atServer, atClient tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	aSide, bSide := buffered(a), buffered(b)
	s, c := tls.Server(aSide, server), tls.Client(bSide, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		done <- err
	}()
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // TLS 1.3: the client hears of a refusal after its own handshake
	}
	serverErr = <-done
	for _, side := range []bufferedConn{aSide, bSide} {
		close(side.out)
		_ = side.Close()
	}
	return s.ConnectionState(), c.ConnectionState(), serverErr, clientErr
}

func TestMutualTLS(t *testing.T) {
	ca := newCA(t, "demo")
	a := issue(t, ca, IssueOptions{Node: "a", Region: "eu", Voter: true})
	b := issue(t, ca, IssueOptions{Node: "b", Region: "us"})
	for _, expect := range []string{"a", ""} {
		atServer, atClient, sErr, cErr := handshake(t, a.ServerTLS("tern"), b.ClientTLS(expect, "tern"))
		if sErr != nil || cErr != nil {
			t.Fatalf("expecting %q: server %v, client %v", expect, sErr, cErr)
		}
		client, err1 := PeerOf(atServer)
		server, err2 := PeerOf(atClient)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if client.Node != "b" || client.Region != "us" || client.Voter || server.Node != "a" || !server.Voter || server.ID() != a.ID() {
			t.Fatalf("server saw %+v, client saw %+v", client, server)
		}
	}
	_, _, _, cErr := handshake(t, a.ServerTLS("tern"), b.ClientTLS("c", "tern"))
	if !errors.Is(cErr, ErrOtherNode) {
		t.Fatalf("meant c, reached a: client says %v", cErr)
	}
}

func TestOtherMeshIsRefused(t *testing.T) {
	a := issue(t, newCA(t, "demo"), IssueOptions{Node: "a", Region: "eu"})
	otherCA := issue(t, newCA(t, "demo"), IssueOptions{Node: "b", Region: "eu"})
	_, _, sErr, _ := handshake(t, a.ServerTLS(), clientWithoutChecks(otherCA))
	if !errors.Is(sErr, ErrOtherMesh) {
		t.Fatalf("client of another CA: server says %v", sErr)
	}
	_, _, _, cErr := handshake(t, otherCA.ServerTLS(), a.ClientTLS(""))
	if !errors.Is(cErr, ErrOtherMesh) {
		t.Fatalf("server of another CA: client says %v", cErr)
	}

	// One CA key that signed for two mesh names: only the name tells them apart.
	otherName := *signedFor(t, a, "elsewhere")
	_, _, sErr, _ = handshake(t, a.ServerTLS(), &otherName)
	if !errors.Is(sErr, ErrOtherMesh) {
		t.Fatalf("client of another mesh name: server says %v", sErr)
	}
	wantError(t, sErr, `"elsewhere"`, `"demo"`)

	_, _, sErr, _ = handshake(t, a.ServerTLS(), &tls.Config{InsecureSkipVerify: true})
	if sErr == nil {
		t.Fatal("a client without a certificate was let in")
	}
}

func clientWithoutChecks(id *Identity) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{*id.Cert()}, InsecureSkipVerify: true}
}

// signedFor moves a to a trust pool where its mesh is called demo, and makes a client from the same CA in mesh name.
func signedFor(t *testing.T, a *Identity, name string) *tls.Config {
	t.Helper()
	dir := newCA(t, name)
	b := issue(t, dir, IssueOptions{Node: "b", Region: "eu"})
	ca, err := readCert(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	a.Roots.AddCert(ca)
	return clientWithoutChecks(b)
}

func TestSignatures(t *testing.T) {
	ca := newCA(t, "demo")
	a, b := issue(t, ca, IssueOptions{Node: "a", Region: "eu"}), issue(t, ca, IssueOptions{Node: "b", Region: "eu"})
	stranger := issue(t, newCA(t, "demo"), IssueOptions{Node: "a", Region: "eu"})
	msg := []byte("load 0.5")
	cert, sig, err := a.Sign("health", msg)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := b.Verify("health", msg, cert, sig)
	if err != nil || peer.Node != "a" {
		t.Fatalf("b checks a's signature: %v, signer %q", err, peer.Node)
	}
	bCert, bSig, _ := b.Sign("health", msg)
	strangeCert, strangeSig, _ := stranger.Sign("health", msg)
	for name, check := range map[string]func() (Peer, error){
		"other message":                 func() (Peer, error) { return b.Verify("health", []byte("load 0.1"), cert, sig) },
		"other context":                 func() (Peer, error) { return b.Verify("policy", msg, cert, sig) },
		"other signer's certificate":    func() (Peer, error) { return b.Verify("health", msg, bCert, sig) },
		"other signer's signature":      func() (Peer, error) { return b.Verify("health", msg, cert, bSig) },
		"another mesh":                  func() (Peer, error) { return b.Verify("health", msg, strangeCert, strangeSig) },
		"no certificate":                func() (Peer, error) { return b.Verify("health", msg, nil, sig) },
		"no context":                    func() (Peer, error) { return b.Verify("", msg, cert, sig) },
		"context that eats the message": func() (Peer, error) { return b.Verify("healthl", msg[1:], cert, sig) },
	} {
		if peer, err := check(); err == nil {
			t.Errorf("%s: accepted as %q", name, peer.Node)
		}
	}
}

func TestAMemoSparesChecksAndPassesNothingFalse(t *testing.T) {
	ca := newCA(t, "demo")
	memo := new(Memo)
	a, b := issue(t, ca, IssueOptions{Node: "a", Region: "eu"}), issue(t, ca, IssueOptions{Node: "b", Region: "eu"})
	a.Share(memo)
	b.Share(memo)
	cert, sig, err := a.Sign("test", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, id := range []*Identity{a, b} {
			if p, err := id.Verify("test", []byte("x"), cert, sig); err != nil || p.Node != "a" {
				t.Errorf("%v (%v)", p.Node, err)
			}
			for _, wrong := range []struct {
				context, msg string
				cert         []byte
			}{{"test", "y", cert}, {"other", "x", cert}, {"test", "x", b.Cert().Certificate[0]}} {
				if _, err := id.Verify(wrong.context, []byte(wrong.msg), wrong.cert, sig); !errors.Is(err, ErrSignature) {
					t.Errorf("context %s, message %s: %v", wrong.context, wrong.msg, err)
				}
			}
		}
	}
	if len(memo.good) != 1 {
		t.Errorf("%d signatures remembered, want the good one alone", len(memo.good))
	}
	b.Revoke(func(node, _ string) bool { return node == "a" })
	if _, err := b.Verify("test", []byte("x"), cert, sig); !errors.Is(err, ErrRevoked) {
		t.Errorf("a node that is out: %v", err)
	}
}

func TestVerifiedCacheIsBounded(t *testing.T) {
	ca := newCA(t, "demo")
	a := issue(t, ca, IssueOptions{Node: "a", Region: "eu"})
	for i := range maxVerified {
		a.verified[[32]byte{byte(i), byte(i >> 8), 1}] = verifiedCert{}
	}
	cert, sig, _ := a.Sign("health", nil)
	if _, err := a.Verify("health", nil, cert, sig); err != nil {
		t.Fatal(err)
	}
	if len(a.verified) != 1 {
		t.Fatalf("cache holds %d certificates after it was full; want 1", len(a.verified))
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	if err := errors.Join(InitCA(dir, "demo", time.Time{}), Issue(dir, dir, IssueOptions{Node: "a", Region: "eu"})); err != nil {
		b.Fatal(err)
	}
	id, err := Load(filepath.Join(dir, "ca.crt"), filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key"))
	if err != nil {
		b.Fatal(err)
	}
	cert, sig, _ := id.Sign("health", nil)
	for b.Loop() {
		if _, err := id.Verify("health", nil, cert, sig); err != nil {
			b.Fatal(err)
		}
	}
}
