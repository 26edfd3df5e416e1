package media

import (
	"slices"

	"github.com/ternmesh/tern/media/braid"
)

// Bounds of what one peer may ask of this node.
const (
	maxServesPerLink = 4096 // subscriptions of one peer under one fence
	maxIDsPerLink    = 16384
)

// Reasons of a refusal.
const (
	reasonInvalid     = "invalid"
	reasonFence       = "fence"    // the session's fence is not the app's
	reasonNotLive     = "not live" // not published here
	reasonRefInUse    = "ref in use"
	reasonFull        = "full"
	reasonSessionLost = "session lost" // local only
)

// serve answers a peer that subscribes to a publication of this node. The session's fence must be the app's:
// media leaves on that session, so a wrong fence would carry it where the policy forbids.
func (h *Hub) serve(l Link, m message) {
	fence, ok := h.cfg.Fence(m.App)
	if !ok || fence != l.Fence() || !h.allowed(m.App) {
		h.traceServe(l, m, reasonFence)
		h.refuse(l, m.Ref, reasonFence)
		return
	}
	o, reason := h.serveLocked(l, m)
	h.traceServe(l, m, reason)
	if reason != "" {
		h.refuse(l, m.Ref, reason)
		return
	}
	// The policy may have changed meanwhile, and its Refresh have passed by.
	if now, ok := h.cfg.Fence(m.App); o != nil && (!ok || now != fence) {
		h.mu.Lock()
		h.endServe(o, reasonFence)
		h.mu.Unlock()
	}
}

// serveLocked adds the peer to the publication. No outlet and no reason: the peer could not be answered.
func (h *Hub) serveLocked(l Link, m message) (o *outlet, refused string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pubs[m.key()]
	pl := (*h.links.Load())[l]
	switch {
	case pl == nil || !pl.open:
		return nil, reasonSessionLost
	case p == nil:
		return nil, reasonNotLive
	case pl.serves[m.Ref] != nil:
		return nil, reasonRefInUse
	case len(pl.serves) >= maxServesPerLink || len(pl.usedIDs)+len(p.tracks) > maxIDsPerLink:
		return nil, reasonFull
	}
	o = &outlet{link: l, ref: m.Ref, pub: p}
	for _, t := range p.tracks {
		o.ids = append(o.ids, pl.allocate())
		o.class = append(o.class, t.class())
	}
	// The answer is queued before the first packet, so it usually arrives first.
	answer := message{Type: msgSubscribed, Ref: m.Ref, IDs: o.ids, Tracks: p.tracks, Generation: p.generation}
	if h.send(l, answer) != nil {
		pl.release(o.ids)
		return nil, ""
	}
	pl.serves[m.Ref] = o
	p.out.add(o)
	h.serving++
	p.requestKeyframe(videoMask(p.tracks))
	if p.successor != 0 { // who asked had not heard of it
		h.tell(pl, message{Type: msgMoved, Ref: m.Ref})
	}
	return o, ""
}

// refuse tells a peer no, with a reason, and counts it.
func (h *Hub) refuse(l Link, ref uint32, reason string) {
	h.count.refused.Add(1)
	h.log.Debug("subscription of a peer refused", "peer", h.nameOf(l.Peer()), "reason", reason)
	_ = h.send(l, message{Type: msgRefused, Ref: ref, Reason: reason}) // counted there
}

// allocate returns an id that no subscription of this session uses. Ids go round, so that late packets of an
// ended subscription do not land in a new one. The caller has checked that one is free.
func (pl *peerLink) allocate() uint16 {
	for {
		pl.nextID++
		if _, used := pl.usedIDs[pl.nextID]; !used {
			pl.usedIDs[pl.nextID] = struct{}{}
			return pl.nextID
		}
	}
}

func (pl *peerLink) release(ids []uint16) {
	for _, id := range ids {
		delete(pl.usedIDs, id)
	}
}

// unserve ends a peer's subscription without a word. Caller holds mu.
func (h *Hub) unserve(pl *peerLink, o *outlet) {
	delete(pl.serves, o.ref)
	pl.release(o.ids)
	o.pub.out.remove(o)
	h.serving--
}

// endServe tells a peer that its subscription has ended. Caller holds mu.
func (h *Hub) endServe(o *outlet, reason string) {
	pl := (*h.links.Load())[o.link]
	if pl == nil || pl.serves[o.ref] != o {
		return
	}
	h.unserve(pl, o)
	h.tell(pl, message{Type: msgEnded, Ref: o.ref, Reason: reason})
}

func (h *Hub) handleUnsubscribe(l Link, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pl := (*h.links.Load())[l]; pl != nil && pl.serves[m.Ref] != nil {
		h.unserve(pl, pl.serves[m.Ref])
	}
}

func (h *Hub) handleKeyframe(l Link, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pl := (*h.links.Load())[l]
	if pl == nil || pl.serves[m.Ref] == nil {
		return // the subscription has just ended
	}
	pl.serves[m.Ref].pub.requestKeyframe(1 << m.Track)
}

// evict ends the subscriptions of peers whose session no longer has the app's fence. fences holds what the
// policy says now about apps; an app that it lacks is not allowed. Caller holds mu.
func (h *Hub) evict(fences map[string]braid.FenceID, apps map[string]bool) {
	for _, p := range h.pubs {
		if !apps[p.key.App] {
			continue
		}
		fence, ok := fences[p.key.App]
		for _, o := range slices.Clone(load(&p.out.list)) {
			if o.link != nil && (!ok || o.link.Fence() != fence) {
				h.endServe(o, reasonFence)
			}
		}
	}
}
