package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The first byte of a packet on the mesh port names its class; 4 to 15 are free there (RFC 9443).
const (
	classGossip = 4
	classPath   = 5
	quicShort   = 64  // 64 to 127: QUIC short header
	quicLong    = 192 // 192 to 255: QUIC long header
)

const (
	// maxPacket bounds one packet read from the mesh port, in bytes.
	maxPacket = 2048
	// classQueue bounds the packets that wait for a class's reader; the newest is dropped when full.
	classQueue = 1024
)

// Network opens the UDP sockets of a node; the simulator replaces it.
type Network interface {
	ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error)
}

// ClientNetwork opens what clients and operators reach; the simulator replaces it.
type ClientNetwork interface {
	Network
	// Listen opens a TCP listener at HOST:PORT.
	Listen(ctx context.Context, addr string) (net.Listener, error)
}

// runConn is what a network's conn may offer beyond net.PacketConn: several packets in one system call.
type runConn interface {
	WriteRun(run []byte, segment int, to netip.AddrPort) error
	ReadRuns(handle func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration)) error
}

// PortStats counts packets of the mesh port since start.
type PortStats struct {
	Received, Unknown, Filtered, QueueFull uint64
}

// port is layer L0: one socket, told apart by class. One goroutine reads it (run); path frames are
// handled in that goroutine, the other classes wait in bounded queues.
type port struct {
	conn   net.PacketConn
	allow  func(src netip.AddrPort, packet []byte) bool // the filter's twin; nil admits everything
	frames func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration)
	gossip *classConn
	quic   *classConn

	received, unknown, filtered atomic.Uint64
}

func newPort(conn net.PacketConn) *port {
	p := &port{conn: conn}
	p.gossip = newClassConn(p, classGossip)
	p.quic = newClassConn(p, 0)
	return p
}

// run reads until the socket closes.
func (p *port) run() error {
	if rc, ok := p.conn.(runConn); ok {
		for {
			if err := rc.ReadRuns(p.handle); err != nil {
				return p.ended(err)
			}
		}
	}
	buf := make([]byte, maxPacket)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if err != nil {
			return p.ended(err)
		}
		if ua, ok := from.(*net.UDPAddr); ok {
			p.handle(buf[:n], n, unmap(ua.AddrPort()), false, 0)
		}
	}
}

func (p *port) ended(err error) error {
	p.gossip.Close()
	p.quic.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// handle sorts the packets of one run by their first byte; path frames in a row stay together. run is valid during the call.
func (p *port) handle(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration) {
	frames := 0 // where the path frames in a row begin
	for at := 0; ; {
		end := min(at+max(1, segment), len(run))
		isFrame := p.sort(run[at:end:end], from)
		if !isFrame {
			if p.frames != nil && frames < at {
				p.frames(run[frames:at:at], segment, from, marked, waited)
			}
			frames = end
		}
		if at = end; at >= len(run) {
			break
		}
	}
	if p.frames != nil && frames < len(run) {
		p.frames(run[frames:], segment, from, marked, waited)
	}
}

// sort gives one packet to whoever reads its class, and reports whether it is a path frame.
func (p *port) sort(packet []byte, from netip.AddrPort) (frame bool) {
	p.received.Add(1)
	if len(packet) == 0 {
		p.unknown.Add(1)
		return false
	}
	if p.allow != nil && !p.allow(from, packet) {
		p.filtered.Add(1)
		return false
	}
	switch b := packet[0]; {
	case b == classPath:
		return true
	case b == classGossip:
		p.gossip.push(packet[1:], from)
	case b >= quicLong, b >= quicShort && b < 128:
		p.quic.push(packet, from)
	default:
		p.unknown.Add(1)
	}
	return false
}

// WriteRun implements braid.Wire: where the conn can, without ever waiting for room in the socket's buffer.
func (p *port) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	if rc, ok := p.conn.(interface {
		TryWriteRun([]byte, int, netip.AddrPort) error
	}); ok {
		return rc.TryWriteRun(run, segment, to)
	}
	if rc, ok := p.conn.(interface {
		WriteRun([]byte, int, netip.AddrPort) error
	}); ok {
		return rc.WriteRun(run, segment, to)
	}
	addr := net.UDPAddrFromAddrPort(to)
	for len(run) > 0 {
		n := min(segment, len(run))
		if _, err := p.conn.WriteTo(run[:n], addr); err != nil {
			return err
		}
		run = run[n:]
	}
	return nil
}

