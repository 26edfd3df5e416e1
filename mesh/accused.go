package mesh

import "github.com/ternmesh/tern/mesh/linkstate"

// livesLeast is by how many others a node that this one does not measure must be seen to live.
const livesLeast = 2

// lives tells whether links show that a node is alive, whatever gossip says: ours, or those that both it and at least two others
// say are up, who are not accused themselves. own is what this node measures. m.mu is held.
func (m *Mesh) lives(p *peer, own map[uint32]linkstate.Link) bool {
	if l, measured := own[p.id]; measured && !l.Down {
		return true
	}
	seen := 0
	for id, there := range p.row.Links {
		by := m.peers[m.ids[id]]
		if there.Down || p.fallen || by == nil || !by.verified || !by.alive || by.accused || !by.left.IsZero() {
			continue
		}
		if back, says := by.row.Links[p.id]; says && !back.Down {
			seen++
		}
	}
	return seen >= livesLeast
}

// acquit looks at the nodes that memberlist gave up and that were kept for their links: they go when those are down. Until then
// they are asked for word (join.go), so that memberlist learns better.
func (m *Mesh) acquit() {
	m.mu.Lock()
	var names []string
	for _, p := range m.peers {
		if p.accused {
			names = append(names, p.name)
		}
	}
	m.mu.Unlock()
	for _, name := range names {
		m.goneBy(name)
	}
}
