package sim

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// receiveQueuePackets bounds what waits for a slow reader, as a socket's receive buffer does; newer packets are dropped.
	receiveQueuePackets = 4096
	// readRunPackets is the most that one ReadRuns hands over.
	readRunPackets = 64
)

// Conn is a UDP port of an emulated host: a net.PacketConn with the batch methods of the node's own UDP connection.
// All methods are safe for concurrent use. Writes never block and tell nothing about the packet's fate.
type Conn struct {
	host  *Host
	local netip.AddrPort

	mu       sync.Mutex // guards everything below
	changed  *sync.Cond // a packet came, the deadline moved or passed, or the connection closed
	queue    []*packet  // ring: head is the oldest of count
	head     int
	count    int
	closed   bool
	drops    uint64
	deadline time.Time   // of reads; zero: none
	timer    *time.Timer // wakes the readers at the deadline
}

func newConn(h *Host, local netip.AddrPort) *Conn {
	c := &Conn{host: h, local: local}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// push appends an arrived packet and takes it over; false if the queue is full or the connection closed. Network.mu is held.
func (c *Conn) push(p *packet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.count == receiveQueuePackets {
		c.drops++
		return false
	}
	if c.count == len(c.queue) {
		c.grow()
	}
	c.queue[(c.head+c.count)%len(c.queue)] = p
	c.count++
	c.changed.Signal()
	return true
}

// grow doubles the ring; most connections of a large network never need the full bound.
func (c *Conn) grow() {
	bigger := make([]*packet, min(max(16, 2*len(c.queue)), receiveQueuePackets))
	for i := range c.count {
		bigger[i] = c.queue[(c.head+i)%len(c.queue)]
	}
	c.queue, c.head = bigger, 0
}

// pop moves up to len(into) packets out of the queue, waiting until there is one.
func (c *Conn) pop(into []*packet) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, c.opError("read", net.ErrClosed)
		case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case c.count > 0:
			return c.take(into), nil
		}
		c.changed.Wait()
	}
}

// take moves what fits from the ring. Called with mu held.
func (c *Conn) take(into []*packet) int {
	n := min(len(into), c.count)
	for i := range n {
		into[i] = c.queue[c.head]
		c.queue[c.head] = nil
		c.head = (c.head + 1) % len(c.queue)
	}
	c.count -= n
	return n
}

// ReadFrom waits for a packet and returns its size and source (*net.UDPAddr). A packet longer than b is cut off.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// ReadFromUDPAddrPort is ReadFrom without an allocation per packet.
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	var one [1]*packet
	if _, err := c.pop(one[:]); err != nil {
		return 0, netip.AddrPort{}, err
	}
	n, from := copy(b, one[0].payload), one[0].from
	one[0].release()
	return n, from, nil
}

// ReadRuns waits for at least one packet and hands over all that wait, up to readRunPackets, each as a run of one. A packet
// is valid during its call only, and never marked: the emulated network's queues drop, they do not mark.
func (c *Conn) ReadRuns(handle func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration)) error {
	var batch [readRunPackets]*packet
	n, err := c.pop(batch[:])
	for _, p := range batch[:n] {
		handle(p.payload, len(p.payload), p.from, false, 0)
		p.release()
	}
	return err
}

// WriteTo sends a packet to a *net.UDPAddr.
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, c.opError("write", errors.New("destination is not a *net.UDPAddr"))
	}
	return c.WriteToUDPAddrPort(b, udp.AddrPort())
}

// WriteToUDPAddrPort sends a packet without needing an allocated address.
func (c *Conn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return 0, c.opError("write", net.ErrClosed)
	}
	if err := c.host.net.send(c.host, c.local, b, to); err != nil {
		return 0, c.opError("write", err)
	}
	return len(b), nil
}

// WriteRun sends run as packets of segment bytes each; the last may be shorter.
func (c *Conn) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	if segment <= 0 {
		return c.opError("write", errors.New("segment size must be positive"))
	}
	for len(run) > 0 {
		n := min(segment, len(run))
		if _, err := c.WriteToUDPAddrPort(run[:n], to); err != nil {
			return err
		}
		run = run[n:]
	}
	return nil
}

// LocalAddr returns a *net.UDPAddr. If the connection listens on all addresses of its host it is the first of them,
// so that it can be handed to a peer.
func (c *Conn) LocalAddr() net.Addr {
	local := c.local
	if local.Addr().IsUnspecified() {
		c.host.net.mu.Lock()
		if len(c.host.addrs) > 0 {
			local = netip.AddrPortFrom(c.host.addrs[0], local.Port())
		}
		c.host.net.mu.Unlock()
	}
	return net.UDPAddrFromAddrPort(local)
}

// Drops returns how many packets found the receive queue full.
func (c *Conn) Drops() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drops
}

// SetDeadline sets the read deadline; writes never block.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetWriteDeadline does nothing, because writes never block.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }

// SetReadDeadline makes reads fail with os.ErrDeadlineExceeded from t on, waiting ones included; the zero time never.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	if c.timer != nil {
		c.timer.Stop() // one that fires all the same wakes readers who find that nothing changed
		c.timer = nil
	}
	c.deadline = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		c.timer = time.AfterFunc(wait, c.changed.Broadcast)
	}
	c.changed.Broadcast()
	return nil
}

// Close frees the port, drops what waits and wakes readers. A second call returns net.ErrClosed.
func (c *Conn) Close() error {
	// The port first: the delivery goroutine takes the network's lock before ours.
	c.host.net.mu.Lock()
	if c.host.conns[c.local] == c {
		delete(c.host.conns, c.local)
	}
	c.host.net.mu.Unlock()

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
	}
	for ; c.count > 0; c.count-- {
		c.queue[c.head].release()
		c.queue[c.head] = nil
		c.head = (c.head + 1) % len(c.queue)
	}
	c.changed.Broadcast()
	return nil
}

// opError dresses an error as package net does, so that callers' checks for timeouts and net.ErrClosed work.
func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Source: net.UDPAddrFromAddrPort(c.local), Err: err}
}
