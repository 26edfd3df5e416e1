package media

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
)

const (
	// subscribeTimeout bounds one try at one holder of a stream: session and answer.
	subscribeTimeout = 5 * time.Second
	// maxFeedsPerLink bounds what this node subscribes to at one peer under one fence.
	maxFeedsPerLink = 4096
)

// errTracks: a source was found, but with tracks that the viewers did not negotiate.
var errTracks = errors.New("tracks of the stream changed")

// cause says why a supply ended.
type cause uint8

const (
	causeLost     cause = iota // session gone or source unreachable: look again, for long
	causeReplaced              // another publisher took over: look again, for long
	causeEnded                 // the publisher left: look once whether it moved
	causePolicy                // the app is not allowed any more
	causeIdle                  // nobody watches
)

// String names the cause for logs.
func (c cause) String() string {
	return [...]string{"lost", "replaced", "ended", "policy", "idle"}[c]
}

// causeOf translates the reason that a source gave. A source that stops is a lost one: its publisher is about to
// appear elsewhere. A fence that changed is found anew under the new one.
func causeOf(reason string) cause {
	switch reason {
	case reasonReplaced:
		return causeReplaced
	case reasonShutdown, reasonFence:
		return causeLost
	}
	return causeEnded
}

// ending is how a source ended, and which one, so that its registration, which lives a little longer, is not
// taken for a new one.
type ending struct {
	cause      cause
	reason     string
	node       string
	generation uint64
	later      bool // it may not have ended: only a later claim, at another node, takes its place
}

// excludes says whether a registration is the source that ended by its publisher's will, or is no later claim where it must be.
func (e ending) excludes(r Registration) bool {
	return r.Generation <= e.generation && (e.later || e.cause == causeEnded && r.Node == e.node)
}

// supply is the source of a watch: a local publication, or a subscription at a peer.
type supply struct {
	watch      *watch
	node       string
	generation uint64
	remap      []int8 // source track → viewers' track or -1; immutable

	pub *Publication // local, or
	out *outlet      // its place in pub
	// remote:
	link Link
	ref  uint32
	ids  []uint16

	flowed atomic.Uint32   // viewers' tracks that carried a packet
	first  []uint16        // of the tracks in flowed: the first packet's sequence number, written before its bit is set
	newest []atomic.Uint32 // of all tracks: the newest packet's
	moved  chan struct{}   // capacity 1: the source says that the stream is elsewhere too
	quiet  chan struct{}   // capacity 1: nothing comes, see silence.go

	heard   uint64 // guarded by Hub.mu: sum of newest when it was looked last,
	heardOf uint32 // guarded by Hub.mu: and flowed
	still   int    // guarded by Hub.mu: how often in a row nothing had come since

	done   chan struct{} // closed at the end
	over   bool          // guarded by Hub.mu
	ending ending        // written before done is closed
}

// deliver gives one packet to all local viewers. Packet path: no lock, no allocation.
func (s *supply) deliver(track int, packet []byte) {
	v := s.remap[track]
	if v < 0 {
		return
	}
	w := s.watch
	bit := uint32(1) << v
	if w.flow.Load()&bit == 0 {
		w.flow.Or(bit)
	}
	if len(packet) >= 4 { // RTP's sequence number
		s.count(v, bit, binary.BigEndian.Uint16(packet[2:]))
	}
	sinks := load(&w.sinks)
	for _, sub := range sinks {
		sub.sink.Write(int(v), packet)
	}
	if len(sinks) > 0 {
		w.hub.count.packetsOut.Add(uint64(len(sinks)))
	}
}

// count notes how far a viewers' track has come. One goroutine delivers a track's packets.
func (s *supply) count(v int8, bit uint32, seq uint16) {
	if s.flowed.Load()&bit == 0 {
		s.first[v] = seq
		s.newest[v].Store(uint32(seq))
		s.flowed.Or(bit)
	} else if int16(seq-uint16(s.newest[v].Load())) > 0 {
		s.newest[v].Store(uint32(seq))
	}
}

// caughtUp tells whether a source has brought what lies before the first packets of the next one, which counts on from it. Of
// numbers that are far apart nothing is known: they may be another numbering.
func (s *supply) caughtUp(next *supply) bool {
	both := s.flowed.Load() & next.flowed.Load()
	for v := range s.newest {
		if both&(1<<v) == 0 {
			continue // its first may be written just now
		}
		if behind := int16(next.first[v] - uint16(s.newest[v].Load())); behind > 1 && behind <= catchUpMost {
			return false
		}
	}
	return true
}

