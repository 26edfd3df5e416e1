package sim

import (
	"net/netip"
	"time"
)

// NATKind is how an address translator maps and filters (RFC 4787's terms).
type NATKind uint8

// Kinds. The first three go from the most to the least permissive. They keep a mapping alive by what the host sends, not by what it receives.
const (
	// Cone maps a port of the host to one public port, whoever it talks to, and lets anyone answer.
	Cone NATKind = iota + 1
	// Restricted maps likewise, and lets only those answer that the host has sent to (address and port).
	Restricted
	// Symmetric has a public port of its own for each destination, and only that destination may answer.
	Symmetric
	// Static maps one to one: every port is itself at the public address, and anyone may send there, unasked. It arrives at the host's
	// first address of that family. What a server behind a translator needs, and clouds give.
	Static
)

// NATKinds are the names of the kinds, as scenario files write them.
var NATKinds = map[string]NATKind{"cone": Cone, "restricted": Restricted, "symmetric": Symmetric, "static": Static}

// NAT is an address translator in front of a host.
type NAT struct {
	Kind   NATKind
	Public netip.Addr    // the address that others see; of this host alone
	Idle   time.Duration // a mapping ends so long after the last packet out; zero: DefaultNATIdle
}

// DefaultNATIdle is what RFC 4787 asks for at least.
const DefaultNATIdle = 2 * time.Minute

// firstNATPort is the first public port that is handed out; it goes up from there, so that a mapping that was lost never
// comes back under its old port.
const firstNATPort = 20000

// natPorts bounds the mappings of one translator; the oldest port is taken over when all have been handed out.
const natPorts = 40000

// translator is the state of a NAT. Pure: no clock, no lock. Network.mu guards it.
type translator struct {
	nat  NAT
	host netip.Addr // what Static maps to
	out  map[natFlow]uint16
	in   map[uint16]*mapping
	next int
}

// natFlow is what has a mapping of its own; to is set for Symmetric only.
type natFlow struct{ local, to netip.AddrPort }

type mapping struct {
	flow  natFlow
	used  int64                    // instant of the last packet out
	peers map[netip.AddrPort]int64 // sent to, and when last
}

func newTranslator(n NAT) *translator {
	if n.Idle <= 0 {
		n.Idle = DefaultNATIdle
	}
	return &translator{nat: n, out: make(map[natFlow]uint16), in: make(map[uint16]*mapping)}
}

// outward returns the public source of a packet, and opens or refreshes its mapping.
func (t *translator) outward(now int64, local, to netip.AddrPort) netip.AddrPort {
	if t.nat.Kind == Static {
		return netip.AddrPortFrom(t.nat.Public, local.Port())
	}
	flow := natFlow{local: local}
	if t.nat.Kind == Symmetric {
		flow.to = to
	}
	port, ok := t.out[flow]
	if ok && t.expired(t.in[port].used, now) {
		t.forget(port)
		ok = false
	}
	if !ok {
		port = uint16(firstNATPort + t.next%natPorts)
		t.next++
		t.forget(port)
		t.out[flow], t.in[port] = port, &mapping{flow: flow, peers: make(map[netip.AddrPort]int64)}
	}
	m := t.in[port]
	m.used, m.peers[to] = now, now
	return netip.AddrPortFrom(t.nat.Public, port)
}

// inward returns whom a packet to the public address is for; false if nobody asked for it.
func (t *translator) inward(now int64, from, to netip.AddrPort) (netip.AddrPort, bool) {
	if t.nat.Kind == Static {
		return netip.AddrPortFrom(t.host, to.Port()), true
	}
	m := t.in[to.Port()]
	if m == nil || t.expired(m.used, now) {
		return netip.AddrPort{}, false
	}
	last, known := m.peers[from]
	if t.nat.Kind != Cone && (!known || t.expired(last, now)) {
		return netip.AddrPort{}, false
	}
	return m.flow.local, true
}

func (t *translator) expired(used, now int64) bool { return now-used > int64(t.nat.Idle) }

func (t *translator) forget(port uint16) {
	if m := t.in[port]; m != nil {
		delete(t.out, m.flow)
		delete(t.in, port)
	}
}

// rebind loses all mappings; ports go on from where they were.
func (t *translator) rebind() {
	clear(t.out)
	clear(t.in)
}

// SetNAT puts a translator in front of a host, which must exist. Others reach it at the public address alone, where it cannot
// listen; its own addresses are private from then on. The zero NAT takes the translator away. A public address that another host has
// is a mistake of the program, and panics as Host does.
func (n *Network) SetNAT(host string, nat NAT) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[host]
	if h == nil {
		return
	}
	if h.nat != nil {
		delete(n.addrs, h.nat.nat.Public)
		h.nat = nil
	}
	if nat.Kind == 0 {
		return
	}
	nat.Public = nat.Public.Unmap()
	if n.addrs[nat.Public] != nil || !nat.Public.IsValid() {
		panic("sim: public address " + nat.Public.String() + " of host " + host + " belongs to another")
	}
	h.nat = newTranslator(nat)
	if nat.Kind == Static {
		inside, ok := h.source(netip.AddrPortFrom(netip.IPv6Unspecified(), 0), nat.Public)
		if !ok {
			panic("sim: host " + host + " has no address of the family of " + nat.Public.String())
		}
		h.nat.host = inside.Addr()
	}
	n.addrs[nat.Public] = h
}

// Rebind makes a host's translator lose all its mappings, as one that restarts does, or a phone that changes networks: what the host
// sends next comes from new public ports, and answers to the old ones are dropped.
func (n *Network) Rebind(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if h := n.hosts[host]; h != nil && h.nat != nil {
		h.nat.rebind()
	}
}

// behind says whether an address of a host cannot be reached by others, because it lies behind a translator.
func (h *Host) behind(to netip.Addr) bool { return h.nat != nil && to != h.nat.nat.Public }
