package media

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

const (
	// lingerTime is how long a source is kept after the last viewer left: a viewer who reloads finds it warm.
	lingerTime = 3 * time.Second
	// A watch that lost its source tries again after retryMin, then at growing intervals up to retryMax.
	retryMin = 250 * time.Millisecond
	retryMax = 5 * time.Second
	// soonFor is how long the intervals grow to retrySoon only: a publisher whose node died is elsewhere after some seconds.
	soonFor   = 30 * time.Second
	retrySoon = time.Second
	// orphanPatience is how long viewers of a lost source are kept waiting before they get Ended.
	orphanPatience = 2 * time.Minute
)

// watch is all of a node's interest in one stream: its local viewers and the one source that feeds them.
//
//	            found                    lost, replaced
//	looking ─────────────▶ watching ─────────────────────▶ searching ──┐ backoff
//	   │ nothing             │   ▲                           │   ▲ └────┘
//	   ▼                     │   └─────── found again ───────┘   │
//	viewers get an error     │ ended by the publisher: one more lookup (it may have moved)
//	                         ▼
//	                  no viewer for lingerTime, policy, shutdown, nothing found: gone
//
// The goroutine run owns the state; Hub.mu guards what others touch.
type watch struct {
	hub   *Hub
	key   Key
	ready chan struct{}     // closed when tracks or err is set
	cause trace.SpanContext // of the first viewer's join; set before run

	// Packet path.
	sinks  atomic.Pointer[[]*Subscription] // copy-on-write under Hub.mu
	flow   atomic.Uint32                   // tracks that carried a packet since the last keyframe request
	wanted atomic.Uint32                   // tracks that viewers want a keyframe of

	wake  chan struct{} // capacity 1: wanted or the viewers changed
	nudge chan struct{} // capacity 1: a new try may succeed

	// Guarded by Hub.mu; tracks is immutable once ready is closed.
	tracks    []Track
	err       error
	waiting   int // viewers that wait for ready
	idleSince time.Time
	current   *supply
	abort     context.CancelFunc // ends the running try at a holder
	revoked   bool               // by policy
	gone      bool               // not in Hub.watches any more
}

func newWatch(h *Hub, key Key) *watch {
	return &watch{
		hub: h, key: key, ready: make(chan struct{}), wake: make(chan struct{}, 1), nudge: make(chan struct{}, 1),
	}
}

// idle says whether nobody watches or waits. Caller holds Hub.mu.
func (w *watch) idle() bool { return w.waiting == 0 && len(load(&w.sinks)) == 0 }

// requestKeyframe notes that viewers want keyframes of the tracks in mask. A track's flow is forgotten, so that
// the request is repeated if nothing comes at all.
func (w *watch) requestKeyframe(mask uint32) {
	if mask == 0 {
		return
	}
	w.flow.And(^mask)
	w.wanted.Or(mask)
	poke(w.wake)
}

// run finds a source, holds it, finds another when it is lost, until the watch is gone.
func (w *watch) run(ctx context.Context) {
	var (
		announced bool
		past      ending    // how the last source ended
		lostAt    time.Time // when viewers were left without a source
		backoff   = retryMin
	)
	for {
		s, err := w.traced(ctx, announced, past)
		if reason, why := w.mustStop(ctx); reason != "" {
			w.hub.leave(w)
			w.end(reason, why)
			return
		}
		switch {
		case err == nil && !w.fenced(s):
			w.hub.leave(w)
		case err == nil:
			w.announce(s, announced)
			announced, backoff = true, retryMin
			if past = w.hold(ctx, s); past.cause == causeIdle {
				return
			}
			w.hub.log.Debug("source gone", "stream", w.key.String(), "node", s.node, "cause", past.cause.String())
			lostAt = time.Now()
			continue
		case !announced || past.cause == causeEnded || errors.Is(err, errTracks):
			w.end(endReason(err, past), err)
			return
		case time.Since(lostAt) > orphanPatience:
			w.end(reasonLost, err)
			return
		}
		if !w.pause(ctx, backoff) {
			return
		}
		if backoff = min(2*backoff, retryMax); time.Since(lostAt) < soonFor {
			backoff = min(backoff, retrySoon)
		}
	}
}

// traced is find with its trace: the first search belongs to the join that caused it, a later one stands for itself.
func (w *watch) traced(ctx context.Context, again bool, past ending) (*supply, error) {
	if !again {
		return w.find(trace.ContextWithSpanContext(ctx, w.cause), past)
	}
	ctx, s := w.hub.span(ctx, "find source again", w.key, attribute.String("tern.cause", past.cause.String()))
	found, err := w.find(ctx, past)
	done(s, err)
	return found, err
}

