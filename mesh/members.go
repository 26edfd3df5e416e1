package mesh

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/routing"
)

const (
	maxSeen = 4096 // records of departed nodes kept against replay; the table is emptied when full
	maxLost = 256  // addresses of failed members to try again
	// goodbyeKept is how long a node that left is still listed, with Alive false and state "left".
	goodbyeKept = time.Minute
)

// peer is another node that memberlist knows, or that said goodbye lately.
type peer struct {
	name   string
	id     uint32
	addr   netip.AddrPort // as memberlist has it
	alive  bool           // memberlist: alive or suspect
	left   time.Time      // when it said goodbye; zero: it did not
	order  order          // of the newest record
	region string         // from the certificate; "" until the first record
	record record
	sealed []byte // the newest record as it travels; nil until the first
}

func (p *peer) verified() bool { return p.sealed != nil }

func (p *peer) member() Member {
	return Member{Node: p.name, Region: p.region, ID: p.id, Alive: p.alive && p.left.IsZero(), Health: p.record.health}
}

// Members returns this node and all nodes whose record was verified, by name. A node that failed is absent; one that left
// stays for a minute with Alive false and state "left".
func (m *Mesh) Members() []Member {
	out := []Member{m.selfMember()}
	m.mu.Lock()
	for _, p := range m.peers {
		if p.verified() {
			out = append(out, p.member())
		}
	}
	m.mu.Unlock()
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
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
	if p == nil || !p.verified() {
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
	if p == nil || !p.verified() {
		return Member{}, false
	}
	return p.member(), true
}

// size is how many nodes gossip reaches, for memberlist's arithmetic.
func (m *Mesh) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.peers) + 1
}

// addresses of all peers that are alive.
func (m *Mesh) addresses() (out []netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.peers {
		if p.alive {
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

// joinedBy notes a node that memberlist took for alive, or back.
func (m *Mesh) joinedBy(name string, addr netip.AddrPort) {
	m.mu.Lock()
	p := m.peers[name]
	if p == nil {
		p = &peer{name: name, id: identity.NodeID(m.cfg.Identity.Mesh, name), order: m.seen[name]}
		m.peers[name], m.ids[p.id] = p, name
		delete(m.seen, name)
	}
	p.addr, p.alive, p.left = addr, true, time.Time{}
	delete(m.lost, addr)
	m.mu.Unlock()
	m.log.Info("node is in the mesh", "node", name, "addr", addr)
	m.refollow()
	m.publishSoon() // it knows nothing of us yet
}

// goneBy notes a node that memberlist gave up, or that left.
func (m *Mesh) goneBy(name string) {
	m.mu.Lock()
	p := m.peers[name]
	if p == nil {
		m.mu.Unlock()
		return
	}
	p.alive = false
	left := !p.left.IsZero()
	if !left {
		m.forget(p)
		if len(m.lost) < maxLost {
			m.lost[p.addr] = time.Now()
		}
	}
	m.mu.Unlock()
	m.log.Info("node is gone", "node", name, "left", left)
	m.refollow()
}

// forget takes a peer out of the tables but remembers its newest record against replays. m.mu is held.
func (m *Mesh) forget(p *peer) {
	delete(m.peers, p.name)
	delete(m.ids, p.id)
	if len(m.seen) >= maxSeen {
		clear(m.seen)
	}
	m.seen[p.name] = p.order
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

// refollow tells the prober whom to probe.
func (m *Mesh) refollow() {
	m.mu.Lock()
	var ids []uint32
	for _, p := range m.peers {
		if p.alive && p.left.IsZero() && p.verified() {
			ids = append(ids, p.id)
		}
	}
	m.mu.Unlock()
	m.links.follow(ids)
	m.redraw()
}

// redraw makes the next Graph a new one.
func (m *Mesh) redraw() {
	m.mu.Lock()
	m.graph = nil
	m.drawn++
	m.mu.Unlock()
	m.notify()
}

// Graph returns what is known of nodes and links. Nodes that are gone are absent. A link A to B is what A says of it, or what
// B says if that is worse, so that no node can talk its links up; of this node's own links its fresh measurements count.
func (m *Mesh) Graph() *routing.Graph {
	m.mu.Lock()
	g := m.graph
	m.mu.Unlock()
	if g != nil {
		return g
	}
	// Drawn without the lock, since Self and the prober have locks of their own. Two callers may both draw; a change in
	// between leaves a graph that redraw has made stale already, so it is stored only if nothing was drawn or redrawn.
	d := m.drawing()
	g = d.graph()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.graph == nil && m.drawn == d.version {
		m.graph = g
	}
	return g
}

// drawing is the material of a graph.
type drawing struct {
	version uint64
	nodes   map[uint32]routing.Node
	views   map[uint32]map[uint32]linkEntry // who says what of its link with whom
}

func (m *Mesh) drawing() drawing {
	self := m.selfMember()
	own := m.links.view()
	m.mu.Lock()
	defer m.mu.Unlock()
	d := drawing{version: m.drawn, nodes: make(map[uint32]routing.Node), views: make(map[uint32]map[uint32]linkEntry)}
	d.nodes[self.ID], d.views[self.ID] = asNode(self), own
	for _, p := range m.peers {
		if member := p.member(); member.Alive && p.verified() {
			d.nodes[p.id], d.views[p.id] = asNode(member), byTarget(p.record.links)
		}
	}
	return d
}

func asNode(m Member) routing.Node {
	return routing.Node{
		Name: m.Node, Region: m.Region, Risks: m.Health.Risks,
		Avoid: !relays(m.Health.State),
		Full:  m.Health.Load >= 1,
		Load:  m.Health.Load,
	}
}

// relays says whether a node in that state may carry paths of others, as far as the node itself has a say. For one that an
// operator drains or cordons, the policy says it (routing.Constraints): the paths that it has move away without a gap.
func relays(state string) bool {
	switch state {
	case "", StateServing, StateDraining, StateDrained, StateCordoned:
		return true
	}
	return false
}

func byTarget(links []linkEntry) map[uint32]linkEntry {
	out := make(map[uint32]linkEntry, len(links))
	for _, l := range links {
		out[l.to] = l
	}
	return out
}

func (d *drawing) graph() *routing.Graph {
	nodes := slices.Collect(maps.Values(d.nodes))
	var links []routing.Link
	for from, view := range d.views {
		for to, out := range view {
			if other, ok := d.nodes[to]; ok && to != from {
				links = append(links, mergeLink(d.nodes[from].Name, other.Name, out, d.views[to][from]))
			}
		}
	}
	return routing.NewGraph(nodes, links)
}

// mergeLink is the worse of what the sender says of its outgoing link and what the receiver says of its incoming one; the
// receiver's entry is zero if it has none.
func mergeLink(from, to string, out, in linkEntry) routing.Link {
	return routing.Link{
		From: from, To: to,
		Latency: max(out.latency, in.latency),
		Jitter:  max(out.jitter, in.jitter),
		Loss:    lossOf(max(out.lossOut, in.lossIn)),
		Down:    out.down || in.down,
	}
}
