package braid

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

// How a pair agrees on one connection per fence: the accepting side decides and says so in a hello, the first bytes of
// its message stream; the dialing side installs the session when the hello arrives. When both dial at once, the side
// with the smaller id refuses the other's connection (codeSuperseded) and the other accepts: the connection dialed by
// the smaller id stays.

const (
	// dialTimeout bounds one attempt to get a session, retries included.
	dialTimeout = 15 * time.Second
	// superseded is how long a dialer waits for the connection that made the peer refuse its own, before it tries again.
	supersededWait = time.Second
	// glareTime is how long after a session's start another connection of the same peer counts as dialed at the same
	// time. Later, it means that the peer has lost the session.
	glareTime = 3 * time.Second
	helloSize = 5
)

var errSuperseded = errors.New("braid: the peer keeps another connection")

// dialing is one attempt, shared by all callers of Session.
type dialing struct {
	done chan struct{}
	err  error // valid once done is closed
}

// Session returns the session with a peer under a fence, dialing if there is none. ctx bounds the wait alone: the dial
// goes on for other callers. There is one session per peer and fence.
func (b *Braid) Session(ctx context.Context, peer NodeID, fence FenceID) (*Session, error) {
	key := flowKey{peer, fence}
	if peer == b.cfg.Self || !b.allowed(key) {
		return nil, ErrFence
	}
	select {
	case <-b.started:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		f := b.flow(key, true)
		if f == nil {
			return nil, fmt.Errorf("braid: more than %d peers and fences", maxFlows)
		}
		s, d, changed := f.join()
		if s != nil {
			return s, nil
		}
		if d == nil {
			return nil, ErrClosed
		}
		select {
		case <-changed:
		case <-d.done:
			if s := f.session(); s != nil && !s.closing() {
				return s, nil
			}
			if d.err != nil {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-b.ending:
			return nil, ErrClosed
		}
	}
}

// join returns the current session, or the dial under way, started if need be; neither when the Braid is ending.
func (f *flow) join() (*Session, *dialing, <-chan struct{}) {
	f.mu.Lock()
	f.used = time.Now()
	if f.current != nil && !f.current.closing() {
		defer f.mu.Unlock()
		return f.current, nil, nil
	}
	d, changed := f.dial, f.changed
	if d != nil {
		f.mu.Unlock()
		return nil, d, changed
	}
	d = &dialing{done: make(chan struct{})}
	f.dial = d
	f.mu.Unlock()
	if !f.b.spawn(func(ctx context.Context) { f.runDial(ctx, d) }) {
		f.endDial(d, ErrClosed)
		return nil, nil, nil
	}
	return nil, d, changed
}

func (f *flow) endDial(d *dialing, err error) {
	f.mu.Lock()
	f.dial = nil
	f.mu.Unlock()
	d.err = err
	close(d.done)
}

// runDial dials until there is a session, dialed by either side, and then serves it if it is ours.
func (f *flow) runDial(ctx context.Context, d *dialing) {
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	f.refresh()
	for {
		f.mu.Lock()
		changed := f.changed
		have := f.current != nil && !f.current.closing()
		f.mu.Unlock()
		if have {
			f.endDial(d, nil)
			return
		}
		s, in, out, err := f.dialOnce(dctx)
		if err == nil {
			f.install(s)
			if !f.b.allowed(f.key) {
				s.Close("policy") // as in serve
			}
			f.endDial(d, nil)
			s.run(ctx, in, out)
			return
		}
		if !errors.Is(err, errSuperseded) {
			f.endDial(d, fmt.Errorf("braid: dialing node %08x: %w", uint32(f.key.peer), err))
			return
		}
		select {
		case <-changed:
		case <-time.After(supersededWait):
		case <-dctx.Done():
			f.endDial(d, errSuperseded)
			return
		}
	}
}

// dialOnce makes one connection and waits for the peer's hello.
func (f *flow) dialOnce(ctx context.Context) (s *Session, in *quic.ReceiveStream, out *quic.SendStream, err error) {
	f.rxMu.Lock()
	incarnation := f.incarn
	f.rxMu.Unlock()
	tlsConf := withALPN(f.b.cfg.ClientTLS(f.key.peer), f.b.protocols)
	conn, err := f.b.transport.Dial(ctx, virtualAddr(f.key, incarnation), tlsConf, quicConfig())
	if err != nil {
		return nil, nil, nil, err
	}
	if err = f.checkPeer(conn); err != nil {
		_ = conn.CloseWithError(codeRefused, "not the node that was meant")
		return nil, nil, nil, err
	}
	if s, err = newSession(f, conn, true, 0); err != nil {
		_ = conn.CloseWithError(codeClosed, "no keys")
		return nil, nil, nil, err
	}
	// Registered before the hello: the peer's first media may overtake it.
	if !f.register(s) {
		_ = conn.CloseWithError(codeClosed, "too many sessions")
		return nil, nil, nil, errSessions
	}
	if in, out, err = s.greet(ctx); err != nil {
		var app *quic.ApplicationError
		if errors.As(err, &app) && app.Remote && app.ErrorCode == codeSuperseded {
			err = errSuperseded
		}
		_ = conn.CloseWithError(codeClosed, "no hello")
		f.remove(s)
		s.finish(err)
		return nil, nil, nil, err
	}
	return s, in, out, nil
}

// greet says hello and waits for the peer's.
func (s *Session) greet(ctx context.Context) (in *quic.ReceiveStream, out *quic.SendStream, err error) {
	if out, err = s.conn.OpenUniStream(); err != nil {
		return nil, nil, fmt.Errorf("opening the message stream: %w", err)
	}
	hello := [helloSize]byte{s.protocol}
	binary.BigEndian.PutUint32(hello[1:], s.b.cfg.Incarnation)
	if _, err = out.Write(hello[:]); err != nil {
		return nil, nil, fmt.Errorf("writing the hello: %w", err)
	}
	if in, err = s.conn.AcceptUniStream(ctx); err != nil {
		return nil, nil, fmt.Errorf("waiting for the peer's hello: %w", err)
	}
	deadline, _ := ctx.Deadline()
	_ = in.SetReadDeadline(deadline)
	if _, err = io.ReadFull(in, hello[:]); err != nil {
		return nil, nil, fmt.Errorf("reading the peer's hello: %w", err)
	}
	_ = in.SetReadDeadline(time.Time{})
	if hello[0] != s.protocol {
		return nil, nil, fmt.Errorf("the peer's hello says session protocol %d, agreed was %d", hello[0], s.protocol)
	}
	s.incarn = binary.BigEndian.Uint32(hello[1:])
	return in, out, nil
}

// checkPeer compares the certificate's node with the source that the path frames name.
func (f *flow) checkPeer(conn *quic.Conn) error {
	id, err := f.b.cfg.PeerID(conn.ConnectionState().TLS)
	if err != nil {
		return fmt.Errorf("the peer's certificate: %w", err)
	}
	if id != f.key.peer {
		return fmt.Errorf("the certificate is node %08x's, the frames are node %08x's", uint32(id), uint32(f.key.peer))
	}
	return nil
}

// accept takes the connections of peers until ctx ends.
func (b *Braid) accept(ctx context.Context, g *errgroup.Group, l *quic.Listener) error {
	for {
		conn, err := l.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("braid: accepting: %w", err)
		}
		g.Go(func() error { b.serve(ctx, conn); return nil })
	}
}

