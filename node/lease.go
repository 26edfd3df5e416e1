package node

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/enrol"
)

const (
	// defaultTolerance and maxTolerance are seconds that a clock may go back: NTP steps.
	defaultTolerance, maxTolerance = 30, 120
	// maxAuthorities bounds a round of renewal.
	maxAuthorities = 16
)

// validateLease checks what concerns leases.
func (c *Config) validateLease(fail func(key, format string, args ...any)) {
	switch {
	case len(c.Authorities) == 0 && c.Identity.Cert == "":
		fail("identity.cert", "is needed without authorities")
	case len(c.Authorities) > 0 && c.Identity.Cert != "":
		fail("identity.cert", "with authorities the certificate comes with the lease: leave it out, and run `tern enrol` once")
	case len(c.Authorities) > maxAuthorities:
		fail("authorities", "%d are named, at most %d", len(c.Authorities), maxAuthorities)
	}
	for _, a := range c.Authorities {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			fail("authorities", "%q is not HOST:PORT", a)
		}
	}
	if t := c.Identity.ClockTolerance; t < 0 || t > maxTolerance {
		fail("identity.clock_tolerance_seconds", "%d is out of range, 1 to %d", t, maxTolerance)
	}
}

// LeaseParts is what a machine needs to live by a lease: its key, its fingerprint, its file, and how to ask for another.
type LeaseParts struct {
	Trust       identity.Trust
	Key         *ecdsa.PrivateKey
	Fingerprint string
	File        enrol.File
	Client      enrol.Client
}

// LeaseFile is where the lease is.
func (c *Config) LeaseFile() string {
	if c.Identity.Lease != "" {
		return c.Identity.Lease
	}
	return filepath.Join(c.DataDir, "lease.json")
}

// LeaseClient is how this machine asks authorities, before it has a lease. fingerprint, if given, stands for the machine's;
// create makes the node's key if it is not there.
func (c *Config) LeaseClient(fingerprint string, create bool) (enrol.Client, error) {
	if fingerprint == "" {
		var err error
		if fingerprint, err = enrol.Fingerprint(c.Identity.MachineFile); err != nil {
			return enrol.Client{}, err
		}
	}
	key, err := identity.NodeKey(c.Identity.Key, create)
	if err != nil {
		return enrol.Client{}, fmt.Errorf("%w; `tern enrol` makes it", err)
	}
	return enrol.Client{Key: key, Node: c.Node, Fingerprint: fingerprint, Tolerance: c.tolerance()}, nil
}

func (c *Config) tolerance() time.Duration {
	return time.Duration(c.Identity.ClockTolerance) * time.Second
}

// LeaseParts reads the files that a lease is held against.
func (c *Config) LeaseParts(fingerprint string) (p LeaseParts, err error) {
	if p.Trust, err = identity.LoadTrust(c.Identity.CA); err != nil {
		return p, fmt.Errorf("%w; `tern enrol` with an invitation brings the mesh's CA along", err)
	}
	if p.Client, err = c.LeaseClient(fingerprint, false); err != nil {
		return p, err
	}
	p.Key, p.Fingerprint = p.Client.Key, p.Client.Fingerprint
	machine, err := enrol.MachineOf(p.Trust, c.Node, p.Fingerprint, p.Key, c.tolerance())
	p.File = enrol.File{Path: c.LeaseFile(), Machine: machine}
	return p, err
}

// openIdentity loads the node's certificate: from its lease, which must be good, or without authorities from its file.
func (n *Node) openIdentity(cfg Config, opts Options) (*identity.Identity, error) {
	if len(cfg.Authorities) == 0 {
		return identity.Load(cfg.Identity.CA, cfg.Identity.Cert, cfg.Identity.Key)
	}
	p, err := cfg.LeaseParts(opts.Fingerprint)
	if err != nil {
		return nil, err
	}
	p.Client.Dial = opts.DialAuthority
	k := &enrol.Keeper{
		File: p.File, Client: p.Client, Trust: p.Trust, Authorities: cfg.Authorities,
		Now:     func() time.Time { return time.Now().Add(opts.Skew()) },
		Logger:  opts.Logger.With("node", cfg.Node),
		Renewed: func(l lease.Lease) error { return n.id.Renew(l.Grant.Certificate) },
		Judged: func(lease.Verdict) {
			select {
			case <-n.ready:
				n.drain.wake()
			default:
			}
		},
	}
	v, l, why := k.Start()
	if !v.Good() {
		return nil, refusedBy(v, p.File.Path, why)
	}
	id, err := identity.LoadLeased(cfg.Identity.CA, cfg.Identity.Key, l.Grant.Certificate)
	if err == nil {
		n.keeper = k
	}
	return id, err
}

