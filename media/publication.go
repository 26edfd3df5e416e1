package media

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/media/braid"
)

// maxPublications bounds the streams that enter at one node.
const maxPublications = 4096

// Reasons of an end, as publishers and viewers see them. They are short names, not sentences, and name nobody.
const (
	reasonClosed   = "closed"         // the publisher left
	reasonReplaced = "replaced"       // another publisher took the stream id over
	reasonPolicy   = "policy"         // the app is not allowed here any more
	reasonShutdown = "shutdown"       // this node stops
	reasonTracks   = "tracks changed" // the stream came back with tracks that viewers did not negotiate
	reasonLost     = "source lost"    // no source could be found again in time
)

// Publication is a stream that enters the mesh at this node. Safe for concurrent use, but the packets of one
// track should come from one goroutine, or their order is lost.
type Publication struct {
	hub        *Hub
	key        Key
	tracks     []Track // immutable
	generation uint64  // grows with every takeover of the key, compares between nodes
	since      time.Time
	keyframe   func(track int)
	successor  uint64 // the highest generation of a later claim at another node; guarded by Hub.mu

	out    fanout
	copies atomic.Uint32 // a braid.Class, added to the class of what is sent to peers
	ended  atomic.Bool
	done   chan struct{} // closed at the end
	reason string        // written before done is closed

	wanted atomic.Uint32 // tracks that somebody wants a keyframe of
	wake   chan struct{} // capacity 1: wanted changed
}

// MayPublish says why Publish would refuse a stream now, nil if it would not. It changes nothing and tells nobody: an edge asks
// it when a publisher comes, and publishes once the publisher's media can flow. Errors: those of Publish.
func (h *Hub) MayPublish(key Key, tracks []Track) error {
	err := errors.Join(checkKey(key), checkTracks(tracks))
	if err == nil && !h.allowed(key.App) {
		err = ErrNotAllowed
	}
	if err == nil {
		h.mu.Lock()
		err = h.admits(key)
		h.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", key, err)
	}
	return nil
}

// admits says why the node takes no publication of a key, nil if it does. Caller holds mu.
func (h *Hub) admits(key Key) error {
	switch {
	case h.closing:
		return ErrClosed
	case h.pubs[key] == nil && len(h.pubs) >= maxPublications:
		return fmt.Errorf("%w: %d publications", ErrLimit, maxPublications)
	}
	return nil
}

// Publish announces a stream that enters here. Several streams may share a channel. A second Publish of the
// same key takes the stream over: the older publication ends with reason "replaced" and viewers move to the
// new one if its tracks match. keyframe asks the publisher for a keyframe of a video track; it is called from a
// goroutine of the publication, at most twice a second for each track, and may be nil.
//
// Errors: ErrInvalid, ErrNotAllowed, ErrLimit, ErrClosed.
func (h *Hub) Publish(key Key, tracks []Track, keyframe func(track int)) (*Publication, error) {
	if err := h.MayPublish(key, tracks); err != nil {
		return nil, err
	}
	if keyframe == nil {
		keyframe = func(int) {}
	}
	now := time.Now()
	p := &Publication{
		hub: h, key: key, tracks: slices.Clone(tracks), keyframe: keyframe, since: now,
		generation: uint64(now.UnixMilli()), done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	p.copies.Store(uint32(h.copiesOf(key.App)))
	if err := h.enlist(p); err != nil {
		return nil, fmt.Errorf("publish %s: %w", key, err)
	}
	if !h.allowed(key.App) { // the policy changed meanwhile, and its Refresh may have passed by
		p.end(reasonPolicy)
		return nil, fmt.Errorf("publish %s: %w", key, ErrNotAllowed)
	}
	h.log.Info("stream published", slog.String("stream", key.String()), slog.Uint64("generation", p.generation))
	return p, nil
}

func (h *Hub) copiesOf(app string) braid.Class {
	if h.cfg.Copies == nil {
		return 0
	}
	return h.cfg.Copies(app)
}

// enlist makes a publication the one of its key.
func (h *Hub) enlist(p *Publication) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.admits(p.key); err != nil { // asked again: another may have taken the last place
		return err
	}
	if old := h.pubs[p.key]; old != nil {
		// The stream goes on, so its age does too.
		p.generation, p.since = max(p.generation, old.generation+1), old.since
		h.endPublication(old, reasonReplaced)
	}
	h.pubs[p.key] = p
	h.spawnLocked(p.run)
	h.spawnLocked(p.announce)
	h.changed(p.key)
	if w := h.watches[p.key]; w != nil && w.current != nil && w.current.generation < p.generation {
		poke(w.current.moved) // viewers here need not be told from there
	}
	return nil
}

