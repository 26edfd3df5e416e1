package access

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/node/access/token"
)

// Defaults of Config.
const (
	DefaultMaxSessions = 2000
	DefaultJoinRate    = 50  // joins per second and source address
	DefaultJoinBurst   = 200 // joins at once per source address

	// A client that trickles sends some PATCHes for each join, and a restart now and then.
	DefaultPatchRate  = 200
	DefaultPatchBurst = 800
	// maxHalfOpen sessions that never connected may be one source's at once, and half of
	// MaxSessions everybody's together: answers cost more than offers. See Access.halfOpen.
	maxHalfOpen = 256

	// Plain RTP takes a port for each track, of which there are few.
	DefaultMaxRTPPerApp    = 32 // ingests at once; a quarter of MaxSessions if that is less
	DefaultMaxRTPPerSource = 8  // ingests at once opened from one address
)

const (
	roundEvery   = time.Second      // how often expiries are looked at
	halfOpenFor  = 15 * time.Second // from the answer to a connected peer
	connectsIn   = 5 * time.Second  // a client that means it; older ones give way where places are short
	counterFor   = 30 * time.Second // from a counter-offer to its answer
	silentFor    = 15 * time.Second // RTP ingest without a packet
	firstFor     = 10 * time.Second // RTP ingest until its first packet
	shutdownFor  = 3 * time.Second  // closing everything
	hubFor       = 4 * time.Second  // what media may take to answer a join
	certificates = 7 * 24 * time.Hour
)

// App is what the policy says of an app's clients. Key is what network owners list to
// let the app through, "" its id; Tenants are those that its sessions belong to.
type App struct {
	token.App
	Key     string
	Tenants []string
	Limits  Limits
}

// Limits bound what one app may have open at this node; 0 is no limit.
type Limits struct {
	Channels   int // with a session
	Publishers int // WHIP and plain RTP
	Viewers    int

	PublisherBits int // bit/s of one publisher, all its tracks together
}

// Config of the client edge. Hub, App, UDP and UDPAdvertise must be set.
type Config struct {
	Hub    *media.Hub
	Logger *slog.Logger // nil: no log

	// App returns what the policy knows of an app; false if nothing. Called for each
	// join, and by Reauthorise; it must not block.
	App func(id string) (App, bool)

	// UnknownKey is asked when a token names a key that its app's key set does not have;
	// true if the app may have it now. It may block, until ctx ends; nil: no.
	UnknownKey func(ctx context.Context, app string) bool

	// Names of the headers by which network owners say whom they allow; "" are the
	// defaults, DefaultAppKeysHeader and DefaultTenantsHeader.
	AppKeysHeader, TenantsHeader string

	// UDP is the port of all WebRTC clients; access reads it and closes it when Run
	// ends. UDPAdvertise are the addresses that clients are told to use for it.
	UDP          net.PacketConn
	UDPAdvertise []netip.AddrPort
	Filter       Filter // in front of UDP; nil: none

	// TCP takes ICE over TCP from clients whose network lets no UDP through, at the
	// addresses of UDPAdvertise and its own port: a translator in front maps it one to
	// one. Access closes it when Run ends; its opener bounds the connections. Nil: UDP
	// alone.
	TCP net.Listener

	// Lite answers connectivity checks and makes none: for nodes that every client can
	// reach as they are advertised.
	Lite bool

	// Allow says whether an address may talk to this node where the packet filter has no
	// rule of its own: HTTP and plain RTP. Called for each request and each packet, so
	// it must not block; nil: everybody may.
	Allow func(netip.Addr) bool

	// TrustedProxies are reverse proxies whose X-Forwarded-For names the client; from
	// other addresses the header means nothing. Empty: none.
	TrustedProxies []netip.Prefix

	// ListenRTP opens the next free pair of ports of the plain RTP range, an even one for
	// RTP and the next for RTCP; nil: no plain RTP. An error that wraps syscall.EADDRINUSE
	// means that all are in use; others are logged as errors. RTPHost is the address of
	// those ports, as an ingest's SDP names it.
	ListenRTP func(ctx context.Context) (rtp, rtcp net.PacketConn, err error)
	RTPHost   netip.Addr

	// Self is this node's name, which its sessions' URLs carry, so that a request that
	// reaches another node is sent here; URL is the base that clients use, "" if they
	// should stay with the host that they came by. NodeURL is another node's.
	Self, URL string
	NodeURL   func(node string) (url string, ok bool)

	// Nearest answers GET /v1/nearest, which needs no token; nil: there is no such resource.
	Nearest http.HandlerFunc

	// Draining says whether the node takes new sessions; nil: always.
	Draining func() bool
	// Elsewhere names the base URL of another node for an app's clients while Draining; nil or false: there is none.
	Elsewhere func(app string) (url string, ok bool)

	MaxSessions int        // 0: DefaultMaxSessions
	JoinRate    rate.Limit // per source address, joins per second; 0: DefaultJoinRate
	JoinBurst   int        // 0: DefaultJoinBurst

	PatchRate  rate.Limit // per source address, PATCHes per second; 0: DefaultPatchRate
	PatchBurst int        // 0: DefaultPatchBurst

	MaxRTPPerApp    int // plain RTP ingests at once per app; 0: DefaultMaxRTPPerApp
	MaxRTPPerSource int // and per address they are opened from; 0: DefaultMaxRTPPerSource

	// StrictIfMatch refuses (428) every PATCH without If-Match. By default only an ICE
	// restart needs it: older clients trickle without.
	StrictIfMatch bool

	// Tracer makes the spans of joins; nil: none.
	Tracer trace.Tracer

	// Now is the clock for tokens and limits; nil: time.Now.
	Now func() time.Time
}