// queued is how many bytes wait in the socket, where the conn says.
func (p *port) queued() int {
	if rc, ok := p.conn.(interface{ Queued() int }); ok {
		return rc.Queued()
	}
	return 0
}

func (p *port) stats() PortStats {
	return PortStats{
		Received:  p.received.Load(),
		Unknown:   p.unknown.Load(),
		Filtered:  p.filtered.Load(),
		QueueFull: p.gossip.full.Load() + p.quic.full.Load(),
	}
}

// unmap turns an IPv4-mapped IPv6 address, as a dual-stack socket reports it, back into IPv4.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// classConn is the net.PacketConn of one class. The class byte is added and taken off here, except
// for QUIC, whose own first byte is the class.
type classConn struct {
	port  *port
	class byte // 0: none
	queue chan queued
	full  atomic.Uint64
	pool  sync.Pool

	once     sync.Once
	closed   chan struct{}
	mu       sync.Mutex
	deadline time.Time     // guarded by mu
	moved    chan struct{} // closed when the deadline changes; guarded by mu
}

type queued struct {
	b    *[]byte
	from netip.AddrPort
}

func newClassConn(p *port, class byte) *classConn {
	c := &classConn{port: p, class: class, queue: make(chan queued, classQueue), closed: make(chan struct{}), moved: make(chan struct{})}
	c.pool.New = func() any { b := make([]byte, 0, maxPacket); return &b }
	return c
}

// push queues a copy of a packet, or drops and counts it when the reader is behind.
func (c *classConn) push(packet []byte, from netip.AddrPort) {
	b := c.pool.Get().(*[]byte)
	*b = append((*b)[:0], packet...)
	select {
	case c.queue <- queued{b, from}:
	default:
		c.full.Add(1)
		c.pool.Put(b)
	}
}

// ReadFrom implements net.PacketConn; the address is a *net.UDPAddr.
func (c *classConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		c.mu.Lock()
		deadline, moved := c.deadline, c.moved
		c.mu.Unlock()
		var expired <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return 0, nil, os.ErrDeadlineExceeded
			}
			t := time.NewTimer(left)
			defer t.Stop()
			expired = t.C
		}
		select {
		case q := <-c.queue:
			n := copy(p, *q.b)
			c.pool.Put(q.b)
			return n, net.UDPAddrFromAddrPort(q.from), nil
		case <-c.closed:
			return 0, nil, net.ErrClosed
		case <-expired:
			return 0, nil, os.ErrDeadlineExceeded
		case <-moved: // read the new deadline
		}
	}
}

// WriteTo implements net.PacketConn.
func (c *classConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if c.class == 0 {
		return c.port.conn.WriteTo(p, addr)
	}
	b := c.pool.Get().(*[]byte)
	defer c.pool.Put(b)
	*b = append(append((*b)[:0], c.class), p...)
	if _, err := c.port.conn.WriteTo(*b, addr); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close ends this class's reader; the socket stays open for the others.
func (c *classConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *classConn) LocalAddr() net.Addr { return c.port.conn.LocalAddr() }

// SetDeadline implements net.PacketConn; writes never wait, so only reads have a deadline.
func (c *classConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *classConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.moved)
	c.moved = make(chan struct{})
	return nil
}

// SetWriteDeadline implements net.PacketConn.
func (c *classConn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer and SetWriteBuffer tell quic-go that the socket beneath was sized already.
func (c *classConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer is explained at SetReadBuffer.
func (c *classConn) SetWriteBuffer(int) error { return nil }
