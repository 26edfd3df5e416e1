package run

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/ternmesh/tern/sim"
)

// listeners are the TCP listeners of all nodes, in memory: no real socket can be in a bubble.
type listeners struct {
	mu sync.Mutex
	at map[string]*sim.StreamListener // by address; guarded by mu
}

// dial connects to a listener, as net.Dialer does. The connection has neither delay nor loss: only media crosses
// the emulated last mile.
func (l *listeners) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	to := l.at[addr]
	l.mu.Unlock()
	c, err := to.Dial(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return c, nil
}

// listen opens a listener, in the place of one that was closed.
func (l *listeners) listen(addr string, at net.Addr) *sim.StreamListener {
	s := sim.NewStreamListener(at)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at[addr] = s
	return s
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
	return c.tcp.listen(addr, net.TCPAddrFromAddrPort(ap)), nil
}
