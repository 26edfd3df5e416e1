package direct

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/mesh/identity"
)

const (
	alpn = "tern-direct/1"
	// alpn2 adds the identity of a trace to a stream's header; a node of the version before speaks alpn.
	alpn2 = "tern-direct/2"
	// idleTimeout bounds how long a peer that went silent is believed in.
	idleTimeout = 10 * time.Second
	// keepAlive keeps a connection (and NAT state) warm between elections, probes and calls.
	keepAlive = 3 * time.Second
	// handshakeTimeout covers three lost flights at a 300 ms round trip.
	handshakeTimeout = 5 * time.Second
)

// Close codes of a connection.
const (
	codeBye     quic.ApplicationErrorCode = 0
	codeRefused quic.ApplicationErrorCode = 1
)

// Config says who this node is and where its packets go.
type Config struct {
	// Identity signs and checks every handshake.
	Identity *identity.Identity
	// Conn carries the QUIC class of the mesh port; its addresses are *net.UDPAddr.
	Conn net.PacketConn
	// Resolve gives the mesh address of a node, false if it is not a member.
	Resolve func(node string) (netip.AddrPort, bool)
	// Known is told every address that this node dials, before it does, and every one whose certificate it has checked,
	// again at each of its streams. It must not block. May be nil.
	Known func(netip.Addr)
	// Carriers lists live members by way of which a voter may be reached while it gets no direct connection, the likeliest
	// first; none for a node that is not alive. The caller owns the list. Nil: streams are never carried from here.
	Carriers func(node string) []string
	// Carried are the kinds of streams between voters that a third node may carry.
	Carried []string
	Logger  *slog.Logger
}

// Handler serves one accepted stream; it owns conn and must close it. ctx ends with the layer and carries the caller's
// trace, if there is one.
type Handler func(ctx context.Context, peer identity.Peer, conn net.Conn)

// Layer is L1 of one node. All methods may be called from any goroutine.
type Layer struct {
	cfg       Config
	transport *quic.Transport
	handlers  map[string]Handler // written before Run only
	refusals  *rate.Limiter      // of log lines about refused certificates

	throttle throttle           // of strangers
	life     context.Context    // of dials: from New to the end of Run
	end      context.CancelFunc // ends life
	dials    sync.WaitGroup     // running dials; added to under mu while not gone

	carrying, arrivals *quota        // of streams carried for others, and carried to this node
	pace               *rate.Limiter // bytes carried for others
	carriedTLS         *tls.Config   // of carried streams' ends
	counts             counts

	mu    sync.Mutex
	out   map[netip.AddrPort]*link     // guarded by mu
	in    map[string]int               // accepted connections by node, guarded by mu
	total int                          // sum of in, guarded by mu
	live  map[*quic.Conn]identity.Peer // accepted connections, guarded by mu
	gone  bool                         // guarded by mu

	dead    map[netip.AddrPort]time.Time // when a direct dial last failed, guarded by mu
	last    map[string]string            // node -> who carried last, guarded by mu
	relayed map[*relayed]bool            // ends of carried streams, guarded by mu
}

// New checks the configuration and prepares the transport; nothing is sent before Run or Dial.
func New(cfg Config) (*Layer, error) {
	if cfg.Identity == nil || cfg.Conn == nil || cfg.Resolve == nil || cfg.Logger == nil {
		return nil, errors.New("direct: identity, conn, resolve and logger are all needed")
	}
	key, err := resetKey(cfg.Identity)
	if err != nil {
		return nil, err
	}
	l := &Layer{
		cfg:      cfg,
		handlers: make(map[string]Handler),
		refusals: rate.NewLimiter(rate.Every(time.Minute), 1),
		throttle: newThrottle(),
		out:      make(map[netip.AddrPort]*link),
		in:       make(map[string]int),
		live:     make(map[*quic.Conn]identity.Peer),
		carrying: newQuota(), arrivals: newQuota(),
		pace:       rate.NewLimiter(carriedBytes, carriedBytesBurst),
		carriedTLS: cfg.Identity.ServerTLS(alpnCarried),
		dead:       make(map[netip.AddrPort]time.Time),
		last:       make(map[string]string),
		relayed:    make(map[*relayed]bool),
	}
	l.handlers[kindCarry], l.handlers[kindCarried] = l.carry, l.arrive
	l.life, l.end = context.WithCancel(context.Background())
	l.transport = &quic.Transport{Conn: cfg.Conn, StatelessResetKey: key, VerifySourceAddress: l.throttle.mustProve}
	return l, nil
}

// resetKey survives restarts, so that a peer which still talks to the process before this one is told
// at once that its connection is gone (RFC 9000, section 10.3).
func resetKey(id *identity.Identity) (*quic.StatelessResetKey, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.Cert().PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("direct: the node key cannot seed the reset key: %w", err)
	}
	mac := hmac.New(sha256.New, der)
	mac.Write([]byte("tern stateless reset"))
	var key quic.StatelessResetKey
	copy(key[:], mac.Sum(nil))
	return &key, nil
}

func quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:    handshakeTimeout,
		MaxIdleTimeout:          idleTimeout,
		KeepAlivePeriod:         keepAlive,
		MaxIncomingStreams:      maxStreams,
		MaxIncomingUniStreams:   -1,
		DisablePathMTUDiscovery: true, // the mesh port promises 1280 bytes, no more
	}
}

// Handle serves streams of a kind. Call it before Run.
func (l *Layer) Handle(kind string, h Handler) { l.handlers[kind] = h }

// Run accepts connections until ctx ends, then says goodbye to every peer and closes the transport.
func (l *Layer) Run(ctx context.Context) error {
	server := quicConfig()
	server.GetConfigForClient = l.throttle.config
	ln, err := l.transport.Listen(l.serverTLS(), server)
	if err != nil {
		return fmt.Errorf("direct: listen: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for {
			conn, err := ln.Accept(ctx)
			if err != nil {
				return nil // the listener ends with ctx
			}
			g.Go(func() error { return l.serve(ctx, conn) })
		}
	})
	g.Go(func() error { return l.straighten(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		l.closeAll()
		return nil
	})
	err = g.Wait()
	l.dials.Wait()
	_ = ln.Close()
	_ = l.cfg.Conn.Close() // before the transport: its Close waits for the reader
	_ = l.transport.Close()
	return err
}

// Expel closes every connection, of either direction, and every carried stream, with a peer that gone names. New ones are for the identity to refuse.
func (l *Layer) Expel(gone func(identity.Peer) bool) (closed int) {
	var conns []*quic.Conn
	var ends []*relayed
	l.mu.Lock()
	for r := range l.relayed {
		if gone(r.peer) {
			ends = append(ends, r)
		}
	}
	for conn, peer := range l.live {
		if gone(peer) {
			conns = append(conns, conn)
		}
	}
	for _, k := range l.out {
		select {
		case <-k.ready:
			if k.err == nil && gone(k.peer) {
				conns = append(conns, k.conn)
			}
		default: // its handshake is not over, and the identity refuses it
		}
	}
	l.mu.Unlock()
	for _, conn := range conns {
		_ = conn.CloseWithError(codeRefused, "revoked")
	}
	for _, r := range ends {
		_ = r.Close()
	}
	return len(conns) + len(ends)
}

// closeAll refuses new links and says goodbye on those that exist.
func (l *Layer) closeAll() {
	l.mu.Lock()
	l.gone = true
	addrs := make([]netip.AddrPort, 0, len(l.out))
	for a := range l.out {
		addrs = append(addrs, a)
	}
	l.mu.Unlock()
	l.end()
	for _, a := range addrs {
		l.Forget(a)
	}
}
