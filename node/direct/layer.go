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
	// idleTimeout bounds how long a peer that went silent is believed in.
	idleTimeout = 10 * time.Second
	// keepAlive keeps a connection (and NAT state) warm between elections, probes and calls.
	keepAlive = 3 * time.Second
	// handshakeTimeout covers three lost flights at a 300 ms round trip.
	handshakeTimeout = 5 * time.Second
	// maxStreams bounds what one peer can hold open at a node.
	maxStreams = 512
	// maxPeers bounds accepted connections; a mesh of 1,000 nodes fits.
	maxPeers = 4096
	// headerTimeout bounds how long a new stream may keep its kind to itself.
	headerTimeout = 5 * time.Second
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
	Known  func(netip.Addr)
	Logger *slog.Logger
}

// Handler serves one accepted stream; it owns conn and must close it. ctx ends with the layer.
type Handler func(ctx context.Context, peer identity.Peer, conn net.Conn)

// Layer is L1 of one node. All methods may be called from any goroutine.
type Layer struct {
	cfg       Config
	transport *quic.Transport
	handlers  map[string]Handler // written before Run only
	refusals  *rate.Limiter      // of log lines about refused certificates

	mu   sync.Mutex
	out  map[netip.AddrPort]*link // guarded by mu
	in   int                      // accepted connections, guarded by mu
	gone bool                     // guarded by mu
}

// link is one outgoing connection, dialed or being dialed.
type link struct {
	ready chan struct{} // closed when conn or err is set
	conn  *quic.Conn
	peer  identity.Peer
	err   error
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
	return &Layer{
		cfg:       cfg,
		transport: &quic.Transport{Conn: cfg.Conn, StatelessResetKey: key},
		handlers:  make(map[string]Handler),
		refusals:  rate.NewLimiter(rate.Every(time.Minute), 1),
		out:       make(map[netip.AddrPort]*link),
	}, nil
}

// resetKey survives restarts, so that a peer which still talks to the process before this one is told
// at once that its connection is gone (RFC 9000, section 10.3).
func resetKey(id *identity.Identity) (*quic.StatelessResetKey, error) {
	der, err := x509.MarshalPKCS8PrivateKey(id.Cert.PrivateKey)
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
	ln, err := l.transport.Listen(l.serverTLS(), quicConfig())
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
			if !l.admit() {
				_ = conn.CloseWithError(codeRefused, "too many peers")
				continue
			}
			g.Go(func() error { defer l.release(); return l.serve(ctx, conn) })
		}
	})
	g.Go(func() error {
		<-ctx.Done()
		l.closeAll()
		return nil
	})
	err = g.Wait()
	_ = ln.Close()
	_ = l.cfg.Conn.Close() // before the transport: its Close waits for the reader
	_ = l.transport.Close()
	return err
}

// serverTLS refuses strangers and says so in the log, once a minute at most: the port is open to everybody.
func (l *Layer) serverTLS() *tls.Config {
	c := l.cfg.Identity.ServerTLS(alpn)
	verify := c.VerifyConnection
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		err := verify(cs)
		if err != nil && l.refusals.Allow() {
			l.cfg.Logger.Warn("refused a node's certificate (further ones within a minute are not logged)", "err", err)
		}
		return err
	}
	return c
}

func (l *Layer) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in >= maxPeers {
		return false
	}
	l.in++
	return true
}

func (l *Layer) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in--
}

// serve hands the streams of one accepted connection to their handlers.
func (l *Layer) serve(ctx context.Context, conn *quic.Conn) error {
	peer, err := identity.PeerOf(conn.ConnectionState().TLS)
	if err != nil {
		_ = conn.CloseWithError(codeRefused, "no node certificate")
		return nil
	}
	l.known(conn.RemoteAddr())
	stop := context.AfterFunc(ctx, func() { _ = conn.CloseWithError(codeBye, "goodbye") })
	defer stop()
	var g errgroup.Group
	for {
		s, err := conn.AcceptStream(ctx)
		if err != nil {
			break
		}
		l.known(conn.RemoteAddr())
		g.Go(func() error { l.serveStream(ctx, peer, conn, s); return nil })
	}
	_ = g.Wait()
	_ = conn.CloseWithError(codeBye, "goodbye")
	return nil
}

