package authority

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/fair"
	"github.com/ternmesh/tern/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authorityDays is how long the authority's certificate lives: its last three months are the time of warnings.
const authorityDays = 10

const print = "31478b542aee8812097c42cc3b1642c9"

// world is a CA, an authority and a machine's key, in the time of the test.
type world struct {
	t     *testing.T
	ca    string
	dir   string
	cfg   Config
	trust identity.Trust
	key   *ecdsa.PrivateKey
	door  *sim.StreamListener
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, ca: filepath.Join(t.TempDir(), "ca"), dir: t.TempDir(), door: sim.NewStreamListener(&net.TCPAddr{})}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(identity.InitCA(w.ca, "m", time.Now().Add(-time.Hour)))
	check(identity.IssueAuthority(w.ca, w.dir, identity.AuthorityOptions{Name: "one", Valid: authorityDays * 24 * time.Hour}))
	store, err := OpenStore(filepath.Join(w.dir, "book"))
	check(err)
	signer, err := identity.LoadSigner(w.ca)
	check(err)
	w.trust, err = identity.LoadTrust(identity.CAFile(w.ca))
	check(err)
	w.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	w.cfg = Config{
		Store: store, Signer: signer, Logger: slog.New(slog.DiscardHandler),
		Load: func() (identity.Authority, error) { return identity.LoadAuthority(identity.CAFile(w.ca), w.dir) },
	}
	return w
}

// start runs the authority until the test or the returned function ends it.
func (w *world) start() (stop func() error) {
	w.t.Helper()
	a, err := New(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, w.door) }()
	synctest.Wait()
	return func() error { cancel(); return <-done }
}

// settle lets closing connections say goodbye, in virtual time, before the bubble ends.
func (w *world) settle() { w.t.Cleanup(func() { time.Sleep(time.Minute) }) }

// post sends a body with a key; the answer's status and bytes.
func (w *world) post(key *ecdsa.PrivateKey, body []byte) (int, []byte) {
	w.t.Helper()
	conf, err := w.trust.AuthorityTLS(key)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.postWith(conf, body)
}