// Access is the client edge of a node. Safe for concurrent use.
type Access struct {
	cfg     Config
	hub     hub
	log     *slog.Logger
	now     func() time.Time
	began   time.Time // what times are counted from that a step of the wall clock must not touch
	joins   *sourceLimits
	patches *sourceLimits
	ingests quota // of plain RTP
	counts  counters

	departures departures
	refused    refusals
	decoy      App // checked against for apps that do not exist
	used       usedTokens
	peers      *peerMaker

	mu        sync.Mutex
	sessions  map[string]*session // by id
	audiences map[media.Key]*audience
	reserved  int            // joins in progress, counted against MaxSessions
	running   bool           // between the start of Run and shutdown
	closed    bool           // no goroutine may start any more
	wg        sync.WaitGroup // Add only under mu while !closed
}

// New validates cfg. Nothing runs and nothing is sent before Run.
func New(cfg Config) (*Access, error) {
	if cfg.Hub == nil {
		return nil, errors.New("access: Config.Hub is missing")
	}
	return newAccess(cfg, mediaHub{cfg.Hub})
}

func newAccess(cfg Config, h hub) (*Access, error) {
	switch {
	case cfg.App == nil:
		return nil, errors.New("access: Config.App is missing")
	case cfg.UDP == nil:
		return nil, errors.New("access: Config.UDP is missing")
	case len(cfg.UDPAdvertise) == 0:
		return nil, errors.New("access: Config.UDPAdvertise is empty")
	case cfg.ListenRTP != nil && !cfg.RTPHost.IsValid():
		return nil, errors.New("access: Config.RTPHost is missing")
	case cfg.MaxSessions < 0 || cfg.JoinRate < 0 || cfg.JoinBurst < 0 || cfg.PatchRate < 0 || cfg.PatchBurst < 0 || cfg.MaxRTPPerApp < 0 || cfg.MaxRTPPerSource < 0:
		return nil, errors.New("access: a limit is negative")
	}
	for _, a := range cfg.UDPAdvertise {
		if !a.IsValid() || a.Addr().IsUnspecified() || a.Port() == 0 {
			return nil, fmt.Errorf("access: clients cannot be told to use %s", a)
		}
	}
	cfg.defaults()
	decoy := make([]byte, 16)
	if _, err := rand.Read(decoy); err != nil {
		return nil, fmt.Errorf("access: draw a key: %w", err)
	}
	a := &Access{
		cfg: cfg, hub: h, log: cfg.Logger, now: cfg.Now, began: cfg.Now(),
		joins:    newSourceLimits(cfg.JoinRate, cfg.JoinBurst),
		patches:  newSourceLimits(cfg.PatchRate, cfg.PatchBurst),
		decoy:    App{App: token.App{Auth: token.AuthToken, Certificates: []string{hex.EncodeToString(decoy)}}},
		used:     usedTokens{by: map[usedToken]time.Time{}},
		sessions: map[string]*session{}, audiences: map[media.Key]*audience{},
	}
	a.counts.init()
	a.departures.changed = make(chan struct{})
	a.ingests.init(cfg.MaxRTPPerApp, cfg.MaxRTPPerSource)
	a.refused.init()
	var err error
	a.peers, err = newPeerMaker(cfg)
	return a, err
}

