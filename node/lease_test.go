package node

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
)

const thisMachine = "31478b542aee8812097c42cc3b1642c9"

// leased makes a node's files and a lease that begins now and lasts for term.
func leased(t *testing.T, term time.Duration) Config {
	t.Helper()
	cfg := host(t, 0)
	cfg.Authorities, cfg.Identity.Cert = []string{"127.0.0.1:1"}, ""
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	ca := strings.TrimSuffix(cfg.Identity.CA, "/ca.crt")
	if err := identity.IssueAuthority(ca, ca, identity.AuthorityOptions{Name: "one"}); err != nil {
		t.Fatal(err)
	}
	authority, err := identity.LoadAuthority(cfg.Identity.CA, ca)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := identity.LoadSigner(ca)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cfg.LeaseParts(thisMachine)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := signer.SignLeased(&p.Key.PublicKey, identity.IssueOptions{Node: "fra", Region: "eu"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	l := lease.Sign(lease.Grant{
		Mesh: "test", Node: "fra", Fingerprint: thisMachine, Issuer: "one", Nonce: "00", Certificate: der,
		Issued: now.Unix(), Expires: now.Add(term).Unix(),
	}, authority.Key, authority.Cert.Raw)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.File.Put(l); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func ahead(by time.Duration) func() time.Duration { return func() time.Duration { return by } }

// A node starts, or does not, by its lease file alone: no authority answers in this test.
func TestANodeStartsByItsLease(t *testing.T) {
	cfg := leased(t, lease.Term)
	start := func(o Options) (*Node, error) {
		if o.Fingerprint == "" {
			o.Fingerprint = thisMachine
		}
		return New(cfg, o)
	}
	n, err := start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if n.unleased() || n.id.Node != "fra" || n.id.Cert().Leaf == nil {
		t.Errorf("unleased %v, identity %+v", n.unleased(), n.id)
	}
	if n, err := start(Options{Skew: ahead(3 * 24 * time.Hour)}); err != nil || n.keeper.State().Verdict != lease.ValidWarn {
		t.Errorf("after three days: %v", err)
	}
	for what, c := range map[string]struct {
		o    Options
		says string
	}{
		"on another machine": {Options{Fingerprint: strings.Repeat("f", 32)}, "WRONG_MACHINE"},
		"after eight days":   {Options{Skew: ahead(8 * 24 * time.Hour)}, "EXPIRED"},
	} {
		if _, err := start(c.o); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "tern ") {
			t.Errorf("%s: %v, want %s and what to do", what, err, c.says)
		}
	}
	// The clock was three days ahead at a start, and is put right: that is a rollback, and it sticks.
	for _, want := range []string{"CLOCK_ROLLBACK", "VOID_CLOCK", "VOID_CLOCK"} {
		if _, err := start(Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if err := os.WriteFile(cfg.LeaseFile(), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := start(Options{}); err == nil || !strings.Contains(err.Error(), "BAD_LEASE") {
		t.Errorf("a bad file: %v", err)
	}
	if err := os.Remove(cfg.LeaseFile()); err != nil {
		t.Fatal(err)
	}
	if _, err := start(Options{}); err == nil || !strings.Contains(err.Error(), "NO_LEASE") {
		t.Errorf("no file: %v", err)
	}
}

func TestALeaseNeedsItsConfiguration(t *testing.T) {
	good := leased(t, lease.Term)
	for what, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"neither":             {func(c *Config) { c.Authorities = nil }, "identity.cert: is needed without authorities"},
		"both":                {func(c *Config) { c.Identity.Cert = "a.crt" }, "leave it out"},
		"no port":             {func(c *Config) { c.Authorities = []string{"one"} }, "is not HOST:PORT"},
		"too many":            {func(c *Config) { c.Authorities = make([]string, 17) }, "at most 16"},
		"too patient a clock": {func(c *Config) { c.Identity.ClockTolerance = 121 }, "out of range, 1 to 120"},
		"a clock of the past": {func(c *Config) { c.Identity.ClockTolerance = -1 }, "out of range"},
	} {
		cfg := good
		c.change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
}
