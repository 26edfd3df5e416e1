package mesh

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/mesh/linkstate"
)

// ErrNameTaken ends Run: another live node has this node's name, or its compact id, and was there first.
var ErrNameTaken = errors.New("another live node has this node's name or id")

// clashPatience is how long a newcomer waits for the other to go before it gives up: a node that was moved to another address
// must first be given up by the others under its old one.
const clashPatience = 30 * time.Second

// maxUnverified bounds the nodes that are said to be there and have shown no card: members can make names up. It is as many as a
// newcomer hears of at once in a large mesh; of more it hears again.
const maxUnverified = 1024

// NotifyAlive refuses nodes that cannot be members: a name that no certificate has, a version that would have memberlist refuse
// every join as long as it holds that node for alive, the compact id of another, or one name too many. It is asked about every
// message that says a node is alive.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	m := d.m
	if err := identity.CheckName("node name", n.Name); err != nil {
		return err
	}
	if n.PCur != memberlist.ProtocolVersion2Compatible || n.PMin > n.PCur || n.PMax < n.PCur || n.DMin > 0 || n.DCur > 0 {
		m.stats.conflicts.Add(1)
		return errors.New("speaks a version of gossip that no node speaks")
	}
	if n.Name == m.cfg.Identity.Node {
		return nil // another address under our name is for NotifyConflict
	}
	id := identity.NodeID(m.cfg.Identity.Mesh, n.Name)
	if id == m.id {
		m.clashed(n.Name, addrOf(n))
		return fmt.Errorf("its compact id %08x is that of this node, %q; rename one", id, m.cfg.Identity.Node)
	}
	m.mu.Lock()
	holder, taken := m.ids[id]
	full := !taken && m.crowded(m.proven[n.Name] == addrOf(n))
	m.mu.Unlock()
	if full {
		m.stats.overfull.Add(1)
		m.warn.Warn("nodes refused: too many are named that nobody has a card of", "peer", n.Name, "addr", addrOf(n), "most", maxUnverified)
		return errors.New("too many nodes are named that nobody has a card of")
	}
	if taken && holder != n.Name {
		m.stats.conflicts.Add(1)
		m.log.Debug("node refused for its id", "peer", n.Name, "holder", holder)
		return fmt.Errorf("its compact id %08x is that of node %q; rename one", id, holder)
	}
	return nil
}

// crowded tells whether there is no room for one more node. One whose card has proved that it is there at this address needs only
// that of the tables: who makes names up has no certificate, and keeps out nobody who does. m.mu is held.
func (m *Mesh) crowded(proven bool) bool {
	if len(m.peers) < maxUnverified || proven {
		return len(m.peers) >= linkstate.MaxOrigins
	}
	strange := 0
	for _, p := range m.peers {
		if !p.verified {
			strange++
		}
	}
	return strange >= maxUnverified || len(m.peers) >= linkstate.MaxOrigins
}

// NotifyConflict hears of one name at two addresses. memberlist keeps the first.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	if existing.Name == d.m.cfg.Identity.Node {
		d.m.clashed(existing.Name, addrOf(other))
		return
	}
	d.m.stats.conflicts.Add(1)
	d.m.warn.Warn("second node of one name refused", "peer", existing.Name, "addr", addrOf(existing), "refused", addrOf(other))
}

// clashed notes that another node claims our name or id. Who was a member first stays, says so and carries on; a newcomer gives
// up if the other is still there after clashPatience.
func (m *Mesh) clashed(name string, addr netip.AddrPort) {
	m.stats.conflicts.Add(1)
	established := m.established.Load()
	m.mu.Lock()
	if m.clash.IsZero() {
		m.clash = time.Now()
	}
	since := time.Since(m.clash)
	m.mu.Unlock()
	switch {
	case established:
		m.warn.Warn("another node claims this node's name or id and is refused", "claimed_by", name, "addr", addr)
	case since < clashPatience:
		m.warn.Warn("another live node has this node's name or id; waiting for it to go", "holder", name, "addr", addr, "patience", clashPatience)
	default:
		select {
		case m.fatal <- fmt.Errorf("node %q at %s: %w (%q at %s); stop it, or give this node another name and certificate",
			m.cfg.Identity.Node, m.cfg.Self().Mesh, ErrNameTaken, name, addr):
		default:
		}
	}
}