// requestKeyframe asks the source for keyframes of the viewers' tracks in mask.
func (s *supply) requestKeyframe(mask uint32) {
	var local uint32
	for track, v := range s.remap {
		if v < 0 || mask&(1<<v) == 0 {
			continue
		}
		if s.link == nil {
			local |= 1 << track
			continue
		}
		s.watch.hub.count.keyframes.Add(1)
		_ = s.watch.hub.send(s.link, message{Type: msgKeyframe, Ref: s.ref, Track: track}) // counted there
	}
	if s.link == nil {
		s.pub.requestKeyframe(local)
	}
}

// attempt is a subscribe message that waits for its answer.
type attempt struct {
	watch      *watch
	node       string
	generation uint64
	result     chan any // capacity 1: *supply, or the refusing message
}

func (a *attempt) answer(m message) {
	select {
	case a.result <- m:
	default:
	}
}

// adopt makes s the watch's source. The first one decides the tracks. Caller holds Hub.mu.
func (w *watch) adopt(s *supply, tracks []Track) bool {
	first := w.tracks == nil
	if first {
		w.tracks = tracks
	}
	remap, ok := matchTracks(w.tracks, tracks)
	if !ok {
		return false
	}
	s.watch, s.remap, s.done, s.moved = w, remap, make(chan struct{}), make(chan struct{}, 1)
	s.quiet = make(chan struct{}, 1)
	s.first, s.newest = make([]uint16, len(w.tracks)), make([]atomic.Uint32, len(w.tracks))
	w.current = s
	w.flow.Store(0)
	if !first {
		for _, sub := range load(&w.sinks) {
			if sw, ok := sub.sink.(Switcher); ok {
				sw.Switched()
			}
		}
	}
	return true
}

// find returns a source for the watch: the local publication, or the first holder in the directory that serves
// it.
func (w *watch) find(ctx context.Context, past ending) (*supply, error) {
	if s, err := w.findLocal(past); s != nil || err != nil {
		return s, err
	}
	found, err := w.hub.lookup(ctx, w.key.room())
	if err != nil {
		return nil, err
	}
	err = found.absent()
	for _, r := range holdersOf(found.regs, w.key.Stream) {
		if past.excludes(r) || r.Node == w.hub.cfg.Self {
			continue
		}
		s, failed := w.subscribeAt(ctx, r)
		if failed == nil {
			return s, nil
		}
		if errors.Is(failed, errTracks) {
			return nil, failed
		}
		w.hub.count.attemptsFailed.Add(1)
		w.hub.log.Debug("holder did not serve", "stream", w.key.String(), "node", r.Node, "err", failed)
		err = fmt.Errorf("%w: %w", ErrUnavailable, failed)
		if s, localErr := w.findLocal(past); s != nil || localErr != nil {
			return s, localErr // the publisher came here meanwhile
		}
	}
	if s, localErr := w.findLocal(past); s != nil || localErr != nil {
		return s, localErr
	}
	return nil, err
}

// findLocal takes the stream from a publication of this node, if there is one.
func (w *watch) findLocal(past ending) (*supply, error) {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.pubs[w.key]
	if p == nil || past.excludes(Registration{Node: h.cfg.Self, Generation: p.generation}) {
		return nil, nil
	}
	s := &supply{node: h.cfg.Self, generation: p.generation, pub: p}
	if !w.adopt(s, p.tracks) {
		return nil, errTracks
	}
	s.out = &outlet{supply: s, pub: p}
	p.out.add(s.out)
	if p.successor != 0 {
		poke(s.moved)
	}
	return s, nil
}

// subscribeAt asks one holder for the stream.
func (w *watch) subscribeAt(ctx context.Context, r Registration) (_ *supply, err error) {
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	h := w.hub
	ctx, s := h.span(ctx, "subscribe at source", w.key, attribute.String("tern.peer", r.Node))
	defer func() { done(s, err) }()
	h.mu.Lock()
	w.abort = cancel
	h.mu.Unlock()
	peer, ok := h.cfg.NodeID(r.Node)
	if !ok {
		return nil, fmt.Errorf("node %s is not a member", r.Node)
	}
	fence, ok := h.cfg.Fence(w.key.App)
	if !ok {
		return nil, ErrNotAllowed
	}
	link, err := h.cfg.Braid.Session(ctx, peer, fence)
	if err != nil {
		return nil, fmt.Errorf("session to %s: %w", r.Node, err)
	}
	if link.Fence() != fence {
		return nil, fmt.Errorf("session to %s has fence %08x, want %08x", r.Node, link.Fence(), fence)
	}
	return w.negotiate(ctx, link, r)
}

