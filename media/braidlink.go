package media

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ternmesh/tern/media/braid"
)

var (
	_ braid.Handler = (*Hub)(nil)
	_ Link          = (*braid.Session)(nil)
	_ Braid         = (*BraidLinks)(nil)
)

// BraidLinks gives a Hub its sessions from a braid. A braid needs its Handler, the hub, when it is built, so the hub
// is built first, with an empty BraidLinks, and Bind completes the circle before either runs. The zero value is
// ready; safe for concurrent use.
type BraidLinks struct{ braid atomic.Pointer[braid.Braid] }

// Bind says where sessions come from.
func (b *BraidLinks) Bind(to *braid.Braid) { b.braid.Store(to) }

// Session implements Braid.
func (b *BraidLinks) Session(ctx context.Context, peer braid.NodeID, fence braid.FenceID) (Link, error) {
	bound := b.braid.Load()
	if bound == nil {
		return nil, errors.New("media: BraidLinks.Bind was not called")
	}
	s, err := bound.Session(ctx, peer, fence)
	if err != nil {
		return nil, err // a nil *braid.Session in a Link would not be nil
	}
	return s, nil
}

// Opened implements braid.Handler.
func (h *Hub) Opened(s *braid.Session) { h.opened(s) }

// Closed implements braid.Handler.
func (h *Hub) Closed(s *braid.Session, err error) {
	h.log.Debug("session closed", "peer", h.nameOf(s.Peer()), "err", err)
	h.closed(s)
}

// Packet implements braid.Handler.
func (h *Hub) Packet(s *braid.Session, stream uint16, packet []byte) { h.packet(s, stream, packet) }

// Message implements braid.Handler.
func (h *Hub) Message(s *braid.Session, message []byte) { h.message(s, message) }