// endReason is what viewers are told when nothing could be found after the last source ended.
func endReason(err error, past ending) string {
	if errors.Is(err, errTracks) {
		return reasonTracks
	}
	return past.reason
}

// hurry has a watch without a source try at once, and not wait for the end of a try elsewhere. Caller holds Hub.mu.
func (w *watch) hurry() {
	poke(w.nudge)
	if w.abort != nil {
		w.abort()
	}
}

// pause waits before the next try; false when the last viewer's linger time passed meanwhile.
func (w *watch) pause(ctx context.Context, backoff time.Duration) bool {
	timer := time.NewTimer(time.Duration((0.75 + rand.Float64()/2) * float64(backoff))) // not all nodes at once
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.nudge:
	case <-timer.C:
	}
	return !w.retire(time.Now())
}

// announce makes a found source known: to those who wait, or to the viewers who get it as another source.
func (w *watch) announce(s *supply, again bool) {
	w.hub.log.Debug("source found", slog.String("stream", w.key.String()), slog.String("node", s.node))
	if !again {
		close(w.ready)
		return
	}
	w.hub.count.resubscribed.Add(1)
}

// hold stays with a source until it ends or nobody watches any more, and follows its publisher to another node. It sends the
// viewers' keyframe requests.
func (w *watch) hold(ctx context.Context, s *supply) ending {
	var ask asker
	w.greet(&ask, s)
	m := newHandover(w, s)
	defer m.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := time.Now()
		if w.retire(now) {
			return ending{cause: causeIdle}
		}
		step := m.step(now)
		send, wait, again := ask.step(now, w.wanted.Swap(0), w.flow.Load())
		if send != 0 {
			m.s.requestKeyframe(send)
		}
		if !again {
			wait = time.Hour
		}
		timer.Reset(min(wait, step, w.lingerLeft(now)))
		select {
		case <-ctx.Done():
			return ending{cause: causeLost}
		case <-m.s.done:
			if over := m.s.ending; !m.ended() {
				return over
			}
			w.greet(&ask, m.s)
		case <-m.s.moved:
			m.leave()
		case <-m.s.quiet:
			m.looks = true
		case next := <-m.found:
			if m.take(next, time.Now()) {
				w.greet(&ask, m.s)
			}
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// greet asks for the keyframes that a new source owes.
func (w *watch) greet(ask *asker, s *supply) {
	if s.link != nil {
		ask.expect(time.Now(), videoMask(w.tracks)) // the source asks its publisher for every new subscriber
	} else if len(load(&w.sinks)) > 0 { // who joins later has it asked for then
		w.requestKeyframe(videoMask(w.tracks))
	}
}

// lingerLeft is how long until an idle watch retires; an hour when somebody watches.
func (w *watch) lingerLeft(now time.Time) time.Duration {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if !w.idle() {
		return time.Hour
	}
	return max(0, w.idleSince.Add(lingerTime).Sub(now))
}

// retire takes the watch off the node if it has been idle for lingerTime.
func (w *watch) retire(now time.Time) bool {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	if !w.idle() || now.Sub(w.idleSince) < lingerTime {
		return false
	}
	w.remove()
	return true
}

// remove makes room for a new watch of the same stream. Caller holds Hub.mu.
func (w *watch) remove() {
	w.gone = true
	if w.hub.watches[w.key] == w {
		delete(w.hub.watches, w.key)
	}
}

// mustStop says whether the watch has to end, with the reason for viewers and the error for those who wait.
func (w *watch) mustStop(ctx context.Context) (reason string, err error) {
	if ctx.Err() != nil {
		return reasonShutdown, ErrClosed
	}
	w.hub.mu.Lock()
	revoked := w.revoked
	w.hub.mu.Unlock()
	if revoked || !w.hub.allowed(w.key.App) {
		return reasonPolicy, ErrNotAllowed
	}
	return "", nil
}

// fenced says whether a source's session still has the app's fence: a policy that changed while the source was
// found has not seen it.
func (w *watch) fenced(s *supply) bool {
	fence, ok := w.hub.cfg.Fence(w.key.App)
	return ok && (s.link == nil || s.link.Fence() == fence)
}

// end takes the watch off the node: those who wait get err, viewers get Ended with reason. Ended is called
// without a lock, so a viewer may close, or subscribe again, from within.
func (w *watch) end(reason string, err error) {
	h := w.hub
	h.mu.Lock()
	w.remove()
	select {
	case <-w.ready:
	default:
		w.err = err
		close(w.ready)
	}
	sinks := load(&w.sinks)
	store(&w.sinks, nil)
	for _, s := range sinks {
		s.closed = true
	}
	h.viewers -= len(sinks)
	h.mu.Unlock()
	for _, s := range sinks {
		s.sink.Ended(reason)
	}
}
