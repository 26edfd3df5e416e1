package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/ternmesh/tern/sim"
)

// listeners are the TCP listeners of all nodes, in memory: no real socket can be in a bubble.
type listeners struct {
	mu   sync.Mutex
	at   map[string]*sim.StreamListener // by address; guarded by mu
	open map[*dialled]bool              // guarded by mu
}

// dialled is a client's end of a connection.
type dialled struct {
	net.Conn
	to    string
	among *listeners
}

// Close implements net.Conn.
func (d *dialled) Close() error {
	d.among.mu.Lock()
	delete(d.among.open, d)
	d.among.mu.Unlock()
	return d.Conn.Close()
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at[addr] != to { // its process has died since
		return nil, errors.Join(fmt.Errorf("%s: connection reset", addr), c.Close())
	}
	if l.open == nil {
		l.open = make(map[*dialled]bool)
	}
	d := &dialled{Conn: c, to: addr, among: l}
	l.open[d] = true
	return d, nil
}

// cut is what clients see when a process dies: its connections break, with whatever its end would still say, and nobody
// listens there until it is started again.
func (l *listeners) cut(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	prefix := host + ":"
	maps.DeleteFunc(l.open, func(d *dialled, _ bool) bool {
		mine := strings.HasPrefix(d.to, prefix)
		if mine {
			_ = d.Conn.Close() // its reads fail from now on
		}
		return mine
	})
	maps.DeleteFunc(l.at, func(addr string, s *sim.StreamListener) bool {
		mine := strings.HasPrefix(addr, prefix)
		if mine {
			_ = s.Close()
		}
		return mine
	})
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
