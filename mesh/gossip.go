package mesh

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/ternmesh/tern/mesh/identity"
)

// ownRecord is the newest record of this node.
type ownRecord struct {
	order
	sealed []byte
}

// Why a record was not taken. The names are those of Stats.Refused.
const (
	refuseForm      = "malformed"
	refuseAbsurd    = "absurd"
	refuseSigner    = "signer" // signed by a node that it does not speak for
	refuseForged    = "forged" // no valid signature of this mesh
	refuseStale     = "stale"
	refuseDuplicate = "duplicate" // normal: gossip tells everything several times
	refuseUnknown   = "unknown"   // no such member yet; it comes again
	refuseAddress   = "address"   // names another address than the member has: a clone
)

// offer takes in a sealed record from anywhere. Cheap checks come first, so that old news cost no signature check.
func (m *Mesh) offer(sealed []byte) {
	if why := m.judge(sealed); why != "" {
		m.stats.refuse(why)
		if why != refuseDuplicate && why != refuseUnknown && why != refuseStale {
			m.warn.Warn("health record refused: "+why, "bytes", len(sealed))
		}
	}
}

func (m *Mesh) judge(sealed []byte) (why string) {
	body, cert, sig, err := openEnvelope(sealed)
	if err != nil {
		return refuseForm
	}
	r, err := decodeRecord(body)
	switch {
	case errors.Is(err, errAbsurd):
		return refuseAbsurd
	case err != nil:
		return refuseForm
	}
	own := r.node == m.cfg.Identity.Node
	stranger := false
	if !own {
		why := m.known(&r)
		stranger = why == refuseUnknown && m.worthMeeting(&r)
		if why != "" && !stranger {
			return why
		}
	}
	signer, err := m.cfg.Identity.Verify(recordContext, body, cert, sig)
	switch {
	case err != nil:
		return refuseForged
	case signer.Node != r.node:
		return refuseSigner
	case own:
		m.echo(r.order)
		return refuseDuplicate
	case stranger:
		m.meet(r.health.Mesh)
		return refuseUnknown
	}
	return m.take(r, sealed, signer)
}

// known judges a record by what is known of its node, before its signature.
func (m *Mesh) known(r *record) (why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.knownLocked(r)
}

func (m *Mesh) knownLocked(r *record) (why string) {
	p := m.peers[r.node]
	switch {
	case p == nil || !p.alive:
		return refuseUnknown
	case p.addr != r.health.Mesh:
		return refuseAddress
	case r.order == p.order:
		return refuseDuplicate
	case !r.newer(p.order):
		return refuseStale
	}
	return ""
}

// take stores a verified record and passes it on.
func (m *Mesh) take(r record, sealed []byte, signer identity.Peer) (why string) {
	r.health.Voter = r.health.Voter && signer.Voter
	sealed = append([]byte(nil), sealed...) // memberlist's buffer
	m.mu.Lock()
	if why := m.knownLocked(&r); why != "" { // it may have changed meanwhile
		m.mu.Unlock()
		return why
	}
	p := m.peers[r.node]
	first, wasLeft := !p.verified(), !p.left.IsZero()
	news := first || !sameNews(&p.record, &r)
	p.order, p.region, p.record, p.sealed = r.order, signer.Region, r, sealed
	if p.left = (time.Time{}); r.health.State == StateLeft {
		p.left = time.Now()
	}
	turned := first || wasLeft != !p.left.IsZero()
	m.mu.Unlock()

	m.stats.accepted.Add(1)
	m.records.QueueBroadcast(&recordBroadcast{r.node, sealed})
	switch {
	case turned:
		m.refollow()
	case news:
		m.redraw()
	}
	return ""
}

// sameNews tells whether two records of a node differ in nothing but their number.
func sameNews(a, b *record) bool {
	x, y := *a, *b
	x.order, y.order = order{}, order{}
	return string(x.encode(nil)) == string(y.encode(nil))
}

// echo notes how new a record of our own the others have: after a restart with a clock set back, ours must still be newer.
func (m *Mesh) echo(o order) {
	m.mu.Lock()
	behind := !m.self.newer(o) && m.self.order != o
	if behind {
		m.self.epoch = o.epoch + 1
		m.self.counter = 0
	}
	m.mu.Unlock()
	if behind {
		m.publishSoon()
	}
}

// publish seals a new record and queues it for gossip.
func (m *Mesh) publish(state string) ([]byte, error) {
	r := record{node: m.cfg.Identity.Node, health: m.cfg.Self(), links: m.links.entries()}
	r.health.Voter = r.health.Voter && m.cfg.Identity.Voter
	if state != "" {
		r.health.State = state
	}
	if !(r.health.Load >= 0) {
		r.health.Load = 0
	}
	r.health.Load = min(r.health.Load, maxLoad)
	r.health.Sessions = min(r.health.Sessions, maxSessions)
	m.mu.Lock()
	m.self.epoch = max(m.self.epoch, r.health.Incarnation)
	m.self.counter++
	r.order = m.self.order
	m.mu.Unlock()
	sealed, err := r.seal(m.cfg.Identity)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.self.sealed = sealed
	m.mu.Unlock()
	m.stats.published.Add(1)
	m.records.QueueBroadcast(&recordBroadcast{r.node, sealed})
	return sealed, nil
}

// recordBroadcast is a record on its way; a newer one of the same node takes its place.
type recordBroadcast struct {
	node   string
	sealed []byte
}

var _ memberlist.NamedBroadcast = (*recordBroadcast)(nil)

func (b *recordBroadcast) Name() string    { return b.node }
func (b *recordBroadcast) Message() []byte { return b.sealed }
func (b *recordBroadcast) Finished()       {}
func (b *recordBroadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*recordBroadcast)
	return ok && o.node == b.node
}

// delegate is what memberlist calls. Events and Alive come with memberlist's lock held, so nothing here calls memberlist.
type delegate struct{ m *Mesh }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
)

func (d delegate) NodeMeta(int) []byte { return nil }

func (d delegate) NotifyMsg(b []byte) { d.m.offer(b) }

func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.m.records.GetBroadcasts(overhead, limit)
}

// LocalState is all records that this node has, each behind its length (u16).
func (d delegate) LocalState(bool) []byte {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	var b []byte
	add := func(sealed []byte) {
		if sealed != nil {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(sealed))), sealed...)
		}
	}
	add(d.m.self.sealed)
	for _, p := range d.m.peers {
		add(p.sealed)
	}
	return b
}

func (d delegate) MergeRemoteState(b []byte, _ bool) {
	for len(b) > 0 {
		c := &cursor{b: b}
		sealed := c.take(int(binary.BigEndian.Uint16(c.take(2))))
		if c.err != nil {
			d.m.stats.refuse(refuseForm)
			return
		}
		d.m.offer(sealed)
		b = c.b
	}
}

func (d delegate) NotifyJoin(n *memberlist.Node) {
	if n.Name != d.m.cfg.Identity.Node {
		d.m.joinedBy(n.Name, addrOf(n))
	}
}

// NotifyUpdate has nothing to say: the address comes by NotifyJoin, and there is no metadata.
func (d delegate) NotifyUpdate(*memberlist.Node) {}

func (d delegate) NotifyLeave(n *memberlist.Node) { d.m.goneBy(n.Name) }

func addrOf(n *memberlist.Node) netip.AddrPort {
	a, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(a.Unmap(), n.Port)
}
