package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/control/lease"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/fair"
)

const (
	// policyEvery is how often an authority that follows the policy asks for its revocations; lookEvery is how often any looks at
	// its own right and its certificate's files.
	policyEvery = time.Minute
	lookEvery   = 10 * time.Minute
	// rootEvery is how often one that serves asks its root.
	rootEvery = 24 * time.Hour
	// retryFirst and retryMost bound the waits of one that its root has not answered yet.
	retryFirst, retryMost = time.Second, time.Minute
	// askTimeout bounds a question to the root or a node.
	askTimeout = 20 * time.Second
)

// Revocation is what the policy takes out of the mesh: a node by name, or a certificate by serial number (lower-case hex).
type Revocation struct {
	Node   string `json:"node,omitempty"`
	Serial string `json:"serial,omitempty"`
}

// Config is an authority's.
type Config struct {
	Store Store
	// Load reads the authority's certificate and key; it is asked every ten minutes, so that a renewed one is taken up.
	Load func() (identity.Authority, error)
	// Signer holds the CA's key.
	Signer identity.Signer
	// Term is how long leases last, at most lease.Term, which is the default.
	Term time.Duration
	// Root says whether this authority may serve, and until when. Nil: its own certificate does, by ending; its last three
	// months are the time of warnings.
	Root func(context.Context) (lease.Answer, error)
	// Revoked reads what the policy revokes; nil: nothing but the operator's denials counts.
	Revoked func(context.Context) ([]Revocation, error)
	Logger  *slog.Logger
}

// Authority gives leases while it runs.
type Authority struct {
	cfg     Config
	log     *slog.Logger
	limits  *limits
	lines   *rate.Limiter // of refusals in the log
	current atomic.Pointer[identity.Authority]
	right   atomic.Pointer[lease.Authority]
	refused atomic.Pointer[[]Revocation]
	counts  struct{ given, refused, crowded atomic.Uint64 }

	// owned by keep
	asked    time.Time // the root, last
	wait     time.Duration
	alarmed  time.Time
	warnedAt map[string]time.Time
}

// New loads the authority's certificate and opens no socket.
func New(cfg Config) (*Authority, error) {
	if cfg.Term == 0 {
		cfg.Term = lease.Term
	}
	if cfg.Term < time.Second || cfg.Term > lease.Term {
		return nil, fmt.Errorf("leases for %v: between a second and %v", cfg.Term, lease.Term)
	}
	a := &Authority{cfg: cfg, log: cfg.Logger, limits: newLimits(), lines: rate.NewLimiter(1, 5), warnedAt: make(map[string]time.Time)}
	own, err := cfg.Load()
	if err != nil {
		return nil, err
	}
	a.current.Store(&own)
	a.right.Store(&lease.Authority{Phase: lease.PhaseStart})
	known, err := cfg.Store.revoked()
	if err != nil {
		return nil, err
	}
	a.refused.Store(&known)
	if _, err := cfg.Store.Book(); err != nil {
		return nil, err
	}
	return a, nil
}

// Name is the authority's, as its certificate says.
func (a *Authority) Name() string { return a.current.Load().Name }

// Run serves at ln until ctx ends, or until this authority may serve no longer, which is an error that says why.
func (a *Authority) Run(ctx context.Context, ln net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.keep(ctx) })
	g.Go(func() error { return a.serve(ctx, ln) })
	return g.Wait()
}

