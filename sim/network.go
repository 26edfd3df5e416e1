package sim

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// firstEphemeralPort is where ListenPacket starts when asked for port 0.
const firstEphemeralPort = 49152

// Network is an emulated network. Its methods are safe for concurrent use. Inside a testing/synctest bubble it must be
// made inside the bubble and closed before the bubble ends.
type Network struct {
	seed  uint64
	birth time.Time // instants count from here
	sched schedule  // packets under way; its heap is guarded by mu

	mu      sync.Mutex // guards everything below, and every lane
	hosts   map[string]*Host
	addrs   map[netip.Addr]*Host
	lanes   map[pair]*lane
	unnamed Link           // for pairs that nobody has set
	groups  map[string]int // partition: hosts in different groups cannot talk
	risks   map[string][]*lane
	tap     func(from, to string, payload []byte)
	copies  []arrival // scratch of send
	stats   Stats
	closed  bool
}

type pair struct{ from, to string }

// Stats counts what does not belong to one link.
type Stats struct {
	// Unrouted counts packets to addresses of no host, NoListener packets to ports where nobody listens.
	Unrouted, NoListener uint64
	// NATDrops counts packets that a translator did not let in.
	NATDrops uint64
	// ReceiveDrops counts packets that found a full receive queue, FlightDrops those above inFlightPackets.
	ReceiveDrops, FlightDrops uint64
	// InFlight is the number of packets under way now.
	InFlight int
}

// New makes a network without hosts. All randomness comes from the seed.
func New(seed uint64) *Network {
	n := &Network{
		seed:  seed,
		birth: time.Now(),
		hosts: make(map[string]*Host),
		addrs: make(map[netip.Addr]*Host),
		lanes: make(map[pair]*lane),
		risks: make(map[string][]*lane),
	}
	n.sched.init()
	return n
}

// Host is a machine of the network with one or more addresses. It satisfies the node's Network interface.
type Host struct {
	net  *Network
	name string

	// Guarded by net.mu.
	addrs []netip.Addr
	conns map[netip.AddrPort]*Conn // by local address; the unspecified address stands for all of them
	port  uint16                   // last ephemeral port handed out
	dead  bool
	joint jointLoss
	up    *uplink     // nil: unlimited
	nat   *translator // nil: none
}

// Host returns the host of that name, made on first use, with addr added to its addresses: calling it twice with
// an IPv4 and an IPv6 address makes a dual-stack host. It panics if another host has the address, which no
// program could go on from.
func (n *Network) Host(name string, addr netip.Addr) *Host {
	addr = addr.Unmap()
	n.mu.Lock()
	defer n.mu.Unlock()
	if owner := n.addrs[addr]; owner != nil && owner.name != name {
		panic(fmt.Sprintf("sim: address %v of host %q belongs to host %q", addr, name, owner.name))
	}
	h := n.hosts[name]
	if h == nil {
		h = &Host{net: n, name: name, conns: make(map[netip.AddrPort]*Conn), port: firstEphemeralPort - 1}
		n.hosts[name] = h
	}
	if addr.IsValid() && n.addrs[addr] == nil {
		h.addrs = append(h.addrs, addr)
		n.addrs[addr] = h
	}
	return h
}

// Name returns the host's name.
func (h *Host) Name() string { return h.name }

// ListenPacket opens a UDP port of the host; the result is a *Conn. An unspecified address listens on all of the host's
// addresses, port 0 takes a free one. Errors wrap EADDRINUSE, EADDRNOTAVAIL or net.ErrClosed. The context is
// only asked whether it has ended.
func (h *Host) ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	fail := func(err error) (net.PacketConn, error) {
		return nil, fmt.Errorf("listen on %v of emulated host %q: %w", addr, h.name, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	ip := addr.Addr().Unmap()
	if !ip.IsValid() {
		ip = netip.IPv6Unspecified()
	}
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fail(net.ErrClosed)
	}
	if !ip.IsUnspecified() && !slices.Contains(h.addrs, ip) {
		return fail(syscall.EADDRNOTAVAIL)
	}
	port := addr.Port()
	if port == 0 {
		port = h.freePort()
	}
	local := netip.AddrPortFrom(ip, port)
	if port == 0 || h.taken(local) {
		return fail(syscall.EADDRINUSE)
	}
	c := newConn(h, local)
	h.conns[local] = c
	n.sched.start(n)
	return c, nil
}

// freePort finds the next unused ephemeral port, 0 if all are taken.
func (h *Host) freePort() uint16 {
	for range 1 << 16 {
		if h.port++; h.port < firstEphemeralPort { // wrapped around
			h.port = firstEphemeralPort
		}
		free := true
		for local := range h.conns {
			free = free && local.Port() != h.port
		}
		if free {
			return h.port
		}
	}
	return 0
}

