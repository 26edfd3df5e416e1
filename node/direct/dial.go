package direct

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/mesh/identity"
)

// link is one outgoing connection, dialed or being dialed.
type link struct {
	ready chan struct{} // closed when conn or err is set
	conn  *quic.Conn
	peer  identity.Peer
	err   error
}

// Dial opens a stream of a kind to a member. The certificate at the other end must be that node's. Between voters, streams of
// Config.Carried go by way of another node while there is no direct connection.
func (l *Layer) Dial(ctx context.Context, node, kind string) (net.Conn, error) {
	addr, ok := l.cfg.Resolve(node)
	if !ok {
		return nil, fmt.Errorf("direct: node %q is not a member of the mesh", node)
	}
	if l.mayRelay(kind) {
		return l.dialEither(ctx, addr, node, kind)
	}
	return l.dialStraight(ctx, addr, node, kind)
}

// dialStraight opens a stream on a connection of our own.
func (l *Layer) dialStraight(ctx context.Context, addr netip.AddrPort, node, kind string) (net.Conn, error) {
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
			if err = writeHeader(ctx, k.conn.ConnectionState().TLS.NegotiatedProtocol == alpn2, c, kind); err == nil {
				return c, k.peer, nil
			}
			c.reset()
		}
		if ctx.Err() != nil && k.conn.Context().Err() == nil {
			return nil, identity.Peer{}, err // the caller gave up; the connection is as good as before
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
		return k.wait(ctx)
	}
	k := &link{ready: make(chan struct{})}
	l.out[addr] = k
	l.dials.Add(1)
	l.mu.Unlock()
	go l.dial(addr, k, node)
	return k.wait(ctx)
}

// wait bounds a caller's own patience; the dial goes on for the others.
func (k *link) wait(ctx context.Context) (*link, error) {
	select {
	case <-k.ready:
		return k, k.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dial lives no longer than handshakeTimeout or the layer, whichever ends first; Run waits for it.
func (l *Layer) dial(addr netip.AddrPort, k *link, node string) {
	defer l.dials.Done()
	ctx, cancel := context.WithTimeout(l.life, handshakeTimeout)
	defer cancel()
	l.known(net.UDPAddrFromAddrPort(addr))
	k.conn, k.err = l.transport.Dial(ctx, net.UDPAddrFromAddrPort(addr), l.cfg.Identity.ClientTLS(node, alpn2, alpn), quicConfig())
	if k.err == nil {
		k.peer, k.err = identity.PeerOf(k.conn.ConnectionState().TLS)
	}
	l.remember(addr, k.err)
	close(k.ready)
	if k.err != nil {
		l.drop(addr, k)
		return
	}
	context.AfterFunc(k.conn.Context(), func() { l.drop(addr, k) })
}

// maxDead bounds the failed dials that are remembered; beyond it all are forgotten.
const maxDead = 1024

// remember keeps in mind how a dial ended, for who could go another way.
func (l *Layer) remember(addr netip.AddrPort, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		delete(l.dead, addr)
		return
	}
	if len(l.dead) >= maxDead {
		clear(l.dead)
	}
	l.dead[addr] = time.Now()
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