// refusedBy says why a node does not start.
func refusedBy(v lease.Verdict, file string, why error) error {
	if why != nil {
		return fmt.Errorf("the lease %s is %s: %w; %s", file, v, why, v.Do())
	}
	return fmt.Errorf("the lease %s is %s; %s", file, v, v.Do())
}

// unleased says that the node's lease does not let it take new clients.
func (n *Node) unleased() bool { return n.keeper != nil && !n.keeper.State().Verdict.Good() }

// keepLease is the stage that looks at the lease and renews it.
func (n *Node) keepLease(ctx context.Context) error {
	if n.keeper == nil {
		<-ctx.Done()
		return nil
	}
	return n.keeper.Run(ctx)
}

// LeaseStatus is a node's lease as its status shows it.
type LeaseStatus struct {
	Verdict     string    `json:"verdict"`
	Good        bool      `json:"good"` // the node may take clients
	Why         string    `json:"why,omitempty"`
	Do          string    `json:"do,omitempty"`
	Fingerprint string    `json:"fingerprint"`
	Issuer      string    `json:"issuer,omitempty"`
	Issued      time.Time `json:"issued,omitzero"`
	Expires     time.Time `json:"expires,omitzero"`
	DaysLeft    float64   `json:"days_left"`
	Alarm       string    `json:"alarm,omitempty"`   // of the last round of renewal: connect, not_listed, clock
	Trouble     string    `json:"trouble,omitempty"` // what the authorities answered in it
	Renewed     uint64    `json:"renewals"`
	Failed      uint64    `json:"failed_renewals"`
	Warned      uint64    `json:"warnings"`
}

func (n *Node) leaseStatus(now time.Time) *LeaseStatus {
	if n.keeper == nil {
		return nil
	}
	s := n.keeper.State()
	out := LeaseStatus{
		Verdict: string(s.Verdict), Good: s.Verdict.Good(), Why: s.Why, Do: s.Verdict.Do(), Fingerprint: n.keeper.Client.Fingerprint,
		Issuer: s.Issuer, Issued: s.Issued, Expires: s.Expires, Alarm: string(s.Alarm), Trouble: s.Trouble,
		Renewed: s.Renewed, Failed: s.Failed, Warned: s.Warned,
	}
	if !s.Expires.IsZero() {
		out.DaysLeft = s.Expires.Sub(now).Hours() / 24
	}
	return &out
}

// leaseFindings says what is wrong with a lease, or with its renewal; pure.
func leaseFindings(l LeaseStatus, add addFinding) {
	switch {
	case !l.Good:
		what := "the node's lease is " + l.Verdict + ": it takes no new clients"
		if l.Why != "" {
			what += " (" + l.Why + ")"
		}
		add(SeverityCritical, findLease, "identity.lease", what, l.Do)
	case l.Verdict == string(lease.ValidWarn):
		add(SeverityWarning, findLease, "identity.lease", fmt.Sprintf("the node's lease ends in %.1f days: %s", l.DaysLeft, l.Expires.UTC().Format(time.DateTime)), l.Do)
	}
	what := map[string]string{
		string(lease.Connect):   "no authority gave a lease",
		string(lease.NotListed): "the authorities do not list this node, or list it no more",
		string(lease.Clock):     "this machine's clock differs from the authorities'",
	}[l.Alarm]
	do := map[string]string{
		string(lease.Connect):   "start an authority, or open the way to it; the lease runs on until then",
		string(lease.NotListed): "ask their operator: `tern authority list` there; an invitation and `tern enrol` enrol it anew",
		string(lease.Clock):     "set the clock (NTP)",
	}[l.Alarm]
	if what != "" {
		add(SeverityWarning, findRenewal, "authorities", what+": "+l.Trouble, do)
	}
}

// signatureSoon is how long before the end of its signer's certificate a copy of the policy is signed again; half of the
// certificate's life if that is less.
const signatureSoon = 5 * 24 * time.Hour

// lasting says whether a signature with a certificate will count for others for a good while yet.
func (n *Node) lasting(certDER []byte) bool {
	p, err := n.id.Check(certDER)
	if err != nil {
		return false
	}
	left, life := p.Cert.NotAfter.Sub(n.now()), p.Cert.NotAfter.Sub(p.Cert.NotBefore)
	return left >= min(signatureSoon, life/2)
}
