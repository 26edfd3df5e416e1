package run

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/ternmesh/tern/sim"
)

// clientNet is a node's side towards clients without a real socket: UDP on the emulated network, listeners in memory.
type clientNet struct{ host *sim.Host }

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
	return &memoryListener{addr: net.TCPAddrFromAddrPort(ap), closed: make(chan struct{})}, nil
}

// memoryListener accepts nobody until it is closed: whoever wants a node calls its methods.
type memoryListener struct {
	addr   net.Addr
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener.
func (l *memoryListener) Accept() (net.Conn, error) {
	<-l.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *memoryListener) Addr() net.Addr { return l.addr }
