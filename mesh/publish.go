package mesh

import (
	"bytes"
	"crypto/tls"
	"time"

	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	// spreadEvery is the pace of linkstate's ticks.
	spreadEvery = 120 * time.Millisecond
	// newsGap is between two items of this node, however much happens.
	newsGap = 100 * time.Millisecond
	// Between two rows without urgent news lie rowGap for every node of the mesh, within bounds: rows of noisy links must not
	// grow with the square of the mesh. With the second that a row takes to get around, a change is known everywhere within 2 s at
	// 200 nodes and 4 s at any size, though a row was said just before it.
	rowGap               = 3 * time.Millisecond
	minRowGap, maxRowGap = 200 * time.Millisecond, 2400 * time.Millisecond
	// newsLoad is a change of the load that is worth a row.
	newsLoad = 0.05
	// goodbyeMost is how many members hear a goodbye directly; the others hear it from those.
	goodbyeMost = 64
)

// own is what this node said last.
type own struct {
	version linkstate.Version
	card    []byte // content; nil: none was said
	carded  time.Time
	cert    *tls.Certificate // that signed the card; rows count by it, so a renewed one needs a new card
	writer  linkstate.Writer
	vitals  linkstate.Vitals
	said    bool // a row was said
	missed  bool // since then somebody has said that its link with this node is down
	rowed   time.Time
}

// speak says what is new of this node: its card if that changed, its row if links or load changed enough.
func (m *Mesh) speak(now time.Time) {
	h := m.health("")
	c := card{node: m.cfg.Identity.Node, health: h}
	content := c.encode(nil)
	m.mu.Lock()
	changed := !bytes.Equal(content, m.self.card) || m.self.cert != m.cfg.Identity.Cert()
	fresh := m.self.card == nil || changed && now.Sub(m.self.carded) >= newsGap
	gap := min(max(time.Duration(len(m.peers))*rowGap, minRowGap), maxRowGap)
	quiet := now.Sub(m.self.rowed)
	before, said, missed := m.self.vitals, m.self.said, m.self.missed
	m.mu.Unlock()
	if fresh {
		m.publishCard(now, h)
	}
	vitals := linkstate.Vitals{
		Load: h.Load, PolicyVersion: h.PolicyVersion, Sessions: uint32(min(max(h.Sessions, 0), linkstate.MaxSessions)),
	}.Rounded()
	_, moved, urgent := m.links.row(false)
	if !said || urgent && quiet >= newsGap || (moved || missed || livelier(before, vitals)) && quiet >= gap {
		row, _, _ := m.links.row(true)
		row.Vitals = vitals
		m.publishRow(now, row)
	}
}

// livelier tells whether vitals changed enough for everybody to know.
func livelier(a, b linkstate.Vitals) bool {
	d := b.Load - a.Load
	return a.PolicyVersion != b.PolicyVersion || d > newsLoad || d < -newsLoad || (a.Load >= 1) != (b.Load >= 1) ||
		max(a.Sessions, b.Sessions) >= 10+2*min(a.Sessions, b.Sessions) || (a.Sessions == 0) != (b.Sessions == 0)
}

// health is what this node says of itself; state, if given, takes the place of its own.
func (m *Mesh) health(state string) Health {
	h := m.cfg.Self()
	h.Voter = h.Voter && m.cfg.Identity.Voter
	if state != "" {
		h.State = state
	}
	return h
}

// next draws the version of the next item.
func (m *Mesh) next(incarnation uint32) linkstate.Version {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.self.version.Epoch = max(m.self.version.Epoch, incarnation)
	m.self.version.Counter++
	return m.self.version
}

// publishCard seals a new card and hands it to linkstate.
func (m *Mesh) publishCard(now time.Time, h Health) {
	c := card{node: m.cfg.Identity.Node, health: h}
	content, cert := c.encode(nil), m.cfg.Identity.Cert()
	v := m.next(h.Incarnation)
	body := append(linkstate.AppendHead(nil, linkstate.Head{Kind: linkstate.Card, Origin: m.id, Version: v}), content...)
	m.publish(cardContext, body, func() {
		m.self.card, m.self.carded, m.self.cert = content, now, cert
	})
}

func (m *Mesh) publishRow(now time.Time, row linkstate.Row) {
	v := m.next(0)
	m.mu.Lock()
	body := m.self.writer.Write(m.id, v, row)
	m.mu.Unlock()
	m.publish(rowContext, body, func() {
		m.self.vitals, m.self.said, m.self.missed, m.self.rowed = row.Vitals, true, false, now
	})
}

// publish signs an item; done is called with the lock held once it is on its way.
func (m *Mesh) publish(context string, body []byte, done func()) {
	certificate, sig, err := m.sign(context, body)
	if context != cardContext {
		certificate = nil
	}
	var it linkstate.Item
	if err == nil {
		it, err = linkstate.Seal(body, certificate, sig)
	}
	if err != nil {
		m.warn.Warn("this node's "+context+" was not said", "err", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	done()
	if m.core.Put(it, true) {
		m.stats.published.Add(1)
	}
}

// spread is linkstate's tick.
func (m *Mesh) spread() {
	m.mu.Lock()
	out := m.core.Tick(m.rng, m.reachable)
	m.mu.Unlock()
	m.post(out)
}

// post sends messages to members; those that are none any more are passed over.
func (m *Mesh) post(packets []linkstate.Packet) {
	for _, p := range packets {
		m.mu.Lock()
		peer := m.peers[m.ids[p.To]]
		send := m.send
		var to peerAddr
		if peer != nil {
			to = peerAddr{peer.name, peer.addr}
		}
		m.mu.Unlock()
		if peer != nil && send != nil {
			send(to, p.Message)
		}
	}
}

// sayGoodbye tells members directly that this node leaves for good: it must not be taken for a failure.
func (m *Mesh) sayGoodbye(now time.Time) {
	m.publishCard(now, m.health(StateLeft))
	m.mu.Lock()
	message := m.core.Message(m.id)
	var out []linkstate.Packet
	for _, id := range m.reachable[:min(len(m.reachable), goodbyeMost)] {
		out = append(out, linkstate.Packet{To: id, Message: message})
	}
	m.mu.Unlock()
	m.post(out)
}
