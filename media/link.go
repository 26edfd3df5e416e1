package media

import (
	"context"
	"maps"
	"sync/atomic"

	"github.com/ternmesh/tern/media/braid"
)

// Link is one session to a peer under one fence, as this package uses it (*braid.Session). Implementations are compared with
// ==, so they are pointers. All methods are safe for concurrent use and never block.
type Link interface {
	Peer() braid.NodeID
	Fence() braid.FenceID
	// Send queues one RTP packet under an id that the sender chose; the packet is valid during the call. The
	// answer is 0 or why it was dropped.
	Send(stream uint16, class braid.Class, packet []byte) braid.DropReason
	// SendMessage queues one reliable message, in order; an error means that it will not arrive.
	SendMessage(message []byte) error
}

// Braid opens sessions. Session returns the existing one to that peer under that fence or dials; the context
// bounds the dial alone.
type Braid interface {
	Session(ctx context.Context, peer braid.NodeID, fence braid.FenceID) (Link, error)
}

// peerLink is what this node keeps per session. All fields but routes are guarded by Hub.mu.
type peerLink struct {
	link    Link
	routes  atomic.Pointer[map[uint16]route] // packet path: the peer's ids → what they feed; copy-on-write
	pending map[uint32]*attempt              // my subscribe messages without an answer, by ref
	feeds   map[uint32]*supply               // my subscriptions at the peer, by ref
	serves  map[uint32]*outlet               // the peer's subscriptions here, by ref
	usedIDs map[uint16]struct{}              // ids of serves
	nextID  uint16
	open    bool      // between opened and closed
	unsaid  []message // `ended` and `unsubscribe` that the session's full queue refused; at most maxUnsaid
}

// maxUnsaid bounds the messages that wait for another try on one session.
const maxUnsaid = 4096

// route says where the packets of one id go.
type route struct {
	supply *supply
	track  uint8 // of the source
}

// opened is called when a session is up, before anything arrives on it.
func (h *Hub) opened(l Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.linkOf(l).open = true
}

// linkOf returns the state of a session, made if it is new. Caller holds mu.
func (h *Hub) linkOf(l Link) *peerLink {
	links := *h.links.Load()
	if pl := links[l]; pl != nil {
		return pl
	}
	pl := &peerLink{
		link: l, pending: map[uint32]*attempt{}, feeds: map[uint32]*supply{},
		serves: map[uint32]*outlet{}, usedIDs: map[uint16]struct{}{},
	}
	pl.routes.Store(&map[uint16]route{})
	links = maps.Clone(links)
	links[l] = pl
	h.links.Store(&links)
	return pl
}

// forget drops the state of a session that is neither open nor in use. A subscriber may meet a session whose
// end was already reported; without this its state would stay for ever. Caller holds mu.
func (h *Hub) forget(pl *peerLink) {
	if pl.open || len(pl.pending)+len(pl.feeds)+len(pl.serves) > 0 {
		return
	}
	links := maps.Clone(*h.links.Load())
	delete(links, pl.link)
	h.links.Store(&links)
}

// closed is called once when a session is gone: its subscribers leave, its feeds look for another source.
func (h *Hub) closed(l Link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pl := (*h.links.Load())[l]
	if pl == nil {
		return
	}
	pl.open, pl.unsaid = false, nil
	pl.routes.Store(&map[uint16]route{})
	for _, o := range pl.serves {
		h.unserve(pl, o)
	}
	for _, s := range pl.feeds {
		h.endSupply(s, causeLost)
	}
	for _, a := range pl.pending {
		a.answer(message{Type: msgRefused, Reason: reasonSessionLost})
	}
	clear(pl.pending)
	h.forget(pl)
}

// packet is the receive path: one RTP packet of a peer, valid during the call. No lock is taken.
func (h *Hub) packet(l Link, id uint16, p []byte) {
	pl := (*h.links.Load())[l]
	if pl == nil {
		h.count.unknownID.Add(1)
		return
	}
	r, ok := (*pl.routes.Load())[id]
	if !ok {
		h.count.unknownID.Add(1)
		return
	}
	h.count.packetsIn.Add(1)
	r.supply.deliver(int(r.track), p)
}

// message handles one message of a peer. Rubbish is counted and refused, never more.
func (h *Hub) message(l Link, b []byte) {
	m, err := decodeMessage(b)
	if err != nil {
		h.count.badMessages.Add(1)
		h.log.Debug("bad message from a peer", "peer", h.nameOf(l.Peer()), "err", err)
		if m.Type == msgSubscribe {
			h.refuse(l, m.Ref, reasonInvalid)
		}
		return
	}
	switch m.Type {
	case msgSubscribe:
		h.serve(l, m)
	case msgUnsubscribe:
		h.handleUnsubscribe(l, m)
	case msgKeyframe:
		h.handleKeyframe(l, m)
	case msgSubscribed, msgRefused:
		h.handleAnswer(l, m)
	case msgEnded:
		h.handleEnded(l, m)
	case msgMoved:
		h.handleMoved(l, m)
	}
}

// nameOf returns a peer's name for logs.
func (h *Hub) nameOf(id braid.NodeID) string {
	if name, ok := h.cfg.Name(id); ok {
		return name
	}
	return "unknown"
}

// tell queues a message that the peer must not miss: without `ended` its viewers would wait before a still picture,
// without `unsubscribe` media would flow for nobody. What the session's queue refuses is said at the registrar's next
// round. Caller holds mu.
func (h *Hub) tell(pl *peerLink, m message) {
	if h.send(pl.link, m) != nil && pl.open && len(pl.unsaid) < maxUnsaid {
		pl.unsaid = append(pl.unsaid, m)
	}
}

// retell tries what tell could not say.
func (h *Hub) retell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pl := range *h.links.Load() {
		for len(pl.unsaid) > 0 && h.send(pl.link, pl.unsaid[0]) == nil {
			pl.unsaid = pl.unsaid[1:]
		}
	}
}

// send queues a message; a failure is counted. Requests that miss their peer are repeated by those who ask.
func (h *Hub) send(l Link, m message) error {
	err := l.SendMessage(m.encode())
	if err != nil {
		h.count.messagesLost.Add(1)
	}
	return err
}