func (w *world) postWith(conf *tls.Config, body []byte) (int, []byte) {
	w.t.Helper()
	tr := &http.Transport{DialContext: w.door.Dial, TLSClientConfig: conf, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Post("https://authority"+lease.Path, "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, b
}

func (w *world) request(change func(*lease.Request)) []byte {
	r := lease.Request{Version: 1, Mesh: "m", Node: "fra", Fingerprint: print, Nonce: strings.Repeat("0", 32), Time: time.Now().Unix()}
	if change != nil {
		change(&r)
	}
	b, _ := json.Marshal(r)
	return b
}

func (w *world) invite(node string) string {
	w.t.Helper()
	i, err := w.cfg.Store.Invite(time.Now(), w.trust, Order{Who: "me", Node: node, Region: "eu", Voter: true, Valid: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Secret
}

// wait lets the source's rate recover.
func wait() { time.Sleep(time.Minute) }

func TestAMachineEnrolsAndRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		stop := w.start()
		secret := w.invite("fra")
		status, body := w.post(w.key, w.request(func(r *lease.Request) { r.Invitation = secret }))
		l, err := lease.Decode(body)
		if status != 200 || err != nil {
			t.Fatalf("%d %s", status, body)
		}
		if err := l.Check("m", "fra", w.trust.AuthorityOf); err != nil {
			t.Fatal(err)
		}
		if got := l.Grant.Expires - l.Grant.Issued; got != 7*86400 || l.Grant.Issued != time.Now().Unix() || l.Grant.Issuer != "one" {
			t.Errorf("a lease for %d s by %q", got, l.Grant.Issuer)
		}
		p, err := w.trust.NodeOf(l.Grant.Certificate)
		if err != nil || p.Node != "fra" || p.Region != "eu" || !p.Voter || !w.key.PublicKey.Equal(p.Cert.PublicKey) {
			t.Errorf("certificate %+v, %v", p, err)
		}
		if slack := p.Cert.NotAfter.Sub(time.Unix(l.Grant.Expires, 0)); slack != 24*time.Hour {
			t.Errorf("the certificate outlives the lease by %v, want a day", slack)
		}
		time.Sleep(9 * 24 * time.Hour) // whatever the machine's certificate has become meanwhile
		if status, body := w.post(w.key, w.request(func(r *lease.Request) { r.Previous = &l })); status != 200 {
			t.Errorf("renewal: %d %s", status, body)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.wantAudit("invite fra", "lease fra enrolled", "lease fra")
	})
}

// wantAudit holds the log's lines, action, node and note, against what happened.
func (w *world) wantAudit(want ...string) {
	w.t.Helper()
	var got []string
	if _, err := w.cfg.Store.Audit(func(l Line) error {
		got = append(got, strings.TrimSpace(l.Action+" "+l.Node+" "+l.Note))
		return nil
	}); err != nil {
		w.t.Error(err)
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		w.t.Errorf("the audit log has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHostileClientsGetNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		defer w.start()()
		if err := w.cfg.Store.Approve(time.Now(), Order{Who: "me", Node: "fra", Region: "eu", Fingerprint: print, Key: keyID(t, w.key)}); err != nil {
			t.Fatal(err)
		}
		thief, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		used := w.invite("iad")
		if status, body := w.post(thief, w.request(func(r *lease.Request) { r.Node, r.Invitation = "iad", used })); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		for what, c := range map[string]struct {
			key    *ecdsa.PrivateKey
			body   any // bytes, or a change of the good request, made when it is sent
			status int
			says   string
		}{
			"somebody else's node":        {thief, func(*lease.Request) {}, 403, "needs an invitation"},
			"another fingerprint":         {w.key, func(r *lease.Request) { r.Fingerprint = strings.Repeat("f", 32) }, 403, "another fingerprint"},
			"a used invitation":           {w.key, func(r *lease.Request) { r.Node, r.Invitation = "iad", used }, 403, "was used"},
			"a guessed invitation":        {w.key, func(r *lease.Request) { r.Node, r.Invitation = "sin", strings.Repeat("0", 32) }, 403, "was used"},
			"another mesh":                {w.key, func(r *lease.Request) { r.Mesh = "n" }, 400, "another mesh"},
			"an old request":              {w.key, func(r *lease.Request) { r.Time -= 121 }, 409, "differ by 2m1s"},
			"a request from the future":   {w.key, func(r *lease.Request) { r.Time += 500 }, 409, "differ by 8m20s"},
			"time at the end of the type": {w.key, func(r *lease.Request) { r.Time = -1 << 63 }, 409, "differ"},
			"a long body":                 {w.key, bytes.Repeat([]byte(" "), 8*lease.MaxRequestBytes), 400, "too large"},
			"no JSON":                     {w.key, []byte("GET / HTTP/1.1"), 400, "request"},
			"a forged lease of its own": {thief, func(r *lease.Request) {
				r.Node = "sin"
				r.Previous = &lease.Lease{Grant: lease.Grant{Version: 1, Mesh: "m", Node: "sin", Fingerprint: print, Issued: time.Now().Unix(), Expires: time.Now().Unix() + 9}}
			}, 403, "needs an invitation"},
		} {
			wait()
			body, raw := c.body.([]byte)
			if !raw {
				body = w.request(c.body.(func(*lease.Request)))
			}
			if status, body := w.post(c.key, body); status != c.status || !strings.Contains(string(body), c.says) {
				t.Errorf("%s: %d %s, want %d and %q", what, status, body, c.status, c.says)
			}
		}
		wait()
		if status, body := w.postWith(&tls.Config{InsecureSkipVerify: true}, w.request(nil)); status != 0 {
			t.Errorf("without a key: %d %s", status, body)
		}
		w.wantAudit("approve fra", "invite iad", "lease iad enrolled")
	})
}

func keyID(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	id, err := identity.KeyID(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOneSourceCannotFloodTheOthers(t *testing.T) {
	synctest.Test(t, oneSourceCannotFloodTheOthers) // no time passes
}

func oneSourceCannotFloodTheOthers(t *testing.T) {
	l := newLimits()
	loud, quiet := fair.SourceOf("192.0.2.1:1"), fair.SourceOf("[2001:db8::1]:1")
	for i := range 1000 {
		if got := l.allow(loud); got != (i < sourceBurst) {
			t.Fatalf("request %d: %v", i, got)
		}
	}
	if l.allow(loud) || !l.allow(quiet) {
		t.Error("the quiet source pays for the loud one")
	}
	for i := range 3 * maxSources {
		l.allow(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
	}
	if len(l.sources) > maxSources {
		t.Errorf("%d sources are remembered, at most %d", len(l.sources), maxSources)
	}
}

func TestWhatThePolicyRevokesIsNotRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		var list atomic.Pointer[[]Revocation]
		var down atomic.Bool
		list.Store(&[]Revocation{})
		w.cfg.Revoked = func(context.Context) ([]Revocation, error) {
			if down.Load() {
				return nil, errors.New("no node answers")
			}
			return *list.Load(), nil
		}
		stop := w.start()
		secret := w.invite("fra")
		status, body := w.post(w.key, w.request(func(r *lease.Request) { r.Invitation = secret }))
		l, err := lease.Decode(body)
		if status != 200 || err != nil {
			t.Fatalf("%d %s", status, body)
		}
		p, err := w.trust.NodeOf(l.Grant.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []Revocation{{Node: "fra"}, {Serial: p.Serial()}} {
			list.Store(&[]Revocation{{Node: "other"}, r})
			wait()
			wait()
			if status, body := w.post(w.key, w.request(nil)); status != 403 || !strings.Contains(string(body), "revokes") {
				t.Errorf("%+v: %d %s", r, status, body)
			}
		}
		down.Store(true)
		if err := stop(); err != nil {
			t.Error(err)
		}
		w.door = sim.NewStreamListener(&net.TCPAddr{})
		stop = w.start() // no node answers; what was heard last is on disk
		if status, body := w.post(w.key, w.request(nil)); status != 403 {
			t.Errorf("after a restart: %d %s", status, body)
		}
		down.Store(false)
		list.Store(&[]Revocation{})
		wait()
		wait()
		if status, body := w.post(w.key, w.request(nil)); status != 200 {
			t.Errorf("readmitted: %d %s", status, body)
		}
		_ = stop()
	})
}

// The states of an authority towards its root, as the outcome table has them.
func TestAnAuthorityAndItsRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		const day = 24 * time.Hour
		if err := identity.IssueAuthority(w.ca, w.dir, identity.AuthorityOptions{Name: "one", Valid: 1000 * day}); err != nil {
			t.Fatal(err)
		}
		own, err := w.cfg.Load()
		if err != nil {
			t.Fatal(err)
		}
		w.cfg.Load = func() (identity.Authority, error) { return own, nil }
		var answer atomic.Pointer[lease.Answer] // nil: unreachable
		w.cfg.Root = func(context.Context) (lease.Answer, error) {
			if a := answer.Load(); a != nil {
				return *a, nil
			}
			return lease.Answer{}, errors.New("unreachable")
		}
		asks := func() int {
			wait()
			status, _ := w.post(w.key, w.request(nil))
			return status
		}
		done := make(chan error, 1)
		a, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- a.Run(t.Context(), w.door) }()
		if err := w.cfg.Store.Approve(time.Now(), Order{Who: "me", Node: "fra", Region: "eu", Fingerprint: print, Key: keyID(t, w.key)}); err != nil {
			t.Fatal(err)
		}
		if got := asks(); got != 503 {
			t.Errorf("root unreachable at the start: %d, want 503", got)
		}
		end := time.Now().Add(15 * day)
		answer.Store(&lease.Answer{Reached: true, Listed: true, ContractEnd: end})
		wait()
		wait()
		if got := asks(); got != 200 {
			t.Errorf("listed: %d, want 200", got)
		}
		answer.Store(nil)
		time.Sleep(5 * day)
		if got := asks(); got != 200 {
			t.Errorf("root down, authority up: %d, want 200", got)
		}
		time.Sleep(20 * day)
		if got := asks(); got != 200 || a.right.Load().Phase != lease.PhaseGrace {
			t.Errorf("in the three months: %d in %s, want 200", got, a.right.Load().Phase)
		}
		answer.Store(&lease.Answer{Reached: true, Listed: true, ContractEnd: time.Now().Add(10 * day)})
		time.Sleep(2 * day)
		if got := a.right.Load().Phase; got != lease.PhaseActive {
			t.Errorf("renewed, no restart: %s", got)
		}
		select {
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		default:
		}
		time.Sleep(110 * day)
		if err := <-done; err == nil || !strings.Contains(err.Error(), "A_STOPPED") {
			t.Errorf("three months after the contract: %v", err)
		}
	})
}

