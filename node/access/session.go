package access

import (
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/node/access/token"
)

// Kinds of session, as in paths, logs and counters.
const (
	kindWHIP = "whip"
	kindWHEP = "whep"
	kindRTP  = "rtp"

	kindRTPOut = "rtp_out"
)

// session is one client's connection. Fields without a guard are set before it is
// registered and not changed after.
type session struct {
	a            *Access
	id, kind     string
	app, channel string
	stream       string
	need         right
	source       netip.Prefix // of whom opened it
	holder       holder       // whose it is while half-open
	opened       time.Time
	pc           *webrtc.PeerConnection // nil for plain RTP
	viewer       *viewer                // of WHEP alone
	trace        *joinTrace             // nil: not recorded
	rate         allowance              // of what it publishes
	named        string                 // the user that its request named, "" if none
	streams      eventStreams
	gone         chan struct{} // closed when it ends

	once      sync.Once
	ended     atomic.Bool
	connected atomic.Bool  // plain RTP: the first packet is here
	heard     atomic.Int64 // plain RTP: when the last packet came, in nanoseconds since Access.began

	// negotiation serialises everything that talks to pc about SDP or ICE, and guards
	// the state of that talk.
	negotiation sync.Mutex
	etag        string
	remote      offer // the client's description in force; zero while counter is open
	ufrag       string
	trickled    map[string]bool // candidates of this ICE generation that came after its description
	restarts    *rate.Limiter   // of ICE generations
	renew       func()          // new credentials for the next ICE generation; nil without a peer

	mu      sync.Mutex // guards the rest
	pass    pass       // to ask again when the policy changes
	since   time.Time  // start of the half-open time
	counter bool       // a counter-offer waits for its answer
	closers []func()   // run in reverse when the session ends
}

// newSession prepares a session; it counts only once registered.
func (a *Access) newSession(kind string, j join, need right, expires time.Time) *session {
	j.pass.expires = expires
	id := randomID(16)
	if a.cfg.Self != "" {
		id = a.cfg.Self + "." + id
	}
	return &session{a: a, id: id, kind: kind, app: j.app, channel: j.channel, pass: j.pass, source: j.source, holder: a.holderOf(j), opened: a.now(),
		need: need, since: a.now(), etag: newETag(), trickled: map[string]bool{}, restarts: rate.NewLimiter(restartRate, restartBurst), gone: make(chan struct{})}
}

// randomID returns n random bytes in hex. With 16 bytes nobody guesses it.
func randomID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b)
}

// newETag names one ICE generation of a session, strongly.
func newETag() string { return `"` + randomID(8) + `"` }

// key names the session's stream.
func (s *session) key() media.Key {
	return media.Key{App: s.app, Channel: s.channel, Stream: s.stream}
}

// url is the session's URL: at this node's own base if that is known, else root-relative.
func (s *session) url() string {
	switch s.kind {
	case kindRTP:
		return s.a.cfg.URL + "/v1/rtp/" + s.id
	case kindRTPOut:
		return s.a.cfg.URL + "/v1/rtp-out/" + s.id
	}
	return s.a.cfg.URL + "/" + s.kind + "/s/" + s.id
}

// homeOf is the base URL of the node that a session id names, if that is another one.
func (a *Access) homeOf(id string) (string, bool) {
	node, _, named := strings.Cut(id, ".")
	if !named || node == a.cfg.Self {
		return "", false
	}
	return a.cfg.NodeURL(node)
}