// taken reports whether a listener stands in the way: the same address, or everything against one of its addresses.
func (h *Host) taken(local netip.AddrPort) bool {
	for other := range h.conns {
		if other.Port() == local.Port() &&
			(other.Addr() == local.Addr() || other.Addr().IsUnspecified() || local.Addr().IsUnspecified()) {
			return true
		}
	}
	return false
}

// listener finds who receives packets for to, nil if nobody does.
func (h *Host) listener(to netip.AddrPort) *Conn {
	if c := h.conns[to]; c != nil {
		return c
	}
	if c := h.conns[netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port())]; c != nil {
		return c
	}
	if to.Addr().Is4() {
		return h.conns[netip.AddrPortFrom(netip.IPv4Unspecified(), to.Port())]
	}
	return nil
}

// source picks the address that a packet to dst leaves with.
func (h *Host) source(local netip.AddrPort, dst netip.Addr) (netip.AddrPort, bool) {
	if local.Addr().Is4() && !dst.Is4() {
		return netip.AddrPort{}, false
	}
	if !local.Addr().IsUnspecified() {
		return local, local.Addr().Is4() == dst.Is4()
	}
	for _, a := range h.addrs {
		if a.Is4() == dst.Is4() {
			return netip.AddrPortFrom(a, local.Port()), true
		}
	}
	return netip.AddrPort{}, false
}

// send puts one packet, or nothing, on its way. Like UDP it does not tell the sender what became of it.
func (n *Network) send(h *Host, local netip.AddrPort, payload []byte, to netip.AddrPort) error {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return net.ErrClosed
	}
	from, ok := h.source(local, to.Addr())
	if !ok {
		return syscall.ENETUNREACH
	}
	target := n.addrs[to.Addr()]
	if target == nil || target != h && target.behind(to.Addr()) {
		n.stats.Unrouted++
		return nil
	}
	now := n.now()
	if h.nat != nil && target != h {
		from = h.nat.outward(now, from, to)
	}
	ln := n.lane(h.name, target.name)
	size := len(payload) + headerBytes(to.Addr())
	if n.tap != nil {
		n.tap(h.name, target.name, payload)
	}
	if n.severed(h, target) {
		ln.refuse(size, &ln.stats.Cut)
		return nil
	}
	if h != target && h.joint.loses(now) {
		ln.refuse(size, &ln.stats.JointLost)
		return nil
	}
	if h != target && h.up != nil {
		if now, ok = h.up.pass(now, size); !ok {
			ln.refuse(size, &ln.stats.QueueDrops)
			return nil
		}
	}
	n.copies = ln.carry(now, size, len(payload), n.copies[:0])
	for _, a := range n.copies {
		if !n.sched.add(a, payload, from, to, h, target, ln) {
			n.stats.FlightDrops++
		}
	}
	return nil
}

// refuse counts a packet that never reaches the link's own model; its draws are used up all the same.
func (l *lane) refuse(size int, why *uint64) {
	l.index++
	l.stats.Sent++
	l.stats.Bytes += uint64(size)
	*why++
}

// arrive hands a packet whose instant has come to its listener. Called with mu held.
func (n *Network) arrive(p *packet) {
	ln := p.lane // a packet that was pushed belongs to its reader, who may release it at once
	if t := p.target.nat; t != nil && p.origin != p.target {
		local, ok := t.inward(n.now(), p.from, p.to)
		if !ok {
			n.stats.NATDrops++
			p.release()
			return
		}
		p.to = local
	}
	switch c := p.target.listener(p.to); {
	case n.severed(p.origin, p.target): // killed or partitioned while it was under way
		ln.stats.Cut++
	case c == nil:
		n.stats.NoListener++
	case c.push(p):
		ln.stats.Delivered++
		return
	default:
		n.stats.ReceiveDrops++
	}
	p.release()
}

// severed reports whether packets between two hosts are stopped. The sender's death does not stop what has already left.
func (n *Network) severed(from, to *Host) bool {
	if to.dead || from.dead {
		return true
	}
	a, named := n.groups[from.name]
	b, both := n.groups[to.name]
	return named && both && a != b
}

func headerBytes(a netip.Addr) int {
	if a.Is4() {
		return 20 + 8
	}
	return 40 + 8
}

func (n *Network) now() int64 { return int64(time.Since(n.birth)) }

// lane returns the state of a direction, made on first use. Called with mu held.
func (n *Network) lane(from, to string) *lane {
	ln := n.lanes[pair{from, to}]
	if ln == nil {
		ln = &lane{link: n.unnamed, seed: seedFor(n.seed, "link", from, to)}
		if from == to {
			ln.link = Link{} // a host's way to itself is its loopback
		}
		n.lanes[pair{from, to}] = ln
	}
	return ln
}

// Close stops the delivery goroutine, drops what is under way and closes every Conn; their readers see net.ErrClosed.
// It may be called twice.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	var conns []*Conn
	for _, h := range n.hosts {
		for _, c := range h.conns {
			conns = append(conns, c)
		}
	}
	n.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // never fails the first time, and the second does not matter
	}
	n.sched.halt()
}
