package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/authority"
	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/run/scenario"
)

const leased = `
name: leased
duration: 50s
warmup: 3s
seed: 4
nodes:
  fra: {region: eu}
  iad: {region: us}
  nrt: {region: ap}
links:
  default: {delay: 40ms}
policy: base
streams:
  - {name: through, from: fra, to: [nrt, iad], app: demo, packets_per_second: 50, size: 400}
`

// Leases of 28 s, renewed every 4 s, with certificates of 32 s: at 12 s the first authority ends, at 20 s the second.
const (
	leasedTerm         = 28 * time.Second
	oneEnds, twoEnds   = 12 * time.Second, 20 * time.Second
	looksWhileOne      = 18 * time.Second
	looksWhenAllIsOver = 54 * time.Second
)

// town is two authorities and the machines that they know.
type town struct {
	t    *testing.T
	dir  string
	once sync.Once
	mu   sync.Mutex
	net  listeners                  // of the authorities
	cfgs map[string]node.Config     // guarded by mu
	said map[string]map[string]bool // guarded by mu: by instant, verdicts and issuers
}

// open runs an authority until its time.
func (w *town) open(life context.Context, ca, name string, until time.Duration) {
	ctx, cancel := context.WithTimeout(life, until)
	dir := filepath.Join(w.dir, name)
	store, err1 := authority.OpenStore(dir)
	err2 := identity.IssueAuthority(ca, dir, identity.AuthorityOptions{Name: name, Valid: time.Hour})
	signer, err3 := identity.LoadSigner(ca)
	a, err4 := authority.New(authority.Config{
		Store: store, Signer: signer, Term: leasedTerm, Logger: slog.New(slog.DiscardHandler),
		Load: func() (identity.Authority, error) { return identity.LoadAuthority(identity.CAFile(ca), dir) },
	})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		w.t.Error(err)
		cancel()
		return
	}
	l := w.net.listen(name+":1", &net.TCPAddr{})
	go func() {
		defer cancel()
		if err := a.Run(ctx, l); err != nil {
			w.t.Errorf("authority %s: %v", name, err)
		}
	}()
}

// adjust makes a node live by a lease, which authority one gives it here.
func (w *town) adjust(life context.Context, ca string, cfg *node.Config, o *node.Options) error {
	w.once.Do(func() {
		w.open(life, ca, "one", oneEnds)
		w.open(life, ca, "two", twoEnds)
		for _, at := range []time.Duration{looksWhileOne, looksWhenAllIsOver} {
			time.AfterFunc(at, func() { w.look(at.String()) })
		}
	})
	o.DialAuthority, o.Fingerprint = w.net.dial, "31478b542aee8812097c42cc3b1642c9"
	cfg.Authorities, cfg.Identity.Cert = []string{"one:1", "two:1"}, ""
	cfg.Identity.ClockTolerance = 30
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	client, err := cfg.LeaseClient(o.Fingerprint, false)
	if err != nil {
		return err
	}
	key, err := identity.KeyID(&client.Key.PublicKey)
	if err != nil {
		return err
	}
	store, err := authority.OpenStore(filepath.Join(w.dir, "one"))
	if err != nil {
		return err
	}
	region := map[string]string{"fra": "eu", "iad": "us", "nrt": "ap"}[cfg.Node]
	if err := store.Approve(time.Now(), authority.Order{Who: "test", Node: cfg.Node, Region: region, Voter: cfg.Control.Voter, Fingerprint: o.Fingerprint, Key: key}); err != nil {
		return err
	}
	client.Dial = w.net.dial
	l, _, err := client.First(life, cfg.Authorities, cfg.Identity.CA, nil)
	if err != nil {
		return err
	}
	parts, err := cfg.LeaseParts(o.Fingerprint)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.cfgs[cfg.Node] = *cfg
	w.mu.Unlock()
	return parts.File.Put(l)
}

// look judges every node's lease.
func (w *town) look(at string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said[at] = make(map[string]bool)
	for node, cfg := range w.cfgs {
		p, err := cfg.LeaseParts("31478b542aee8812097c42cc3b1642c9")
		if err != nil {
			w.t.Error(err)
			continue
		}
		v, l, why := p.File.Peek(time.Now())
		if why != nil {
			w.t.Errorf("%s: %v", node, why)
		}
		w.said[at][fmt.Sprintf("%s by %s", v, l.Grant.Issuer)] = true
	}
}

// Every node lives by a lease. One authority ends, later the other: the leases end, and media does not notice.
func TestMediaOutlivesTheLeasesOfItsNodes(t *testing.T) {
	w := &town{t: t, dir: t.TempDir(), net: listeners{at: make(map[string]*sim.StreamListener)}, cfgs: make(map[string]node.Config), said: make(map[string]map[string]bool)}
	documents := map[string]string{"base": "regions: [{id: eu}, {id: us}, {id: ap}]\napps: [{id: demo, auth: app_id}]\n"}
	s, err := scenario.Parse([]byte(leased), func(name string) ([]byte, error) { return []byte(documents[name]), nil })
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), s, Options{Bubble: bubble(t), Version: "test", Dir: t.TempDir(), Adjust: w.adjust})
	if err != nil {
		t.Fatal(err)
	}
	if through := r.Streams[0]; through.Sent == 0 || through.Delivered < through.Sent {
		t.Errorf("%d of %d packets delivered\n%s", through.Delivered, through.Sent, r.Summary())
	}
	for at, want := range map[time.Duration]string{looksWhileOne: "VALID_WARN by two", looksWhenAllIsOver: "EXPIRED by two"} {
		if got := w.said[at.String()]; len(got) != 1 || !got[want] {
			t.Errorf("at %v the nodes' leases are %v, want %s", at, got, want)
		}
	}
}
