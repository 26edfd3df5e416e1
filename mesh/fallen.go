package mesh

import "github.com/ternmesh/tern/mesh/linkstate"

// A node that dies is missed by its fast neighbours within 0.7 s and by its slow ones after two. Nobody needs to wait for those:
// a node that is well and loses links says so itself, so one that others say they lost, and that says nothing, has fallen.
const (
	// fallenLeast others must say so, and one of fallenShare of those it has links with: fewer lie, or are cut off alone.
	fallenLeast = 3
	fallenShare = 6
)

// missedBy notes what another says anew of its link to p, lost or there again, and tells whether p has fallen by that, or not any more.
func (p *peer) missedBy(id uint32, lost bool) (changed bool) {
	if p.missing == nil {
		p.missing = make(map[uint32]bool)
	}
	if delete(p.missing, id); lost {
		p.missing[id] = true
	}
	unsaid := 0
	for id := range p.missing {
		if l, has := p.row.Links[id]; has && !l.Down {
			unsaid++
		}
	}
	was := p.fallen
	p.fallen = unsaid >= max(fallenLeast, len(p.row.Links)/fallenShare)
	return p.fallen != was
}

// rises notes that p said something itself, and tells whether it had fallen.
func (p *peer) rises() (was bool) {
	was = p.fallen
	p.missing, p.fallen = nil, false
	return was
}

// missed looks at what a peer's new row says of others: which links are down that were not, and which are up again. m.mu is held.
func (m *Mesh) missed(by *peer, before linkstate.Row) {
	for id, l := range by.row.Links {
		if old, had := before.Links[id]; !had || l.Down == old.Down {
			continue
		}
		if id == m.id {
			m.self.missed = m.self.missed || l.Down // if that is not so, our next row says it
		} else if p := m.peers[m.ids[id]]; p != nil && p.missedBy(by.id, l.Down) {
			m.redrawLinks(p)
		}
	}
}

// redrawLinks notes that all links of a peer may count differently. m.mu is held.
func (m *Mesh) redrawLinks(p *peer) {
	for id := range p.row.Links {
		m.dirt.link(p.id, id)
	}
}
