package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/ternmesh/tern/sim"
)

// listeners are the TCP listeners of all nodes, in memory: no real socket can be in a bubble.
type listeners struct {
	mu sync.Mutex
	at map[string]*memoryListener // by address; guarded by mu
}

// dial connects to a listener, as net.Dialer does. The connection has neither delay nor loss: only media crosses
// the emulated last mile.
func (l *listeners) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	l.mu.Lock()
	to := l.at[addr]
	l.mu.Unlock()
	if to == nil {
		return nil, fmt.Errorf("nobody listens on %s", addr)
	}
	here, there := sim.StreamPair()
	var err error
	select {
	case to.waiting <- there:
		return here, nil
	case <-to.closed:
		err = fmt.Errorf("nobody listens on %s", addr)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, here.Close(), there.Close())
}

// clientNet is a node's side towards clients without a real socket: UDP on the emulated network, listeners in memory.
type clientNet struct {
	host *sim.Host
	tcp  *listeners
}

// ListenPacket implements node.Network.
func (c clientNet) ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	return c.host.ListenPacket(ctx, addr)
}

// Listen implements node.ClientNetwork.
func (c clientNet) Listen(_ context.Context, addr string) (net.Listener, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("listen in memory: %w", err)
	}
	l := &memoryListener{addr: net.TCPAddrFromAddrPort(ap), all: c.tcp, waiting: make(chan net.Conn), closed: make(chan struct{})}
	c.tcp.mu.Lock()
	defer c.tcp.mu.Unlock()
	c.tcp.at[addr] = l
	return l, nil
}

// memoryListener is one listener.
type memoryListener struct {
	addr    net.Addr
	all     *listeners
	waiting chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.all.mu.Lock()
		defer l.all.mu.Unlock()
		if at := l.addr.String(); l.all.at[at] == l {
			delete(l.all.at, at)
		}
	})
	return nil
}

// Addr implements net.Listener.
func (l *memoryListener) Addr() net.Addr { return l.addr }
