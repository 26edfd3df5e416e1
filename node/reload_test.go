package node

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
)

// pair writes a certificate for localhost with a serial number, and sets its files' time to stamp.
func pair(t *testing.T, dir string, serial int64, stamp time.Time) TLSConfig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotBefore: stamp.Add(-time.Hour), NotAfter: stamp.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	files := TLSConfig{Cert: filepath.Join(dir, "https.crt"), Key: filepath.Join(dir, "https.key")}
	for file, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, stamp, stamp); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func served(t *testing.T, n *Node) int64 {
	t.Helper()
	c, err := n.reloadable.https.get(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf.SerialNumber.Int64()
}

func TestReloadAppliesWhatCanChangeAndNamesWhatCannot(t *testing.T) {
	cfg := host(t, 0)
	now := time.Now()
	cfg.Access.TLS, cfg.Admin.TLS = pair(t, t.TempDir(), 1, now), pair(t, t.TempDir(), 1, now)
	n, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.adminPair.load(cfg.Admin.TLS); err != nil { // as when its listener opens
		t.Fatal(err)
	}
	next := cfg
	next.Log.Level, next.Mesh.Risks, next.Mesh.Join = "debug", []string{"site-7"}, []string{"127.0.0.1:7900"}
	pair(t, filepath.Dir(cfg.Access.TLS.Cert), 2, now.Add(time.Second))
	pair(t, filepath.Dir(cfg.Admin.TLS.Cert), 2, now.Add(time.Second))
	r, err := n.Reload(next)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"mesh.risks", "log.level", "access.tls.cert", "admin.tls.cert"}; !slices.Equal(r.Applied, want) {
		t.Errorf("applied %v, want %v", r.Applied, want)
	}
	if want := []string{"mesh.join"}; !slices.Equal(r.Restart, want) {
		t.Errorf("waits for a restart %v, want %v", r.Restart, want)
	}
	if n.reloadable.level.Level() != slog.LevelDebug || !slices.Equal(*n.reloadable.risks.Load(), next.Mesh.Risks) || served(t, n) != 2 {
		t.Errorf("level %v, risks %v, certificate %d", n.reloadable.level.Level(), *n.reloadable.risks.Load(), served(t, n))
	}
	if r, err = n.Reload(next); err != nil || len(r.Applied) != 0 || !slices.Equal(r.Restart, []string{"mesh.join"}) {
		t.Errorf("the same again: %v %v", r, err)
	}
}

func TestWhatASignalReloadedIsInTheLog(t *testing.T) {
	cfg := host(t, 0)
	var log bytes.Buffer
	next, bad := cfg, error(nil)
	n, err := New(cfg, Options{
		Logger:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})),
		LoadConfig: func() (Config, error) { return next, bad },
	})
	if err != nil {
		t.Fatal(err)
	}
	next.Mesh.Join = []string{"127.0.0.1:7900"}
	if _, err := n.ReloadFile(); err != nil || !strings.Contains(log.String(), "after_restart=[mesh.join]") {
		t.Errorf("a key that waits for a restart is not named where only warnings are kept: %v\n%s", err, &log)
	}
	bad = errors.New("line 3: unknown key")
	if _, err := n.ReloadFile(); !errors.Is(err, bad) || !strings.Contains(log.String(), "line 3: unknown key") {
		t.Errorf("the error of a file is not in the log: %v\n%s", err, &log)
	}
}

func TestAReloadThatHangsRefusesTheNextOne(t *testing.T) {
	cfg := host(t, 0)
	began, answer := make(chan struct{}), make(chan struct{})
	n, err := New(cfg, Options{LoadConfig: func() (Config, error) { close(began); <-answer; return cfg, nil }})
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error)
	go func() { _, err := n.ReloadFile(); over <- err }()
	<-began
	if _, err := n.ReloadFile(); !errors.Is(err, errReloading) {
		t.Errorf("a second reader beside one that hangs: %v", err)
	}
	if n.Status().Node != cfg.Node {
		t.Error("the node does not say who it is")
	}
	close(answer)
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestACertificateThatIsAPipeIsRefused(t *testing.T) {
	cfg := host(t, 0)
	cfg.Access.TLS = pair(t, t.TempDir(), 1, time.Now())
	n, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	next := cfg
	next.Access.TLS.Key = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(next.Access.TLS.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Reload(next); err == nil || !strings.Contains(err.Error(), "no regular file") || served(t, n) != 1 {
		t.Errorf("%v, certificate %d", err, served(t, n))
	}
	next = cfg
	if next.Identity.Cert = filepath.Join(t.TempDir(), "pipe"); syscall.Mkfifo(next.Identity.Cert, 0o600) != nil {
		t.Fatal("no pipe")
	}
	if _, err := n.Reload(next); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Error(err)
	}
}

func TestABadCertificateChangesNothing(t *testing.T) {
	cfg := host(t, 0)
	now := time.Now()
	cfg.Access.TLS = pair(t, t.TempDir(), 1, now)
	n, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Access.TLS.Key, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := cfg
	next.Log.Level = "debug"
	if _, err := n.Reload(next); err == nil {
		t.Error("a key that is none was taken")
	}
	if n.reloadable.level.Level() != slog.LevelInfo || served(t, n) != 1 {
		t.Errorf("level %v, certificate %d: half a reload", n.reloadable.level.Level(), served(t, n))
	}
}

func TestARenewedCertificateOfTheNodeIsTakenUp(t *testing.T) {
	cfg := host(t, 0)
	n, err := New(cfg, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ca, out := filepath.Dir(cfg.Identity.CA), filepath.Dir(cfg.Identity.Cert)
	issue := func(region string) {
		t.Helper()
		if err := identity.Issue(ca, out, identity.IssueOptions{Node: "fra", Region: region}); err != nil {
			t.Fatal(err)
		}
	}
	before := n.id.Cert().Leaf
	if r, err := n.Reload(cfg); err != nil || len(r.Applied) != 0 {
		t.Fatalf("unchanged files: %v, %v", r, err)
	}
	issue("eu")
	if r, err := n.Reload(cfg); err != nil || !slices.Equal(r.Applied, []string{"identity.cert"}) || n.id.Cert().Leaf.Equal(before) {
		t.Errorf("renewed: %v, %v", r, err)
	}
	taken := n.id.Cert().Leaf
	issue("us")
	if _, err := n.Reload(cfg); !errors.Is(err, identity.ErrOtherIdentity) || !n.id.Cert().Leaf.Equal(taken) {
		t.Errorf("another region: %v", err)
	}
}