// negotiate sends `subscribe` and waits for the answer.
func (w *watch) negotiate(ctx context.Context, link Link, r Registration) (*supply, error) {
	h := w.hub
	a := &attempt{watch: w, node: r.Node, generation: r.Generation, result: make(chan any, 1)}
	ref := h.refs.Add(1)
	h.mu.Lock()
	pl := h.linkOf(link)
	if len(pl.feeds)+len(pl.pending) >= maxFeedsPerLink {
		h.mu.Unlock()
		return nil, fmt.Errorf("%w: %d subscriptions at %s", ErrLimit, maxFeedsPerLink, r.Node)
	}
	pl.pending[ref] = a
	h.mu.Unlock()
	err := h.send(link, message{
		Type: msgSubscribe, Ref: ref, App: w.key.App, Channel: w.key.Channel, Stream: w.key.Stream, Trace: traceOf(ctx),
	})
	if err == nil {
		select {
		case got := <-a.result:
			return settled(got)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(pl.pending, ref)
	select { // the answer may have come while the lock was taken
	case got := <-a.result:
		return settled(got)
	default:
	}
	h.tell(pl, message{Type: msgUnsubscribe, Ref: ref})
	h.forget(pl)
	return nil, fmt.Errorf("subscribe at %s: %w", r.Node, err)
}

func settled(got any) (*supply, error) {
	switch v := got.(type) {
	case *supply:
		return v, nil
	case error:
		return nil, v
	case message:
		return nil, fmt.Errorf("refused: %.64q", v.Reason)
	}
	panic(fmt.Sprintf("media: attempt settled with %T", got))
}

// handleAnswer takes a source's `subscribed` or `refused`. The routes are in place before the session delivers
// anything that it received later.
func (h *Hub) handleAnswer(l Link, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pl := (*h.links.Load())[l]
	if pl == nil || pl.pending[m.Ref] == nil {
		return // too late; the unsubscribe is on its way
	}
	a := pl.pending[m.Ref]
	delete(pl.pending, m.Ref)
	if m.Type == msgRefused {
		a.answer(m)
		return
	}
	routes := maps.Clone(*pl.routes.Load())
	s := &supply{node: a.node, generation: max(a.generation, m.Generation), link: l, ref: m.Ref, ids: m.IDs}
	for track, id := range m.IDs {
		if _, taken := routes[id]; taken {
			h.count.badMessages.Add(1)
			a.result <- fmt.Errorf("%w: id %d is in use", ErrInvalid, id)
			h.tell(pl, message{Type: msgUnsubscribe, Ref: m.Ref})
			return
		}
		routes[id] = route{s, uint8(track)}
	}
	if !a.watch.adopt(s, m.Tracks) {
		a.result <- errTracks
		h.tell(pl, message{Type: msgUnsubscribe, Ref: m.Ref})
		return
	}
	pl.feeds[m.Ref] = s
	pl.routes.Store(&routes)
	a.result <- s
}

// handleEnded takes a source's word that a subscription is over.
func (h *Hub) handleEnded(l Link, m message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pl := (*h.links.Load())[l]
	if pl == nil || pl.feeds[m.Ref] == nil {
		return
	}
	h.endSupplyFor(pl.feeds[m.Ref], causeOf(m.Reason), m.Reason)
}

// endWatchSupply ends a watch's source, if it has one, and tells the source. Caller holds mu.
func (h *Hub) endWatchSupply(w *watch, c cause) {
	if s := w.current; s != nil {
		h.letGo(s, c)
	}
}

// letGo ends a source, and tells it. Caller holds mu.
func (h *Hub) letGo(s *supply, c cause) {
	if s.link != nil && !s.over {
		if pl := (*h.links.Load())[s.link]; pl != nil {
			h.tell(pl, message{Type: msgUnsubscribe, Ref: s.ref})
		}
	}
	h.endSupply(s, c)
}

// leave ends the source of a watch that does not need it any more.
func (h *Hub) leave(w *watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.endWatchSupply(w, causeIdle)
}

// endSupply is endSupplyFor with the cause's own name as the reason. Caller holds mu.
func (h *Hub) endSupply(s *supply, c cause) { h.endSupplyFor(s, c, reasonClosed) }

// endSupplyFor detaches a source from its watch and wakes the watch. Caller holds mu.
func (h *Hub) endSupplyFor(s *supply, c cause, reason string) {
	if s.over {
		return
	}
	s.over = true
	s.ending = ending{cause: c, reason: reason, node: s.node, generation: s.generation}
	close(s.done)
	if s.watch.current == s {
		s.watch.current = nil
	}
	if s.link == nil {
		s.pub.out.remove(s.out)
		return
	}
	pl := (*h.links.Load())[s.link]
	if pl == nil {
		return
	}
	delete(pl.feeds, s.ref)
	routes := maps.Clone(*pl.routes.Load())
	for _, id := range s.ids {
		delete(routes, id)
	}
	pl.routes.Store(&routes)
	h.forget(pl)
}