func (c *Config) defaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Allow == nil {
		c.Allow = func(netip.Addr) bool { return true }
	}
	if c.Elsewhere == nil {
		c.Elsewhere = func(string) (string, bool) { return "", false }
	}
	if c.NodeURL == nil {
		c.NodeURL = func(string) (string, bool) { return "", false }
	}
	if c.UnknownKey == nil {
		c.UnknownKey = func(context.Context, string) bool { return false }
	}
	if c.AppKeysHeader == "" {
		c.AppKeysHeader = DefaultAppKeysHeader
	}
	if c.TenantsHeader == "" {
		c.TenantsHeader = DefaultTenantsHeader
	}
	if c.Draining == nil {
		c.Draining = func() bool { return false }
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = DefaultMaxSessions
	}
	if c.MaxRTPPerApp == 0 {
		c.MaxRTPPerApp = max(1, min(DefaultMaxRTPPerApp, c.MaxSessions/4))
	}
	if c.MaxRTPPerSource == 0 {
		c.MaxRTPPerSource = DefaultMaxRTPPerSource
	}
	if c.JoinRate == 0 {
		c.JoinRate = DefaultJoinRate
	}
	if c.JoinBurst == 0 {
		c.JoinBurst = DefaultJoinBurst
	}
	if c.PatchRate == 0 {
		c.PatchRate = DefaultPatchRate
	}
	if c.PatchBurst == 0 {
		c.PatchBurst = DefaultPatchBurst
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Tracer == nil {
		c.Tracer = noop.NewTracerProvider().Tracer("")
	}
}

// Run serves until ctx ends, then says goodbye to every client and returns within
// about 3 s. The UDP port is closed afterwards. It may be called once.
func (a *Access) Run(ctx context.Context) error {
	a.peers.start()
	a.mu.Lock()
	a.running = true
	a.mu.Unlock()
	tick := time.NewTicker(roundEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return a.shutdown()
		case <-tick.C:
			a.round(a.now())
		}
	}
}

// shutdown: no new joins, end every session (each peer gets a DTLS close_notify), wait
// for the goroutines, close the port.
func (a *Access) shutdown() error {
	a.mu.Lock()
	a.running = false
	a.mu.Unlock()
	for _, s := range a.all() {
		s.end("shutdown")
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the sessions, at the latest when the port below closes
		a.wg.Wait()
		close(done)
	}()
	late := time.NewTimer(shutdownFor)
	defer late.Stop()
	var err error
	select {
	case <-done:
	case <-late.C:
		err = fmt.Errorf("access: sessions did not close within %s", shutdownFor)
	}
	a.peers.stop()
	return err
}

// spawn starts f unless Run is over. What it starts, Run waits for.
func (a *Access) spawn(f func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.wg.Go(f)
	return true
}

// Reauthorise ends the sessions that the policy no longer admits. Call it after every
// change of the policy. Rights that were given are not extended by it.
func (a *Access) Reauthorise() {
	now := a.now()
	for _, s := range a.all() {
		if err := a.stillAdmitted(s, now); err != nil {
			s.end("revoked: " + string(token.ReasonOf(err)))
		}
		s.rate.limit.Store(int64(a.app(s.app).Limits.PublisherBits))
	}
}

// EndAll ends every session, as at the deadline of a drain; the reason goes to the log.
func (a *Access) EndAll(reason string) {
	for _, s := range a.all() {
		s.end(reason)
	}
}

// Handler serves the client API; it answers 503 unless Run runs.
func (a *Access) Handler() http.Handler { return a.gate(a.routes()) }
