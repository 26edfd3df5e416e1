package braid

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"
)

// inboxPackets bounds the QUIC packets between HandleFrame and the QUIC stack; newer ones are dropped and counted.
const inboxPackets = 1024

// virtualAddr is what the QUIC stack sees of a peer: one address that no path changes, and that changes with the peer's
// incarnation, so that a restarted peer is a new peer: fd00 | fence | node | incarnation | 0000, port 1.
func virtualAddr(key flowKey, incarnation uint32) *net.UDPAddr {
	ip := make(net.IP, net.IPv6len)
	ip[0] = 0xfd
	binary.BigEndian.PutUint32(ip[2:], uint32(key.fence))
	binary.BigEndian.PutUint32(ip[6:], uint32(key.peer))
	binary.BigEndian.PutUint32(ip[10:], incarnation)
	return &net.UDPAddr{IP: ip, Port: 1}
}

// fromVirtual undoes virtualAddr.
func fromVirtual(addr net.Addr) (key flowKey, incarnation uint32, ok bool) {
	ua, ok := addr.(*net.UDPAddr)
	if !ok || len(ua.IP) != net.IPv6len || ua.IP[0] != 0xfd || ua.IP[1] != 0 {
		return flowKey{}, 0, false
	}
	key.fence = FenceID(binary.BigEndian.Uint32(ua.IP[2:]))
	key.peer = NodeID(binary.BigEndian.Uint32(ua.IP[6:]))
	return key, binary.BigEndian.Uint32(ua.IP[10:]), true
}

func putUint32(b []byte, v uint32) { binary.BigEndian.PutUint32(b, v) }

type quicPacket struct {
	buf  *[MaxDatagram]byte
	n    int
	from *net.UDPAddr
}

// virtualConn is the net.PacketConn under the QUIC stack: reads come from HandleFrame, writes go out on all paths.
type virtualConn struct {
	b     *Braid
	inbox chan quicPacket
	pool  sync.Pool // *[MaxDatagram]byte

	mu      sync.Mutex // guards the block below
	closed  chan struct{}
	ended   bool
	expired chan struct{} // closed when the read deadline passes
	timer   *time.Timer
}

func newVirtualConn(b *Braid) *virtualConn {
	return &virtualConn{
		b: b, inbox: make(chan quicPacket, inboxPackets), closed: make(chan struct{}), expired: make(chan struct{}),
		pool: sync.Pool{New: func() any { return new([MaxDatagram]byte) }},
	}
}

// push hands one QUIC packet to the reader; it never blocks.
func (c *virtualConn) push(packet []byte, from *net.UDPAddr) bool {
	buf := c.pool.Get().(*[MaxDatagram]byte)
	select {
	case c.inbox <- quicPacket{buf, copy(buf[:], packet), from}:
		return true
	default:
		c.pool.Put(buf)
		return false
	}
}

// ReadFrom returns the next QUIC packet and its sender's virtual address.
func (c *virtualConn) ReadFrom(p []byte) (int, net.Addr, error) {
	c.mu.Lock()
	expired := c.expired
	c.mu.Unlock()
	select {
	case q := <-c.inbox:
		n := copy(p, q.buf[:q.n])
		c.pool.Put(q.buf)
		return n, q.from, nil
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo sends one QUIC packet on all paths to the peer that addr names. Loss is UDP's business: no error is returned
// for it.
func (c *virtualConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	key, _, ok := fromVirtual(addr)
	if !ok {
		return 0, net.InvalidAddrError("not a virtual address of a braid")
	}
	if f := c.b.flow(key, true); f != nil {
		f.sendQUIC(p)
	}
	return len(p), nil
}

// Close ends reads. It may be called more than once.
func (c *virtualConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.ended = true
		close(c.closed)
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	return nil
}

// LocalAddr is a virtual address as well.
func (c *virtualConn) LocalAddr() net.Addr {
	return virtualAddr(flowKey{peer: c.b.cfg.Self}, c.b.cfg.Incarnation)
}

// SetReadDeadline ends waiting reads at t; the zero time lifts it.
func (c *virtualConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	select {
	case <-c.expired:
		c.expired = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return nil
	}
	if wait := time.Until(t); wait > 0 {
		expired := c.expired
		c.timer = time.AfterFunc(wait, func() { close(expired) })
		return nil
	}
	close(c.expired)
	return nil
}

// SetDeadline sets the read deadline; writes wait for Wire alone.
func (c *virtualConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes wait for Wire alone.
func (c *virtualConn) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing; the QUIC stack warns about connections that lack it.
func (c *virtualConn) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing, as SetReadBuffer.
func (c *virtualConn) SetWriteBuffer(int) error { return nil }
