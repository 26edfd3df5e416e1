package mesh

import (
	"cmp"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	maxLost = 256 // addresses of failed members to try again
	// goodbyeKept is how long a node that left is still listed, with Alive false and state "left".
	goodbyeKept = time.Minute
)

// peer is another node that memberlist knows, or that said goodbye lately.
type peer struct {
	name  string
	id    uint32
	addr  netip.AddrPort // as memberlist has it
	alive bool           // memberlist: alive or suspect
	left  time.Time      // when it said goodbye; zero: it did not

	expelled bool // see Expel; until a card of its counts again
	accused  bool // memberlist gave it up, and its links show that it lives

	verified    bool   // its card is held; what follows is from that ...
	epoch       uint32 // the card's
	region      string
	certificate []byte
	health      Health // ... but load, sessions and policy version, which are the row's
	row, full   linkstate.Row

	missing map[uint32]bool // who said that its link with this one is down, since its own last word
	fallen  bool            // too many to be chance; see missedBy
}

// vitals puts what the row says into the health.
func (p *peer) vitals() {
	p.health.Load, p.health.PolicyVersion, p.health.Sessions = p.row.Load, p.row.PolicyVersion, int(p.row.Sessions)
}

// peerAddr is where messages for a peer go.
type peerAddr struct {
	name string
	addr netip.AddrPort
}

func (p *peer) member() Member {
	return Member{Node: p.name, Region: p.region, ID: p.id, Alive: p.alive && p.left.IsZero(), Health: p.health}
}

// Members returns this node and all nodes whose record was verified, by name. A node that failed is absent; one that left
// stays for a minute with Alive false and state "left".
func (m *Mesh) Members() []Member {
	out := []Member{m.selfMember()}
	m.mu.Lock()
	for _, p := range m.peers {
		if p.verified {
			out = append(out, p.member())
		}
	}
	m.mu.Unlock()
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// Published is Members with this node as it told the others that it is, so that all nodes see the same.
func (m *Mesh) Published() []Member {
	out := m.Members()
	m.mu.Lock()
	vitals := m.self.vitals
	m.mu.Unlock()
	for i := range out {
		if h := &out[i].Health; out[i].ID == m.id {
			h.Load, h.PolicyVersion, h.Sessions = vitals.Load, vitals.PolicyVersion, int(vitals.Sessions)
		}
	}
	return out
}

func (m *Mesh) selfMember() Member {
	id := m.cfg.Identity
	return Member{Node: id.Node, Region: id.Region, ID: m.id, Alive: true, Health: m.cfg.Self()}
}

// Lookup finds a member by name, this node included.
func (m *Mesh) Lookup(node string) (Member, bool) {
	if node == m.cfg.Identity.Node {
		return m.selfMember(), true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[node]
	if p == nil || !p.verified {
		return Member{}, false
	}
	return p.member(), true
}

// ByID finds a member by its compact id, this node included.
func (m *Mesh) ByID(id uint32) (Member, bool) {
	if id == m.id {
		return m.selfMember(), true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.peers[m.ids[id]]
	if p == nil || !p.verified {
		return Member{}, false
	}
	return p.member(), true
}

// addresses of all peers that have shown a card and are alive, by memberlist, too: only those are worth dialling, for members can
// make others up.
func (m *Mesh) addresses() (out []netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if p.alive && !p.accused && p.verified {
			out = append(out, p.addr)
		}
	}
	return out
}

func (m *Mesh) namesByID() map[uint32]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.ids)
}

// joinedBy notes a node that memberlist took for alive, or back. Where one is that lives by its links, its card says, not gossip.
func (m *Mesh) joinedBy(name string, addr netip.AddrPort) {
	own := m.links.view()
	m.mu.Lock()
	p := m.peers[name]
	if p != nil && p.verified && p.alive && p.addr != addr && m.lives(p, own) {
		m.mu.Unlock()
		m.stats.refuse(refuseAddress)
		m.warn.Warn("gossip names another address for a node that is there", "peer", name, "addr", p.addr, "refused", addr)
		return
	}
	if p == nil {
		p = &peer{name: name, id: identity.NodeID(m.cfg.Identity.Mesh, name)}
		m.peers[name], m.ids[p.id] = p, name
		m.core.Expect(p.id)
	}
	again := p.accused && p.addr == addr
	p.addr, p.alive, p.accused, p.left = addr, true, false, time.Time{}
	delete(m.lost, addr)
	m.mu.Unlock()
	if again {
		return // for us it never went
	}
	m.log.Info("node is in the mesh", "peer", name, "addr", addr)
	m.refollow()
}