func (l *Layer) serveStream(ctx context.Context, peer identity.Peer, conn *quic.Conn, s *quic.Stream) {
	c := newStream(conn, s)
	_ = c.SetReadDeadline(time.Now().Add(headerTimeout))
	kind, err := readKind(s)
	_ = c.SetReadDeadline(time.Time{})
	h, ok := l.handlers[kind]
	if err != nil || !ok {
		l.cfg.Logger.Debug("refused a stream", "peer", peer.Node, "kind", kind, "err", err)
		c.reset()
		return
	}
	h(ctx, peer, c)
}

// Dial opens a stream of a kind to a member. The certificate at the other end must be that node's.
func (l *Layer) Dial(ctx context.Context, node, kind string) (net.Conn, error) {
	addr, ok := l.cfg.Resolve(node)
	if !ok {
		return nil, fmt.Errorf("direct: node %q is not a member of the mesh", node)
	}
	conn, peer, err := l.open(ctx, addr, node, kind)
	if err != nil {
		return nil, fmt.Errorf("direct: %s stream to %s at %s: %w", kind, node, addr, err)
	}
	if peer.Node != node {
		_ = conn.Close()
		l.Forget(addr)
		return nil, fmt.Errorf("direct: %s is node %q, wanted %q", addr, peer.Node, node)
	}
	return conn, nil
}

// DialAddr opens a stream of a kind to whichever node of this mesh listens at addr, and says which it is.
func (l *Layer) DialAddr(ctx context.Context, addr netip.AddrPort, kind string) (net.Conn, identity.Peer, error) {
	conn, peer, err := l.open(ctx, addr, "", kind)
	if err != nil {
		return nil, identity.Peer{}, fmt.Errorf("direct: %s stream to %s: %w", kind, addr, err)
	}
	return conn, peer, nil
}

// open uses the cached connection, and dials once more if that one turns out to be dead.
func (l *Layer) open(ctx context.Context, addr netip.AddrPort, node, kind string) (net.Conn, identity.Peer, error) {
	for attempt := 0; ; attempt++ {
		k, err := l.link(ctx, addr, node)
		if err != nil {
			return nil, identity.Peer{}, err
		}
		s, err := k.conn.OpenStreamSync(ctx)
		if err == nil {
			c := newStream(k.conn, s)
			if err = writeKind(c, kind); err == nil {
				return c, k.peer, nil
			}
			c.reset()
		}
		l.drop(addr, k)
		if attempt > 0 || ctx.Err() != nil {
			return nil, identity.Peer{}, err
		}
	}
}

// link returns the connection to addr, dialing it if there is none; concurrent callers share one dial.
func (l *Layer) link(ctx context.Context, addr netip.AddrPort, node string) (*link, error) {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		return nil, net.ErrClosed
	}
	if k, ok := l.out[addr]; ok {
		l.mu.Unlock()
		select {
		case <-k.ready:
			return k, k.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	k := &link{ready: make(chan struct{})}
	l.out[addr] = k
	l.mu.Unlock()

	l.known(net.UDPAddrFromAddrPort(addr))
	k.conn, k.err = l.transport.Dial(ctx, net.UDPAddrFromAddrPort(addr), l.cfg.Identity.ClientTLS(node, alpn), quicConfig())
	if k.err == nil {
		k.peer, k.err = identity.PeerOf(k.conn.ConnectionState().TLS)
	}
	close(k.ready)
	if k.err != nil {
		l.drop(addr, k)
		return nil, k.err
	}
	context.AfterFunc(k.conn.Context(), func() { l.drop(addr, k) })
	return k, nil
}

// known tells the owner that an address belongs to the mesh, or is about to be asked.
func (l *Layer) known(addr net.Addr) {
	if u, ok := addr.(*net.UDPAddr); ok && l.cfg.Known != nil {
		l.cfg.Known(u.AddrPort().Addr())
	}
}

// drop removes a dead connection from the cache, unless a newer one took its place.
func (l *Layer) drop(addr netip.AddrPort, k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out[addr] == k {
		delete(l.out, addr)
	}
}

// Forget closes the cached connection to addr at once; the mesh calls it for a new incarnation.
func (l *Layer) Forget(addr netip.AddrPort) {
	l.mu.Lock()
	k := l.out[addr]
	delete(l.out, addr)
	l.mu.Unlock()
	if k == nil {
		return
	}
	select {
	case <-k.ready:
		if k.conn != nil {
			_ = k.conn.CloseWithError(codeBye, "stale")
		}
	default: // still dialing: its caller learns by itself
	}
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
	for _, a := range addrs {
		l.Forget(a)
	}
}
