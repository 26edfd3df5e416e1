package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	packetQueue   = 512             // received packets that wait for memberlist; more are dropped and counted
	streamQueue   = 16              // streams that wait for memberlist; more are closed and counted
	streamTimeout = 5 * time.Second // one dial, push/pull or key exchange
	maxPacket     = 2048
	// gossipRate is how many packets a second are looked at that come from one member's address, and from all that are no member's
	// together, gossipBurst how many at once: more than a member of a thousand sends, and what nodes send that join. Deciphering one
	// takes microseconds, so who forges an address crowds nobody out but whose it is.
	gossipRate  = 500
	gossipBurst = 1000
)

// transport is memberlist's way to the network: packets through Config.Packets, streams through Config.Dial.
// It opens no socket and closes none.
type transport struct {
	m       *Mesh
	packets chan *memberlist.Packet
	streams chan net.Conn

	homes     atomic.Pointer[map[netip.AddrPort]bool] // addresses of members
	allowed   map[netip.AddrPort]*allowance           // of members' addresses; at most linkstate.MaxOrigins; read's own
	strangers allowance                               // of all others together; read's own

	mu   sync.Mutex
	open bool // guarded by mu: memberlist is there to take streams
	ctx  context.Context
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(m *Mesh) *transport {
	return &transport{
		m: m, packets: make(chan *memberlist.Packet, packetQueue), streams: make(chan net.Conn, streamQueue),
		allowed: make(map[netip.AddrPort]*allowance),
	}
}

// read hands packets to memberlist until ctx ends.
func (t *transport) read(ctx context.Context) error {
	conn := t.m.cfg.Packets
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })()
	buf := make([]byte, maxPacket)
	for {
		n, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		switch {
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("mesh: packets ended: %w", err)
		case err != nil:
			// A single failed read (a stale deadline, an ICMP error) must neither end gossip nor spin.
			t.m.warn.Warn("reading gossip failed", "err", err)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				_ = conn.SetReadDeadline(time.Time{})
			}
			pause(ctx, 10*time.Millisecond)
			continue
		}
		t.m.stats.packetsIn.Add(1)
		t.m.stats.bytesIn.Add(uint64(n))
		if a, refused := t.allowance(from); !a.take(time.Now()) {
			refused.Add(1)
			continue
		}
		p := &memberlist.Packet{Buf: append(make([]byte, 0, n), buf[:n]...), From: from, Timestamp: time.Now()}
		select {
		case t.packets <- p:
		default:
			t.m.stats.packetsDropped.Add(1)
		}
	}
}

// allowance finds what an address may still send, and where to count what is more. Who forges a member's address takes from that one's.
func (t *transport) allowance(from net.Addr) (a *allowance, refused *atomic.Uint64) {
	addr, ok := from.(*net.UDPAddr)
	homes := t.homes.Load()
	if !ok || homes == nil {
		return &t.strangers, &t.m.stats.packetsStrange
	}
	at := netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	if !(*homes)[at] {
		return &t.strangers, &t.m.stats.packetsStrange
	}
	if t.allowed[at] == nil {
		if len(t.allowed) >= linkstate.MaxOrigins {
			clear(t.allowed)
		}
		t.allowed[at] = &allowance{}
	}
	return t.allowed[at], &t.m.stats.packetsExcess
}

// allowance is how many packets may still come; the zero value is full.
type allowance struct {
	left   float64
	filled time.Time
}

// take takes one packet out of the allowance, if it holds one.
func (a *allowance) take(now time.Time) bool {
	a.left = min(a.left+now.Sub(a.filled).Seconds()*gossipRate, gossipBurst)
	a.filled = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// start lets streams through, for as long as ctx lives.
func (t *transport) start(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open, t.ctx = true, ctx
}

func (t *transport) accept(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open {
		select {
		case t.streams <- conn:
			t.m.stats.streamsIn.Add(1)
			return
		default:
			t.m.stats.streamsDropped.Add(1)
		}
	}
	_ = conn.Close()
}

// Shutdown implements memberlist.Transport: streams that wait are closed.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = false
	for {
		select {
		case conn := <-t.streams:
			_ = conn.Close()
		default:
			return nil
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport: the address is the one that the node gives itself.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	addr := t.m.cfg.Self().Mesh
	if !addr.IsValid() || addr.Addr().IsUnspecified() || addr.Port() == 0 {
		return nil, 0, fmt.Errorf("mesh address %v cannot be told to others; set one that they can reach", addr)
	}
	return addr.Addr().Unmap().AsSlice(), int(addr.Port()), nil
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("gossip to %q: %w", addr, err)
	}
	t.m.stats.packetsOut.Add(1)
	t.m.stats.bytesOut.Add(uint64(len(b)))
	_, err = t.m.cfg.Packets.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr().Unmap(), to.Port())))
	return time.Now(), err
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("gossip stream to %q: %w", addr, err)
	}
	t.mu.Lock()
	base := t.ctx
	t.mu.Unlock()
	if base == nil {
		return nil, net.ErrClosed
	}
	ctx, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	t.m.stats.streamsOut.Add(1)
	return t.m.cfg.Dial(ctx, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }
