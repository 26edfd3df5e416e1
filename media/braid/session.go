package braid

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

// Errors of a session.
var (
	ErrQueueFull = errors.New("braid: the message queue is full")
	errTooLarge  = errors.New("braid: too large")
)

// Codes with which a session's QUIC connection is closed.
const (
	codeClosed     quic.ApplicationErrorCode = 0
	codeSuperseded quic.ApplicationErrorCode = 1 // another connection of the same pair stays
	codeRefused    quic.ApplicationErrorCode = 2 // identity or fence
)

// Session is one braid between this node and a peer under one fence. All methods are safe for concurrent use.
type Session struct {
	b        *Braid
	f        *flow
	conn     *quic.Conn
	export   exporter
	dialer   bool   // this side dialed
	protocol uint8  // negotiated
	incarn   uint32 // the peer's
	began    time.Time
	asked    chan struct{} // capacity 1: rx.asks has something, or reportNow is set
	wake     chan struct{} // capacity 1: the queue was empty and is not any more
	full     chan struct{} // capacity 1: the queue holds a run's worth
	messages chan []byte   // bounded by maxMessages
	over     chan struct{} // closed by Close
	overOnce sync.Once
	overCode quic.ApplicationErrorCode
	overText string

	queueMu   sync.Mutex // guards queue and sendEnded
	queue     sendQueue
	sendEnded bool

	out         outMedia // owned by the sender goroutine
	shift       shifted  // the same
	shiftFrames [][]byte // scratch of again; the same

	repairMu sync.Mutex // guards cache
	cache    repairCache

	rx inMedia // guarded by flow.rxMu

	openOnce  sync.Once
	opened    atomic.Bool
	deliverMu sync.Mutex // guards rejoin and ended; held while the handler has packets
	rejoin    rejoin
	ended     bool

	asksAfter atomic.Uint64          // how old a frame may be, in ms, that the peer may still be about to ask for
	remote    atomic.Pointer[report] // the peer's newest
	reportNow atomic.Bool            // a path fell silent or came back
	sized     atomic.Bool            // a size probe came, and its sender waits for a report

	packetsSent, packetsReceived, framesSent, repairsSent, asksSent atomic.Uint64
	offered                                                         atomic.Uint64 // bytes given to Send
	nextSeq                                                         atomic.Uint64 // of media
	drops                                                           [dropReasons]atomic.Uint64
}

// newSession prepares the session of a connection whose handshake is complete and whose peer is verified.
func newSession(f *flow, conn *quic.Conn, dialer bool, incarnation uint32) (*Session, error) {
	s := &Session{
		b: f.b, f: f, conn: conn, dialer: dialer, incarn: incarnation, began: time.Now(),
		export: exporterOf(conn.ConnectionState().TLS), protocol: protocolOf(conn.ConnectionState().TLS),
		asked: make(chan struct{}, 1), wake: make(chan struct{}, 1), full: make(chan struct{}, 1),
		messages: make(chan []byte, maxMessages), over: make(chan struct{}),
	}
	s.asksAfter.Store(repairMS) // until the round trip is known
	tag, err := s.export(tagLabel, nil, 1)
	if err != nil {
		return nil, fmt.Errorf("exporting the session tag: %w", err)
	}
	s.rx.tag, s.out.tag = tag[0], tag[0]
	s.rx.asks = make([]uint64, 0, maxAsked)
	s.rx.rescued = func(path uint8) { f.in.paths[path&(pathIDs-1)].rescued++ }
	for i, epoch := range [...]uint8{0, 1} {
		if s.rx.keys[i+1], err = newMediaKey(s.export, s.direction(false), epoch); err != nil {
			return nil, err
		}
	}
	s.out.key, err = newMediaKey(s.export, s.direction(true), 0)
	return s, err
}

// direction of the frames that this side sends, or receives: 0 from the dialing side, 1 from the accepting one.
func (s *Session) direction(sending bool) uint8 {
	if s.dialer == sending {
		return 0
	}
	return 1
}