func TestAnAuthorityThatItsRootDoesNotListEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Root = func(context.Context) (lease.Answer, error) { return lease.Answer{Reached: true}, nil }
		a, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Run(t.Context(), w.door); err == nil || !strings.Contains(err.Error(), "A_REFUSED") {
			t.Errorf("not listed: %v", err)
		}
	})
}

func TestALeaseEndsWithTheAuthoritysOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.settle()
		done := make(chan error, 1)
		a, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- a.Run(t.Context(), w.door) }()
		synctest.Wait() // it serves
		secret := w.invite("fra")
		if status, body := w.post(w.key, w.request(func(r *lease.Request) { r.Invitation = secret })); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		end := a.current.Load().Cert.NotAfter
		time.Sleep(time.Until(end) - 3*24*time.Hour)
		_, body := w.post(w.key, w.request(nil))
		l, err := lease.Decode(body)
		if err != nil || l.Grant.Expires > end.Unix() || l.Grant.Expires < end.Unix()-86400*3 {
			t.Errorf("three days before the authority's end: a lease until %d, want at most %d (%v)", l.Grant.Expires, end.Unix(), err)
		}
		// A renewed certificate is taken up without a restart.
		if err := identity.IssueAuthority(w.ca, w.dir, identity.AuthorityOptions{Name: "one", Valid: authorityDays * 24 * time.Hour}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lookEvery)
		_, body = w.post(w.key, w.request(nil))
		if l, err = lease.Decode(body); err != nil || l.Grant.Expires-l.Grant.Issued != 7*86400 {
			t.Errorf("after the renewal: %d s (%v)", l.Grant.Expires-l.Grant.Issued, err)
		}
		select {
		case err := <-done:
			t.Errorf("it ended: %v", err)
		default:
		}
		_ = w.door.Close()
		<-done
	})
}

