package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh"
)

const (
	// maxRemembered bounds the nodes that are remembered; beyond it, new ones are shown only while they live.
	maxRemembered = 4096
	// rememberFor is how long the status goes on showing a node that failed without a goodbye.
	rememberFor = time.Hour
)

// memory keeps what this node knew of members that gossip has dropped: operators ask about the node that is gone, and
// paths that went through it need its name.
type memory struct {
	mu   sync.Mutex
	seen map[uint32]remembered // by compact id; guarded by mu
}

type remembered struct {
	member mesh.Member
	last   time.Time
}

// observe takes note of the present members.
func (m *memory) observe(members []mesh.Member, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen == nil {
		m.seen = make(map[uint32]remembered)
	}
	for _, member := range members {
		if _, known := m.seen[member.ID]; known || len(m.seen) < maxRemembered {
			m.seen[member.ID] = remembered{member, now}
		}
	}
	for id, r := range m.seen {
		if now.Sub(r.last) > rememberFor {
			delete(m.seen, id)
		}
	}
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

// name of a node that is or was a member; its compact id if this node never knew it.
func (m *memory) name(id braid.NodeID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok := m.seen[uint32(id)]; ok {
		return r.member.Node
	}
	return fmt.Sprintf("%08x", uint32(id))
}