// Peer is the node at the other end.
func (s *Session) Peer() NodeID { return s.f.key.peer }

// Fence that the session's media may not leave.
func (s *Session) Fence() FenceID { return s.f.key.fence }

// Send queues one packet for the peer. It never blocks and keeps no reference to packet; the answer is DropNone or why
// the packet was dropped (counted as well).
func (s *Session) Send(stream uint16, class Class, packet []byte) DropReason {
	why := DropTooLarge
	if len(packet) > 0 && len(packet) <= MaxPacket {
		why = s.enqueue(stream, class, packet)
	}
	if why != DropNone {
		s.drops[why].Add(1)
	}
	return why
}

func (s *Session) enqueue(stream uint16, class Class, packet []byte) DropReason {
	s.queueMu.Lock()
	if s.sendEnded {
		s.queueMu.Unlock()
		return DropClosed
	}
	full := s.queue.push(stream, class, packet, time.Now())
	first, enough := s.queue.len() == 1, s.queue.bytes >= runEnough
	s.queueMu.Unlock()
	s.offered.Add(uint64(len(packet)))
	if full > 0 {
		s.drops[DropQueueFull].Add(uint64(full))
	}
	if first {
		notify(s.wake)
		s.b.budgets.stir()
	}
	if enough {
		notify(s.full)
	}
	return DropNone
}

// notify sets a flag channel of capacity 1.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Session) kick() { notify(s.asked) }

// Close ends the session; the peer sees the reason. It returns at once; Handler.Closed follows. What is still queued is
// lost.
func (s *Session) Close(reason string) { s.close(codeClosed, reason) }

func (s *Session) close(code quic.ApplicationErrorCode, reason string) {
	s.overOnce.Do(func() {
		s.overCode, s.overText = code, reason
		close(s.over)
	})
}

// closing reports whether the session has ended or is about to.
func (s *Session) closing() bool {
	select {
	case <-s.over:
		return true
	case <-s.conn.Context().Done():
		return true
	default:
		return false
	}
}

// open tells the handler of the session, once, before anything else of it.
func (s *Session) open() {
	if s.opened.Load() {
		return
	}
	s.openOnce.Do(func() {
		s.b.cfg.Handler.Opened(s)
		s.opened.Store(true)
	})
}

// run serves an installed session until it ends. in is the peer's message stream, its hello read; out is ours.
func (s *Session) run(ctx context.Context, in *quic.ReceiveStream, out *quic.SendStream) {
	s.open()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.sendLoop(gctx) })
	g.Go(func() error { return s.feedbackLoop(gctx) })
	g.Go(func() error { return s.datagramLoop(gctx) })
	g.Go(func() error { return s.readMessages(in) })
	g.Go(func() error { return s.writeMessages(gctx, out) })
	g.Go(func() error {
		// The one place that closes the connection; the loops above end when it is closed.
		select {
		case <-ctx.Done():
			_ = s.conn.CloseWithError(codeClosed, "the node is leaving")
		case <-s.over:
			_ = s.conn.CloseWithError(s.overCode, s.overText)
		case <-gctx.Done():
			_ = s.conn.CloseWithError(codeClosed, "session failed")
		case <-s.conn.Context().Done():
		}
		return context.Cause(s.conn.Context())
	})
	err := g.Wait()
	if cause := context.Cause(s.conn.Context()); cause != nil {
		err = cause // what ended the connection says more than which loop noticed first
	}
	s.f.remove(s)
	s.finish(err)
}

// finish tells the handler that the session has ended, if it was told of it at all.
func (s *Session) finish(err error) {
	s.queueMu.Lock()
	s.sendEnded = true
	s.queueMu.Unlock()
	s.openOnce.Do(func() {})
	s.deliverMu.Lock()
	s.ended = true
	s.deliverMu.Unlock()
	if s.opened.Load() {
		s.b.cfg.Handler.Closed(s, err)
	}
}