func TestTheOperatorsOrdersAreChecked(t *testing.T) {
	w := newWorld(t)
	s, now := w.cfg.Store, time.Now()
	for what, err := range map[string]error{
		"no region":      second(s.Invite(now, w.trust, Order{Node: "a", Valid: time.Hour})),
		"no time":        second(s.Invite(now, w.trust, Order{Node: "a", Region: "eu"})),
		"a year":         second(s.Invite(now, w.trust, Order{Node: "a", Region: "eu", Valid: 8760 * time.Hour})),
		"a wrong name":   second(s.Invite(now, w.trust, Order{Node: "A", Region: "eu", Valid: time.Hour})),
		"no key":         s.Approve(now, Order{Node: "a", Region: "eu", Fingerprint: print}),
		"no fingerprint": s.Approve(now, Order{Node: "a", Region: "eu", Key: strings.Repeat("a", 64)}),
		"half a print":   s.Approve(now, Order{Node: "a", Region: "eu", Key: strings.Repeat("a", 64), Fingerprint: "31"}),
		"nobody":         s.Deny(now, Order{}),
	} {
		if err == nil {
			t.Errorf("%s was taken", what)
		}
	}
	if b, err := s.Book(); err != nil || len(b.Machines)+len(b.Invitations) != 0 {
		t.Errorf("the book has %+v, %v", b, err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "book", bookFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Deny(now, Order{Node: "a"}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged book: %v", err)
	}
}

func second(_ lease.Invitation, err error) error { return err }