// serve decides about one accepted connection and serves it.
func (b *Braid) serve(ctx context.Context, conn *quic.Conn) {
	key, incarnation, ok := fromVirtual(conn.RemoteAddr())
	var f *flow
	if ok && b.allowed(key) {
		f = b.flow(key, true)
	}
	if f == nil {
		_ = conn.CloseWithError(codeRefused, "refused")
		return
	}
	if err := f.checkPeer(conn); err != nil {
		b.log.Warn("connection refused", "peer", uint32(key.peer), "fence", uint32(key.fence), "error", err)
		_ = conn.CloseWithError(codeRefused, "refused")
		return
	}
	if !f.admits(incarnation) {
		_ = conn.CloseWithError(codeSuperseded, "superseded")
		return
	}
	s, err := newSession(f, conn, false, incarnation)
	if err != nil {
		_ = conn.CloseWithError(codeClosed, "no keys")
		return
	}
	if !f.register(s) {
		b.counters.drop(DropSessions)
		_ = conn.CloseWithError(codeRefused, "too many sessions")
		return
	}
	gctx, cancel := context.WithTimeout(ctx, dialTimeout)
	in, out, err := s.greet(gctx)
	cancel()
	if err != nil {
		_ = conn.CloseWithError(codeClosed, "no hello")
		f.remove(s)
		s.finish(err)
		return
	}
	f.install(s)
	if !b.allowed(key) {
		s.Close("policy") // it changed during the handshake, and Refresh may have come before the session was registered
	}
	s.run(ctx, in, out)
}

// admits decides whether a connection that the peer dialed may become the session. Only the side with the smaller id
// refuses, and only if its own dial is under way or has just succeeded with the same incarnation of the peer.
func (f *flow) admits(incarnation uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.b.cfg.Self > f.key.peer {
		return true
	}
	if s := f.current; s != nil && !s.closing() {
		return !s.dialer || s.incarn != incarnation || time.Since(s.began) > glareTime
	}
	return f.dial == nil
}

// register makes a session known to the receiver; false if there are maxSessions already.
func (f *flow) register(s *Session) bool {
	f.rxMu.Lock()
	defer f.rxMu.Unlock()
	if len(f.sessions) >= maxSessions {
		return false
	}
	f.sessions = append([]*Session{s}, f.sessions...)
	f.findTwins()
	return true
}

// findTwins notes which sessions have equal tags. Holds rxMu.
func (f *flow) findTwins() {
	var tags [256]uint8
	for _, s := range f.sessions {
		tags[s.rx.tag]++
	}
	for _, s := range f.sessions {
		s.rx.twin = tags[s.rx.tag] > 1
	}
}

// install makes a session the one that Session returns and ends the one before.
func (f *flow) install(s *Session) {
	f.mu.Lock()
	old := f.current
	f.current = s
	close(f.changed)
	f.changed = make(chan struct{})
	f.mu.Unlock()
	f.sendMu.Lock()
	f.protocol = s.protocol
	f.sendMu.Unlock()
	if old != nil {
		old.close(codeSuperseded, "superseded")
	}
}

func (f *flow) remove(s *Session) {
	f.rxMu.Lock()
	f.endedMS = f.b.unixMS(time.Now())
	f.sessions = slices.DeleteFunc(slices.Clone(f.sessions), func(o *Session) bool { return o == s })
	f.findTwins()
	f.rxMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used = time.Now()
	if f.current == s {
		f.current = nil
		close(f.changed)
		f.changed = make(chan struct{})
	}
}
