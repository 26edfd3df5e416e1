package mesh

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/mesh/linkstate"
)

// Why an item was not taken. The names are those of Stats.Refused.
const (
	refuseForm      = "malformed"
	refuseAbsurd    = "absurd"
	refuseRevoked   = "revoked" // the policy takes the signer out of the mesh
	refuseSigner    = "signer"  // signed by a node that it does not speak for
	refuseForged    = "forged"  // no valid signature of this mesh
	refuseStale     = "stale"
	refuseDuplicate = "duplicate" // normal: gossip tells everything several times
	refuseUnknown   = "unknown"   // no such member yet, or a row before its card; it comes again
	refuseGap       = "gap"       // a delta whose full row did not come; it comes again
	refuseAddress   = "address"   // names another address than the member has: a clone
	refuseFailure   = "failure"   // word that a node failed, which lives by its links
)

// receive takes a message of a peer in and answers it.
func (m *Mesh) receive(message []byte) {
	m.mu.Lock()
	items, answers, err := m.core.Handle(message)
	m.mu.Unlock()
	if err != nil {
		m.refused(refuseForm, len(message))
	}
	for _, it := range items {
		m.offer(it, true)
	}
	m.post(answers)
}

// offer takes in an item from anywhere, to be pushed on or only kept. Cheap checks come first, so that old news cost no
// signature check.
func (m *Mesh) offer(it linkstate.Item, push bool) {
	var why string
	if it.Kind == linkstate.Card {
		why = m.judgeCard(it, push)
	} else {
		why = m.judgeRow(it, push)
	}
	if why != "" {
		m.refused(why, len(it.Sealed))
		return
	}
	m.stats.accepted.Add(1)
}

func (m *Mesh) refused(why string, size int) {
	m.stats.refuse(why)
	switch why {
	case refuseDuplicate, refuseUnknown, refuseStale, refuseGap, refuseRevoked:
	default:
		m.warn.Warn("gossip refused: "+why, "bytes", size)
	}
}

// why puts a verdict into words.
func why(v linkstate.Verdict) string {
	return map[linkstate.Verdict]string{
		linkstate.Fresh: "", linkstate.Duplicate: refuseDuplicate, linkstate.Stale: refuseStale,
		linkstate.Unknown: refuseUnknown, linkstate.Gap: refuseGap,
	}[v]
}

func (m *Mesh) judgeCard(it linkstate.Item, push bool) string {
	if it.Origin == m.id {
		return m.echo(it, it.Certificate)
	}
	r, err := decodeCard(it.Content)
	switch {
	case errors.Is(err, linkstate.ErrAbsurd):
		return refuseAbsurd
	case err != nil:
		return refuseForm
	case identity.NodeID(m.cfg.Identity.Mesh, r.node) != it.Origin:
		return refuseSigner
	}
	refuse := m.known(&r, it.Head)
	stranger := refuse == refuseUnknown && m.worthMeeting(&r, it)
	if refuse != "" && !stranger {
		return refuse
	}
	signer, err := m.verify(cardContext, it.Body, it.Certificate, it.Signature)
	switch {
	case errors.Is(err, identity.ErrRevoked):
		return refuseRevoked
	case err != nil:
		return refuseForged
	case signer.Node != r.node:
		return refuseSigner
	case stranger:
		m.meet(r.node, r.health.Mesh)
		return refuseUnknown
	}
	return m.takeCard(it, r, signer, push)
}

// known judges a card by what is known of its node, before its signature.
func (m *Mesh) known(r *card, h linkstate.Head) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.knownLocked(r, h)
}

func (m *Mesh) knownLocked(r *card, h linkstate.Head) string {
	p := m.peers[r.node]
	switch {
	case p == nil || !p.alive:
		return refuseUnknown
	case p.addr != r.health.Mesh && r.health.State != StateLeft:
		return refuseAddress
	}
	return why(m.core.Judge(h))
}

