package media

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	// maxViewers bounds the local subscriptions of a node.
	maxViewers = 64 * 1024
	// maxWatches bounds the streams that a node has viewers of.
	maxWatches = 4096
)

// Sink is a viewer's side of a subscription: what receives packets here.
type Sink interface {
	// Write takes one RTP packet, valid during the call. It must not block and should take microseconds: it
	// runs on the goroutine that received the packet, so a sink that blocks delays the other viewers of the
	// same stream (and, for a remote stream, of the same session). It delays nothing else: no lock is held.
	// Packets come as the network delivered them: unchanged, without copies, not always in order.
	Write(track int, packet []byte)
	// Ended is called at most once, from a goroutine of the hub, when the stream has ended for this viewer and
	// not because of Close. A Write that began earlier may still be running.
	Ended(reason string)
}

// Switcher is a Sink that wants to know when its stream goes on from another source (the publisher came back,
// or moved): RTP sequence numbers, timestamps and SSRC start anew. Called before the first such packet (one of
// the old source may still be in flight), with a lock of the hub held: set a flag and return.
type Switcher interface{ Switched() }

// Asker is a Sink that asks for its keyframes itself, once it can take them. A keyframe that was made while it still
// connected would be lost to it, and hold up the next one. Any other Sink gets one asked for when it joins.
type Asker interface{ AsksItself() }

// Subscription is one viewer of one stream. Safe for concurrent use.
type Subscription struct {
	watch  *watch
	sink   Sink
	closed bool // guarded by Hub.mu
}

// Subscribe gives the packets of a stream to a sink until Close, or until the stream ends. An empty key.Stream
// means the stream of the channel that has been live longest. All viewers of a stream on this node share one
// subscription at its source, and each one that joins gets a keyframe as soon as the publisher can make it. When
// a source fails the stream is looked up again while viewers remain; they keep their sink.
//
// ctx bounds the wait for the first source, not the subscription. Errors: ErrInvalid, ErrNotAllowed, ErrNotLive,
// ErrUnavailable (try again), ErrLimit, ErrClosed, ctx's.
func (h *Hub) Subscribe(ctx context.Context, key Key, sink Sink) (*Subscription, error) {
	if sink == nil {
		return nil, fmt.Errorf("subscribe: %w: no sink", ErrInvalid)
	}
	if err := checkRoom(key.App, key.Channel); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if !h.allowed(key.App) {
		return nil, fmt.Errorf("subscribe: %w", ErrNotAllowed)
	}
	if key.Stream == "" {
		stream, err := h.longestLive(ctx, key.room())
		if err != nil {
			return nil, fmt.Errorf("subscribe %s: %w", key, err)
		}
		key.Stream = stream
	}
	if err := checkKey(key); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	for {
		w, err := h.join(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("subscribe %s: %w", key, err)
		}
		s, err := w.attend(ctx, sink)
		if err != nil {
			return nil, fmt.Errorf("subscribe %s: %w", key, err)
		}
		if s != nil {
			return s, nil
		}
		// The watch ended between join and attend: start another.
	}
}

// longestLive resolves an empty stream id.
func (h *Hub) longestLive(ctx context.Context, rm room) (string, error) {
	found, err := h.lookup(ctx, rm)
	if err != nil {
		return "", err
	}
	if len(found.regs) > 0 {
		return found.regs[0].Stream, nil
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return "", found.absent()
}

// absent is the error for a stream that a lookup did not find.
func (f found) absent() error {
	if f.conclusive() {
		return ErrNotLive
	}
	return fmt.Errorf("%w: %d of %d directory nodes answered", ErrUnavailable, f.answered, f.asked)
}

// join returns the watch of a stream, started if there is none, with a place taken for one viewer.
func (h *Hub) join(ctx context.Context, key Key) (*watch, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watches[key]
	switch {
	case h.closing:
		return nil, ErrClosed
	case h.viewers >= maxViewers:
		return nil, fmt.Errorf("%w: %d viewers", ErrLimit, maxViewers)
	case w == nil && len(h.watches) >= maxWatches:
		return nil, fmt.Errorf("%w: viewers of %d streams", ErrLimit, maxWatches)
	}
	if w == nil {
		w = newWatch(h, key)
		w.cause = trace.SpanContextFromContext(ctx)
		h.watches[key] = w
		h.spawnLocked(w.run)
	}
	w.waiting++
	return w, nil
}

// attend waits until the watch has found its stream and seats the viewer. nil, nil: the watch has ended since.
func (w *watch) attend(ctx context.Context, sink Sink) (*Subscription, error) {
	var err error
	select {
	case <-w.ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	w.waiting--
	switch {
	case err != nil:
		w.left()
		return nil, err
	case w.err != nil:
		return nil, w.err
	case w.gone:
		return nil, nil
	}
	s := &Subscription{watch: w, sink: sink}
	store(&w.sinks, append(slices.Clone(load(&w.sinks)), s))
	h.viewers++
	if _, itself := sink.(Asker); !itself {
		w.requestKeyframe(videoMask(w.tracks))
	}
	return s, nil
}

// Key returns what is watched, with the stream that an empty one was resolved to.
func (s *Subscription) Key() Key { return s.watch.key }

// Tracks returns the stream's tracks; their order is the meaning of Write's track. They never change.
func (s *Subscription) Tracks() []Track { return slices.Clone(s.watch.tracks) }

// RequestKeyframe asks the publisher for a keyframe of a video track. Requests of all viewers are coalesced, at
// most two a second go to the source. Never blocks; an unknown track is ignored.
func (s *Subscription) RequestKeyframe(track int) {
	if track >= 0 && track < len(s.watch.tracks) {
		s.watch.requestKeyframe(1 << track & videoMask(s.watch.tracks))
	}
}

// Close ends the subscription; Ended is not called. A Write that has begun may still be running. It may be called
// twice, and from within Write.
func (s *Subscription) Close() {
	w := s.watch
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	w.hub.viewers--
	store(&w.sinks, without(load(&w.sinks), s))
	w.left()
}

// left starts the linger time when the last viewer is gone. Caller holds Hub.mu.
func (w *watch) left() {
	if w.idle() {
		w.idleSince = time.Now()
		poke(w.wake)
	}
}
