package ebpf

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

const (
	// PeerFor is how long an address stays a peer's after Filter.Peer. Peers that use relay keys call every hour.
	PeerFor = 2 * time.Hour
	// flowIdle ends an admission that carried nothing: ICE gives such a client up after a quarter of a minute.
	flowIdle = 2 * time.Minute
	// flowsPerOwner bounds the addresses admitted for one client; the one that was silent longest makes room.
	flowsPerOwner = 16
)

// peer is an address that may send path frames. It stays while it is a member's, or until a time.
type peer struct {
	member  bool
	until   uint64
	buckets pair
}

// flow is an admitted address and port of a client.
type flow struct {
	owner   string
	at      uint64 // the last sign of life that was noticed
	buckets pair
}

// LiveStats counts what the live rules hold, and what did not fit.
type LiveStats struct {
	Peers, Flows int
	Walls        int    // sources in quarantine
	WallsEvicted uint64 // sources that left quarantine early to make room
	Strikes      uint64 // sources put there by this node
	Adopted      uint64 // sources put there on another node's word
	PeersRefused uint64 // addresses beyond the room for peers
	FlowsEvicted uint64 // admissions that made room for later ones
	KernelErrors uint64 // entries that the kernel did not take; its rules then lag behind
}

// full sums what did not fit.
func (s LiveStats) full() uint64 {
	return s.PeersRefused + s.FlowsEvicted + s.WallsEvicted + s.KernelErrors
}

// Ufrag makes an ICE user name fragment that the filter knows by its MAC. The epoch is the hour; after a
// week the filter no longer tells such a ufrag from others.
func (f *Filter) Ufrag() string {
	return makeUfrag(f.guard.ufrag, rand.Uint64(), uint16(f.clock()/ufragEpochNS))
}

// Admit lets the DTLS, RTP and RTCP of a client's address and port through, on behalf of owner. Call it when the client
// has proved itself (MESSAGE-INTEGRITY), before it is told, and again at every later proof. It may be called often.
func (f *Filter) Admit(owner string, addr netip.AddrPort) {
	f.guard.admit(owner, plain(addr), f.clock())
}

// Forget takes back what was admitted for owner.
func (f *Filter) Forget(owner string) {
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.owners[owner] {
		g.dropFlow(a)
	}
	delete(g.owners, owner)
}

// SetMembers says whose path frames pass: the mesh addresses of the members and of configured joiners. New ones are
// let in before old ones are shut out.
func (f *Filter) SetMembers(addrs []netip.Addr) {
	now := f.clock()
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	current := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		current[a] = true
		if p := g.addPeer(a); p != nil {
			p.member = true
		}
	}
	for a, p := range g.peers {
		p.member = current[a]
		g.endPeer(a, p, now)
	}
}

// Peer lets an address send to the mesh port for PeerFor, as members do: one that this node dials, or one that proved
// with its certificate to be of this mesh.
func (f *Filter) Peer(addr netip.Addr) {
	now := f.clock()
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.addPeer(addr.Unmap().WithZone("")); p != nil {
		p.until = now + uint64(PeerFor)
	}
}

// LiveStats returns a snapshot.
func (f *Filter) LiveStats() LiveStats {
	g := f.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.Peers, s.Flows = len(g.peers), len(g.flows)
	s.Walls = len(g.walls)
	return s
}

// addPeer returns the entry of an address, or nil when there is no room. The caller holds mu, as for all below.
func (g *guard) addPeer(a netip.Addr) *peer {
	p, ok := g.peers[a]
	if ok {
		return p
	}
	if len(g.peers) >= maxPeers {
		g.stats.PeersRefused++
		return nil
	}
	p = new(peer)
	g.peers[a] = p
	if g.sink != nil {
		g.note(g.sink.putPeer(a))
	}
	return p
}

func (g *guard) endPeer(a netip.Addr, p *peer, now uint64) {
	if p.member || p.until > now {
		return
	}
	delete(g.peers, a)
	if g.sink != nil {
		g.note(g.sink.dropPeer(a))
	}
}

func (g *guard) admit(owner string, a netip.AddrPort, now uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if fl, ok := g.flows[a]; ok {
		if fl.at = now; fl.owner == owner {
			return
		}
		g.disown(fl.owner, a)
		fl.owner = owner
		g.owners[owner] = append(g.owners[owner], a)
		return
	}
	switch own := g.owners[owner]; {
	case len(own) >= flowsPerOwner:
		g.evict(g.stalest(own))
	case len(g.flows) >= maxFlows:
		for some := range g.flows { // any: with flowsPerOwner the room suffices for 4,096 clients
			g.evict(some)
			break
		}
	}
	g.flows[a] = &flow{owner: owner, at: now}
	g.owners[owner] = append(g.owners[owner], a)
	if g.sink != nil {
		g.note(g.sink.putFlow(a))
	}
}

// stalest returns the address of those that was silent longest.
func (g *guard) stalest(own []netip.AddrPort) netip.AddrPort {
	return slices.MinFunc(own, func(a, b netip.AddrPort) int {
		if g.seen(a) < g.seen(b) {
			return -1
		}
		return 1
	})
}

// seen is the last sign of life of a flow, as far as the twin and the kernel know.
func (g *guard) seen(a netip.AddrPort) uint64 {
	fl := g.flows[a]
	fl.at = max(fl.at, uint64(fl.buckets[0]), uint64(fl.buckets[1]))
	if g.sink != nil {
		fl.at = max(fl.at, g.sink.flowSeen(a))
	}
	return fl.at
}

func (g *guard) evict(a netip.AddrPort) {
	g.stats.FlowsEvicted++
	g.disown(g.flows[a].owner, a)
	g.dropFlow(a)
}

func (g *guard) disown(owner string, a netip.AddrPort) {
	g.owners[owner] = slices.DeleteFunc(g.owners[owner], func(x netip.AddrPort) bool { return x == a })
	if len(g.owners[owner]) == 0 {
		delete(g.owners, owner)
	}
}

func (g *guard) dropFlow(a netip.AddrPort) {
	delete(g.flows, a)
	if g.sink != nil {
		g.note(g.sink.dropFlow(a))
	}
}

func (g *guard) note(err error) {
	if err != nil {
		g.stats.KernelErrors++
	}
}

// sweep ends what is over: peers and walls whose time passed, flows without a sign of life.
func (g *guard) sweep(now uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, w := range g.walls {
		if w.until < now {
			g.raze(p)
		}
	}
	for a, p := range g.peers {
		g.endPeer(a, p, now)
	}
	for a, fl := range g.flows {
		if fl.at+uint64(flowIdle) < now && g.seen(a)+uint64(flowIdle) < now {
			g.disown(fl.owner, a)
			g.dropFlow(a)
		}
	}
}

// feed gives the kernel everything that is known, and from then on every change; nil ends that. The program is
// attached afterwards, so that no member and no client meets an empty map.
func (g *guard) feed(k *kernel) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if k == nil {
		for key, w := range g.walls {
			w.dropped += g.sink.wallDrops(key)
		}
		g.sink = nil
		return
	}
	g.sink = k
	for a := range g.peers {
		g.note(k.putPeer(a))
	}
	for a := range g.flows {
		g.note(k.putFlow(a))
	}
	for p := range g.walls {
		g.note(k.putWall(p))
	}
}