// takeCard stores a verified card and lets it be passed on.
func (m *Mesh) takeCard(it linkstate.Item, r card, signer identity.Peer, push bool) string {
	r.health.Voter = r.health.Voter && signer.Voter
	now := m.now()
	m.mu.Lock()
	if refuse := m.knownLocked(&r, it.Head); refuse != "" { // it may have changed meanwhile
		m.mu.Unlock()
		return refuse
	}
	if !m.core.Put(it, push) {
		m.mu.Unlock()
		return refuseUnknown // full
	}
	p := m.peers[r.node]
	p.expelled = false
	p.region, p.health, p.certificate = signer.Region, r.health, it.Certificate
	if it.Epoch > p.epoch {
		p.full, p.row = linkstate.Row{}, linkstate.Row{}
	}
	p.epoch, p.verified = it.Epoch, true
	p.rises()
	p.vitals()
	if p.left = now; r.health.State != StateLeft {
		p.left = time.Time{}
	}
	m.mu.Unlock()
	m.refollow()
	return ""
}

func (m *Mesh) judgeRow(it linkstate.Item, push bool) string {
	if it.Origin == m.id {
		return m.echo(it, m.cfg.Identity.Cert().Certificate[0])
	}
	m.mu.Lock()
	verdict := m.core.Judge(it.Head)
	p := m.peers[m.ids[it.Origin]]
	var name string
	var certificate []byte
	if p != nil && p.verified {
		name, certificate = p.name, p.certificate
	}
	m.mu.Unlock()
	switch {
	case verdict != linkstate.Fresh:
		return why(verdict)
	case certificate == nil:
		return refuseUnknown
	}
	change, err := linkstate.DecodeChange(it.Kind, it.Content)
	switch {
	case errors.Is(err, linkstate.ErrAbsurd):
		return refuseAbsurd
	case err != nil:
		return refuseForm
	}
	signer, err := m.verify(rowContext, it.Body, certificate, it.Signature)
	switch {
	case err != nil:
		return refuseForged
	case signer.Node != name:
		return refuseSigner
	}
	return m.takeRow(it, change, push)
}

// takeRow stores a verified row and notes which links it changes.
func (m *Mesh) takeRow(it linkstate.Item, change linkstate.Change, push bool) string {
	m.mu.Lock()
	p := m.peers[m.ids[it.Origin]]
	if p == nil || !m.core.Put(it, push) {
		m.mu.Unlock()
		return refuseUnknown // gone, or overtaken, meanwhile
	}
	before := p.row
	p.row = change.Apply(it.Kind, p.full)
	if it.Kind == linkstate.Full {
		p.full = p.row
	}
	p.vitals()
	if p.rises() {
		m.redrawLinks(p)
	}
	m.redrawRow(p, before)
	m.missed(p, before)
	m.mu.Unlock()
	m.notify()
	return ""
}

// echo notes how new an item of our own the others have: after a restart with a clock set back, ours must still be newer.
func (m *Mesh) echo(it linkstate.Item, certificate []byte) string {
	m.mu.Lock()
	behind := it.Version.Newer(m.self.version)
	m.mu.Unlock()
	if !behind {
		return refuseDuplicate
	}
	context := cardContext
	if it.Kind != linkstate.Card {
		context = rowContext
	}
	signer, err := m.verify(context, it.Body, certificate, it.Signature)
	if err != nil || signer.Node != m.cfg.Identity.Node {
		return refuseForged
	}
	m.mu.Lock()
	if it.Version.Newer(m.self.version) {
		m.self.version = linkstate.Version{Epoch: it.Epoch + 1}
		m.self.card, m.self.said = nil, false
	}
	m.mu.Unlock()
	return refuseDuplicate
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

func (d delegate) NotifyMsg(b []byte) { d.m.receive(b) }

// GetBroadcasts has nothing to say: linkstate pushes by itself.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState is, for a node that joins, all items that this node has, each behind its length (u16). At other times digests
// do that for less.
func (d delegate) LocalState(join bool) []byte {
	if !join {
		return nil
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	var b []byte
	for _, it := range d.m.core.All() {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(it.Sealed))), it.Sealed...)
	}
	return b
}

func (d delegate) MergeRemoteState(b []byte, _ bool) {
	for len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n {
			break
		}
		it, err := linkstate.Open(append([]byte(nil), b[2:2+n]...))
		if err != nil {
			break
		}
		d.m.offer(it, false)
		b = b[2+n:]
	}
	if len(b) > 0 {
		d.m.stats.refuse(refuseForm)
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