// atEnd adds something to do when the session ends; at once if it has.
func (s *session) atEnd(f func()) {
	s.mu.Lock()
	if !s.ended.Load() {
		s.closers = append(s.closers, f)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	f()
}

// register makes the session reachable. It fails if the session ended meanwhile, if the
// node does, or if the policy changed during the join and admits it no longer.
func (a *Access) register(s *session) *problem {
	limits := a.app(s.app).Limits
	s.rate.limit.Store(int64(limits.PublisherBits))
	a.mu.Lock()
	full := limits.reached(s, a.sessions)
	var yields *session
	if full == nil {
		yields, full = a.halfOpen(s)
	}
	ok := a.running && !s.ended.Load() && full == nil
	if ok {
		a.sessions[s.id] = s
	}
	a.mu.Unlock()
	if ok && yields != nil {
		yields.end("half_open_yielded")
	}
	if full != nil {
		s.end("refused")
		return full
	}
	if !ok {
		s.end("not registered")
		return &problem{status: http.StatusServiceUnavailable, reason: "ended_early", detail: "try again", retryAfter: 2}
	}
	// A new policy is in force before Reauthorise is called. So one that came before this
	// question is seen here, and one that comes after it finds the session registered.
	if err := a.stillAdmitted(s, a.now()); err != nil {
		s.end("revoked: " + string(token.ReasonOf(err)))
		return refusal(err)
	}
	p := s.passport()
	if !a.used.take(s.app, p.id, p.expires) { // last: only a session that opens uses its token up
		s.end("replayed")
		return refusal(token.ReasonReplayed)
	}
	s.trace.session(s)
	a.log.Info("session opened", slog.String("kind", s.kind), slog.String("session", s.short()), slog.String("app", s.app),
		slog.String("channel", s.channel), slog.String("stream", s.stream), slog.Time("expires", p.expires))
	return nil
}

// short names a session in logs without giving its URL away.
func (s *session) short() string { return s.id[len(s.id)-32:][:8] }

// end closes the session, once, without waiting: callers may hold locks of media or be
// callbacks of the library.
func (s *session) end(reason string) {
	s.once.Do(func() {
		s.mu.Lock()
		s.ended.Store(true)
		closers := s.closers
		s.mu.Unlock()
		close(s.gone)
		s.a.mu.Lock()
		_, known := s.a.sessions[s.id]
		delete(s.a.sessions, s.id)
		s.a.mu.Unlock()
		s.trace.end(reason) // nothing, once media flowed
		if known {
			s.a.counts.ended(s.kind, reason)
			s.a.log.Info("session ended", slog.String("kind", s.kind), slog.String("session", s.short()), slog.String("reason", reason))
		}
		closeAll := func() {
			for _, f := range slices.Backward(closers) {
				f()
			}
		}
		if !s.a.spawn(closeAll) {
			closeAll()
		}
	})
}

// session finds a session of a kind, nil if there is none.
func (a *Access) session(kind, id string) *session {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.sessions[id]; s != nil && s.kind == kind {
		return s
	}
	return nil
}

// all returns the sessions of this moment.
func (a *Access) all() []*session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.sessions))
}

// round ends what is over at now: expired grants, peers that never connected, RTP
// sources that fell silent. It also sums up what the log left out.
func (a *Access) round(now time.Time) {
	a.sumRefusals(now)
	a.used.prune(now)
	for _, s := range a.all() {
		if reason := s.over(now); reason != "" {
			s.end(reason)
		}
	}
}

// hear notes that a packet of plain RTP came.
func (s *session) hear(now time.Time) { s.heard.Store(int64(now.Sub(s.a.began))) }

// silence is how long none has come. It goes by the monotonic clock: setting the wall clock must end no session.
func (s *session) silence(now time.Time) time.Duration {
	return now.Sub(s.a.began) - time.Duration(s.heard.Load())
}

// over says why the session must end at now, "" if it need not.
func (s *session) over(now time.Time) string {
	switch {
	case !now.Before(s.passport().expires):
		return "expired"
	case s.kind == kindRTP && !s.connected.Load() && s.silence(now) > firstFor:
		return "no_first_packet"
	case s.kind == kindRTP && s.silence(now) > silentFor:
		return "silent"
	case s.pc != nil && !s.connected.Load():
		s.mu.Lock()
		defer s.mu.Unlock()
		limit := halfOpenFor
		if s.counter {
			limit = counterFor
		}
		if now.Sub(s.since) > limit {
			return "half_open"
		}
	}
	return ""
}

// attach makes pc the session's peer. onConnected runs once, when media can flow.
func (s *session) attach(pc *webrtc.PeerConnection, onConnected func()) {
	s.pc = pc
	s.atEnd(func() { _ = pc.Close() }) // sends close_notify; nothing can be done about a failure
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			if s.connected.CompareAndSwap(false, true) {
				s.trace.next("first packet")
				onConnected()
			}
		case webrtc.PeerConnectionStateFailed:
			s.end("ice_failed")
		case webrtc.PeerConnectionStateClosed:
			s.end("peer_closed")
		}
	})
}
