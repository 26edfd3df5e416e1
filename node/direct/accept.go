package direct

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/tracing"
)

const (
	// maxStreams bounds what one connection can hold open at a node.
	maxStreams = 512
	// maxConnections bounds accepted connections; a mesh of 1,000 nodes fits.
	maxConnections = 4096
	// maxPerPeer bounds those of one node: the one in use, the one before a restart, and room for races.
	maxPerPeer = 4
	// unprovenPerSecond is how many new connections may begin without proof of their address.
	unprovenPerSecond = 64
	// handshakesPerSecond is how many may begin at all; each lives handshakeTimeout if it is not finished.
	handshakesPerSecond = 256
	// headerTimeout bounds how long a new stream may keep its kind to itself.
	headerTimeout = 5 * time.Second
)

// serverTLS refuses strangers and says so in the log, once a minute at most: the port is open to everybody.
func (l *Layer) serverTLS() *tls.Config {
	c := l.cfg.Identity.ServerTLS(alpn2, alpn)
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

// throttle keeps strangers from costing memory before they have shown a certificate. New connections beyond a rate must
// prove their address with a Retry (RFC 9000, section 8.1.2); beyond a higher one they are refused.
type throttle struct{ unproven, all *rate.Limiter }

func newThrottle() throttle {
	return throttle{unproven: rate.NewLimiter(unprovenPerSecond, unprovenPerSecond), all: rate.NewLimiter(handshakesPerSecond, handshakesPerSecond)}
}

// mustProve implements quic.Transport.VerifySourceAddress.
func (t throttle) mustProve(net.Addr) bool { return !t.unproven.Allow() }

// config implements quic.Config.GetConfigForClient.
func (t throttle) config(*quic.ClientInfo) (*quic.Config, error) {
	if !t.all.Allow() {
		return nil, errors.New("too many handshakes")
	}
	return quicConfig(), nil
}

// admit counts an accepted connection of a node; false refuses it.
func (l *Layer) admit(conn *quic.Conn, peer identity.Peer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxConnections || l.in[peer.Node] >= maxPerPeer {
		return false
	}
	l.total++
	l.in[peer.Node]++
	l.live[conn] = peer
	return true
}

func (l *Layer) release(conn *quic.Conn, node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	delete(l.live, conn)
	if l.in[node]--; l.in[node] == 0 {
		delete(l.in, node)
	}
}

// serve hands the streams of one accepted connection to their handlers.
func (l *Layer) serve(ctx context.Context, conn *quic.Conn) error {
	peer, err := identity.PeerOf(conn.ConnectionState().TLS)
	if err != nil {
		_ = conn.CloseWithError(codeRefused, "no node certificate")
		return nil
	}
	if !l.admit(conn, peer) {
		_ = conn.CloseWithError(codeRefused, "too many connections")
		return nil
	}
	defer l.release(conn, peer.Node)
	if l.cfg.Identity.Revoked(peer) { // since the handshake, and Expel may have come before admit
		_ = conn.CloseWithError(codeRefused, "revoked")
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
	kind, trace, err := readHeader(s)
	_ = c.SetReadDeadline(time.Time{})
	h, ok := l.handlers[kind]
	if err != nil || !ok {
		l.cfg.Logger.Debug("refused a stream", "peer", peer.Node, "kind", kind, "err", err)
		c.reset()
		return
	}
	h(tracing.Read(ctx, trace), peer, c)
}