// goneBy notes a node that memberlist gave up, or that left. Every member can gossip that another failed, so one that lives by its
// links stays until it does not (acquit).
func (m *Mesh) goneBy(name string) {
	own := m.links.view()
	m.mu.Lock()
	p := m.peers[name]
	if p == nil {
		m.mu.Unlock()
		return
	}
	left := !p.left.IsZero()
	if p.alive && p.verified && !left && m.lives(p, own) {
		news := !p.accused
		if p.accused = true; len(m.lost) < maxLost {
			m.lost[p.addr] = m.now()
		}
		m.mu.Unlock()
		if news {
			m.stats.refuse(refuseFailure)
			m.warn.Warn("gossip says that a node failed which lives by its links; it stays", "peer", name)
		}
		return
	}
	p.alive, p.accused = false, false
	if !left {
		m.forget(p)
		if p.verified && len(m.lost) < maxLost { // an address that somebody made up is not worth trying
			m.lost[p.addr] = m.now()
		}
	}
	m.mu.Unlock()
	m.log.Info("node is gone", "peer", name, "left", left)
	m.refollow()
}

// Expel takes the nodes out of the tables whose certificate the identity refuses since it was told to (identity.Revoke), and
// returns their names. Their cards and rows are refused from then on, and with them every word that they say of others;
// once they are readmitted, the cards that they have said count again. They know the gossip keys: a new one is drawn, everybody
// sends with it a minute later, and after another minute the keys that they know are given up.
func (m *Mesh) Expel() (names []string) {
	m.mu.Lock()
	for _, p := range m.peers {
		if !p.verified {
			continue
		}
		if _, err := m.cfg.Identity.Check(p.certificate); errors.Is(err, identity.ErrRevoked) {
			*p = peer{name: p.name, id: p.id, addr: p.addr, alive: p.alive, left: p.left, expelled: true}
			m.core.Drop(p.id)
			m.core.Expect(p.id)
			names = append(names, p.name)
		}
	}
	m.mu.Unlock()
	if len(names) > 0 {
		m.keys.condemn(m.wall())
		m.refollow()
	}
	return names
}

// forget takes a peer out of the tables; linkstate remembers how new its last word was. m.mu is held.
func (m *Mesh) forget(p *peer) {
	delete(m.peers, p.name)
	delete(m.ids, p.id)
	m.core.Drop(p.id)
}

// expire forgets nodes that said goodbye a while ago.
func (m *Mesh) expire(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if !p.left.IsZero() && now.Sub(p.left) > goodbyeKept && !p.alive {
			m.forget(p)
		}
	}
	for addr, at := range m.lost {
		if now.Sub(at) > lostKept {
			delete(m.lost, addr)
		}
	}
}

// refollow notes that the members changed. A thousand cards come at a join, and who is there is gone through once a tick for all of them.
func (m *Mesh) refollow() {
	now := m.now()
	m.mu.Lock()
	m.busy, m.moved = now, true
	due := now.Sub(m.told) >= probeTick
	m.mu.Unlock()
	if due {
		m.follow(now)
	}
	m.dirt.everything()
	m.notify()
}

// follow tells the prober whom it may probe, if the members changed since it was told.
func (m *Mesh) follow(now time.Time) {
	m.mu.Lock()
	if !m.moved {
		m.mu.Unlock()
		return
	}
	m.told, m.moved, m.planSoon = now, false, true
	m.tellings++
	serial, ids := m.tellings, make([]uint32, 0, len(m.peers))
	m.reachable = make([]uint32, 0, len(m.peers))
	homes := make(map[netip.AddrPort]bool, len(m.peers))
	for _, p := range m.peers {
		if p.verified {
			homes[p.addr] = true
		}
		if p.alive && p.left.IsZero() {
			m.reachable = append(m.reachable, p.id)
			if p.verified {
				ids = append(ids, p.id)
			}
		}
	}
	slices.Sort(m.reachable)
	m.wire.homes.Store(&homes)
	m.mu.Unlock()
	m.links.follow(serial, ids)
}