func (a *Authority) serve(ctx context.Context, ln net.Listener) error {
	conf := a.current.Load().ServerTLS()
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return a.current.Load().ServerTLS(), nil }
	srv := &http.Server{
		Handler: a.handler(), TLSConfig: conf,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 5 * time.Second,
		MaxHeaderBytes: 8 << 10,
		ErrorLog:       slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		TLSNextProto:   map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2: one small request a connection
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if srv.Shutdown(end) != nil {
			_ = srv.Close()
		}
	})
	err := srv.ServeTLS(fair.Listen(ln, fair.Limits{All: maxConns, Source: maxPerSource, Refused: func() { a.counts.crowded.Add(1) }}), "", "")
	if stop() {
		return err // nobody asked for the end
	}
	<-ended
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// keep watches what this authority's right rests on.
func (a *Authority) keep(ctx context.Context) error {
	for {
		now := time.Now()
		a.reload()
		a.readRevoked(ctx)
		if err := a.consider(ctx, now); err != nil {
			return err
		}
		pause := lookEvery
		if a.cfg.Revoked != nil {
			pause = policyEvery
		}
		if !a.right.Load().Serves() {
			pause = a.wait
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// consider moves the authority's right on: the root is asked at the start until it answers, daily, and when the span ends.
func (a *Authority) consider(ctx context.Context, now time.Time) error {
	before := *a.right.Load()
	next, due := before.Tick(now)
	if due || !before.Serves() || now.Sub(a.asked) >= rootEvery || a.cfg.Root == nil {
		a.asked = now
		next = next.Heard(now, a.askRoot(ctx))
	}
	a.right.Store(&next)
	if next.Serves() {
		a.wait = retryFirst
	} else {
		a.wait = min(max(2*a.wait, retryFirst), retryMost)
	}
	if next.Phase != before.Phase {
		a.log.Info("authority", "phase", next.Phase, "before", before.Phase, "serves", next.Serves(), "until", next.SpanEnd().UTC())
	}
	if next.Phase == lease.PhaseGrace && now.Sub(a.alarmed) >= rootEvery {
		a.alarmed = now
		a.log.Warn("this authority's contract is over; it serves three months longer", "ended", next.ContractEnd.UTC(), "stops", next.SpanEnd().UTC(), "fix", "renew it at the root, or its certificate (tern ca authority); no restart is needed")
	}
	if next.Ended() {
		return fmt.Errorf("this authority may serve no longer (%s): renew it at the root, or its certificate, and start it again", next.Phase)
	}
	return nil
}

// askRoot is the root's answer, or that there was none.
func (a *Authority) askRoot(ctx context.Context) lease.Answer {
	if a.cfg.Root == nil {
		return lease.Answer{Reached: true, Listed: true, ContractEnd: lease.ContractUntil(a.current.Load().Cert.NotAfter)}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := a.cfg.Root(ctx)
	if err != nil {
		a.warn("root", "the root was not reached; an authority that serves goes on, one that starts waits", err)
		return lease.Answer{}
	}
	return answer
}

// reload takes up a renewed certificate.
func (a *Authority) reload() {
	own, err := a.cfg.Load()
	if err != nil {
		a.warn("files", "the authority's certificate on disk is no good; the one before stays in use", err)
		return
	}
	if before := a.current.Swap(&own); !before.Cert.Equal(own.Cert) {
		a.log.Info("the authority's certificate was renewed", "expires", own.Cert.NotAfter.UTC())
	}
}

// readRevoked asks a node what the policy revokes. While none answers, what was heard last counts.
func (a *Authority) readRevoked(ctx context.Context) {
	if a.cfg.Revoked == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := a.cfg.Revoked(ctx)
	if err != nil {
		a.warn("policy", "the policy's revocations were not read; the ones known count on", err)
		return
	}
	if slices.Equal(list, *a.refused.Load()) {
		return
	}
	a.refused.Store(&list)
	if err := a.cfg.Store.keepRevoked(list); err != nil {
		a.warn("disk", "the policy's revocations are not on disk; a restart without a node to ask would not know them", err)
	}
	a.log.Info("the policy revokes", "nodes_and_certificates", len(list))
}

// revoked says why a node or a key gets no lease; empty: nothing speaks against it.
func (a *Authority) revoked(node string, key *ecdsa.PublicKey) string {
	scope, err := identity.KeyScope(key)
	for _, r := range *a.refused.Load() {
		switch {
		case r.Node != "" && r.Node == node:
			return "the policy revokes the node"
		case r.Serial != "" && err == nil && identity.SerialScope(r.Serial) == scope:
			return "the policy revokes a certificate of its key"
		}
	}
	return ""
}

// warn says the same of one thing once an hour.
func (a *Authority) warn(what, text string, err error) {
	if now := time.Now(); now.Sub(a.warnedAt[what]) >= time.Hour {
		a.warnedAt[what] = now
		a.log.Warn(text, "err", err)
	}
}
