package node

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh"
)

const (
	// maxRemembered bounds the nodes that are remembered; beyond it, new ones are shown only while they live.
	maxRemembered = 4096
	// believeFor is how long media goes on to a member that gossip has dropped without a goodbye: gossip may be wrong (a
	// region that comes back spreads what it believed while it was cut off), and links see better who is gone.
	believeFor = 15 * time.Second
	// awayFor is how long a member must have been absent to be news when it returns; more than between two looks.
	awayFor = 2 * routeTick
	// rememberFor is how long the status goes on showing a node that failed without a goodbye.
	rememberFor = time.Hour
)

// memory keeps what this node knew of members that gossip has dropped: operators ask about the node that is gone, and
// paths that went through it need its name.
type memory struct {
	mu   sync.Mutex
	seen map[uint32]remembered // by compact id; guarded by mu
}

// member is a node as the media path sees it: gossip's word, or for a while what it was before gossip dropped it.
// Nothing on the media path ends because gossip is wrong for a second.
func (n *Node) member(id braid.NodeID) (mesh.Member, bool) {
	if m, ok := n.mesh.ByID(uint32(id)); ok {
		return m, true
	}
	return n.memory.recent(uint32(id), time.Now())
}

type remembered struct {
	member mesh.Member
	last   time.Time
}

// observe takes note of the present members, and says whether one came that was not here lately.
func (m *memory) observe(members []mesh.Member, now time.Time) (came bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = make(map[uint32]remembered)
	}
	for _, member := range members {
		r, known := m.seen[member.ID]
		if known || len(m.seen) < maxRemembered {
			m.seen[member.ID] = remembered{member, now}
		}
		came = came || member.Alive && now.Sub(r.last) > awayFor
	}
	for id, r := range m.seen {
		if now.Sub(r.last) > rememberFor {
			delete(m.seen, id)
		}
	}
	return came
}

// gone lists the members that were here within rememberFor and are absent from present.
func (m *memory) gone(present []mesh.Member) (out []mesh.Member) {
	here := make(map[uint32]bool, len(present))
	for _, p := range present {
		here[p.ID] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, r := range m.seen {
		if !here[id] {
			r.member.Alive = false
			out = append(out, r.member)
		}
	}
	return out
}

// recent gives a member that gossip dropped within believeFor and that did not say goodbye.
func (m *memory) recent(id uint32, now time.Time) (mesh.Member, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.seen[id]
	return r.member, ok && r.member.Alive && now.Sub(r.last) <= believeFor
}

// forget drops nodes at once: nobody is to believe in them any more.
func (m *memory) forget(names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, r := range m.seen {
		if slices.Contains(names, r.member.Node) {
			delete(m.seen, id)
		}
	}
}

// name of a node that is or was a member; its compact id if this node never knew it.
func (m *memory) name(id braid.NodeID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.seen[uint32(id)]; ok {
		return r.member.Node
	}
	return fmt.Sprintf("%08x", uint32(id))
}