// Key returns what is published.
func (p *Publication) Key() Key { return p.key }

// Generation returns the publication's generation.
func (p *Publication) Generation() uint64 { return p.generation }

// Done is closed when the publication has ended: closed, replaced, or by policy. Reason then says which.
func (p *Publication) Done() <-chan struct{} { return p.done }

// Reason returns why the publication ended, "" while it lives.
func (p *Publication) Reason() string {
	select {
	case <-p.done:
		return p.reason
	default:
		return ""
	}
}

// Write hands one RTP packet of a track to all local viewers and all subscribed nodes, unchanged. The packet is
// not kept after the return. It never blocks on the network; it runs the Sinks of local viewers. An unknown
// track, a packet that is empty or longer than MaxPacketBytes, and a publication that has ended are counted and
// ignored.
func (p *Publication) Write(track int, packet []byte) {
	c := &p.hub.count
	switch {
	case p.ended.Load():
		c.afterEnd.Add(1)
		return
	case uint(track) >= uint(len(p.tracks)) || len(packet) == 0 || len(packet) > MaxPacketBytes:
		c.badPackets.Add(1)
		return
	}
	c.packetsIn.Add(1)
	sent, copies := uint64(0), braid.Class(p.copies.Load())
	for _, o := range load(&p.out.list) {
		if o.supply != nil {
			o.supply.deliver(track, packet)
			continue
		}
		if why := o.link.Send(o.ids[track], o.class[track]|copies, packet); why != 0 {
			c.drop(why)
			continue
		}
		sent++
	}
	if sent != 0 {
		c.packetsOut.Add(sent)
	}
}

// Close ends the stream: viewers everywhere get Ended unless another publication of the same key lives. It may
// be called twice.
func (p *Publication) Close() { p.end(reasonClosed) }

func (p *Publication) end(reason string) {
	p.hub.mu.Lock()
	defer p.hub.mu.Unlock()
	p.hub.endPublication(p, reason)
}

// endPublication takes a publication off the node. Caller holds mu.
func (h *Hub) endPublication(p *Publication, reason string) {
	if p.ended.Swap(true) {
		return
	}
	p.reason = reason
	close(p.done)
	if h.pubs[p.key] == p {
		delete(h.pubs, p.key)
	}
	for _, o := range load(&p.out.list) {
		if o.supply != nil {
			h.endSupplyFor(o.supply, causeOf(reason), reason)
			continue
		}
		h.endServe(o, reason)
	}
	store(&p.out.list, nil)
	h.ended(p)
	h.log.Info("stream ended", "stream", p.key.String(), "reason", reason)
}

// requestKeyframe asks for keyframes of the tracks in mask. Never blocks.
func (p *Publication) requestKeyframe(mask uint32) {
	if mask &= videoMask(p.tracks); mask == 0 {
		return
	}
	p.wanted.Or(mask)
	poke(p.wake)
}

// run owns the keyframe gate and is the only caller of keyframe, so a publisher that takes its time delays
// nobody else.
func (p *Publication) run(ctx context.Context) {
	var gate keygate
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		gate.request(p.wanted.Swap(0))
		for mask := gate.due(time.Now()); mask != 0; mask &= mask - 1 {
			p.hub.count.keyframes.Add(1)
			p.keyframe(bits.TrailingZeros32(mask))
		}
		wait, ok := gate.next(time.Now())
		if !ok {
			wait = time.Hour
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-p.done:
			return
		case <-p.wake:
		case <-timer.C:
		}
	}
}

// poke wakes the reader of a capacity-1 channel.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
