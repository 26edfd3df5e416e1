package client

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"
)

const (
	// handover bounds how long two legs of one session go on beside each other.
	handover = 10 * time.Second
	// settle is how long a viewer keeps the old leg once media comes by the new one: longer than any difference between the
	// ways to two nodes, and what was asked for again has come.
	settle = time.Second
	// moveWithin bounds one attempt to join at the other node; moveAgain is the time between two.
	moveWithin = 10 * time.Second
	moveAgain  = time.Second
	// listenAgain is how long to wait before a broken event stream is opened again.
	listenAgain = 2 * time.Second
)

// session is what publishers and viewers share: one leg, and a second one while it moves to another node.
//
//	leg 0 up ──"reconnect"──▶ leg 1 joins ──media flows there──▶ leg 0 says goodbye, leg 1 is the one in use
//	                              └──it cannot──▶ again, while leg 0 lives
type session struct {
	cfg    Config
	equip  func(*leg) error                               // gives a new leg its tracks
	handed func(ctx context.Context, old, next *leg) bool // waits until the new leg has taken over; false if it went down
	ctx    context.Context                                // ends with Close
	cancel context.CancelFunc
	down   chan struct{} // closed when the leg in use has failed or was closed, and there is no other
	wg     sync.WaitGroup
	moves  atomic.Uint64
	first  Timing // of the first leg; set by begin

	mu       sync.Mutex // guards the rest
	leg      *leg       // in use
	closed   bool
	once     sync.Once
	closeErr error
}

func newSession(cfg Config) *session {
	if cfg.HTTP == nil {
		cfg.HTTP = http.DefaultClient
	}
	s := &session{cfg: cfg, down: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// begin opens the first leg, and follows its events from then on.
func (s *session) begin(ctx context.Context, equip func(*leg) error, handed func(context.Context, *leg, *leg) bool) error {
	s.equip, s.handed = equip, handed
	l, err := s.open(ctx, s.cfg.URL, 0)
	if err != nil {
		s.cancel()
		return err
	}
	s.leg, s.first = l, l.timing
	s.spawn(s.follow)
	return nil
}

// open joins at an endpoint.
func (s *session) open(ctx context.Context, at string, number uint32) (*leg, error) {
	cfg := s.cfg
	cfg.URL = at
	l, err := newLeg(cfg)
	if err != nil {
		return nil, err
	}
	l.number = number
	if err = s.equip(l); err == nil {
		err = l.join(ctx)
	}
	if err != nil {
		_ = l.end() // the reason is the error before
		return nil, err
	}
	return l, nil
}

// follow keeps the session alive on one leg after another, until the one in use goes down or the session is closed.
func (s *session) follow() {
	defer close(s.down)
	for {
		l := s.current()
		asked := make(chan move, 1)
		if l.events != "" && !s.cfg.Stay {
			l.spawn(func() { l.hear(asked) })
		}
		if !s.stay(l, asked) {
			return
		}
	}
}

// stay returns true when the session has moved to another leg, false when it is over.
func (s *session) stay(l *leg, asked <-chan move) bool {
	var again <-chan time.Time // a move that failed is tried again: nobody asks for it twice
	var wanted move
	for {
		select {
		case <-l.down:
			return false
		case <-s.ctx.Done():
			return false
		case wanted = <-asked:
		case <-again:
		}
		if at := wanted.target(l.cfg.URL); at != "" && s.move(l, at) {
			return true
		}
		again = time.After(moveAgain)
	}
}

// move opens a leg elsewhere and leaves the old one when it is not needed any more; false if the old one is still in use.
func (s *session) move(old *leg, at string) bool {
	ctx, cancel := context.WithTimeout(s.ctx, moveWithin)
	next, err := s.open(ctx, at, old.number+1)
	cancel()
	if err != nil {
		return false
	}
	if !s.use(next) || !s.handed(s.ctx, old, next) {
		s.use(old)
		_ = next.end()
		return false
	}
	_ = old.end() // the node may have gone, or have ended it
	s.moves.Add(1)
	return true
}

// use makes a leg the one in use; false if the session is closed.
func (s *session) use(l *leg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leg = l
	return !s.closed
}

// hear reads a leg's events and hands the newest move on, until the leg ends.
func (s *leg) hear(asked chan move) {
	for s.ctx.Err() == nil {
		res, err := s.listen()
		if err == nil {
			if res.StatusCode == http.StatusNotFound {
				_ = res.Body.Close()
				return // the session is over, or the server has forgotten it
			}
			if res.StatusCode == http.StatusOK {
				_ = readMoves(res.Body, func(m move) { // a stream that breaks is opened again
					select {
					case <-asked: // an older one that nobody has taken yet
					default:
					}
					asked <- m
				})
			}
			_ = res.Body.Close()
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(listenAgain):
		}
	}
}

func (s *leg) listen() (*http.Response, error) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.events, nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("Accept", "text/event-stream")
	return s.cfg.HTTP.Do(req)
}

// spawn starts f unless the session is closed; Close waits for it.
func (s *session) spawn(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(f)
	}
}

// current returns the leg in use.
func (s *session) current() *leg {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leg
}

// Close says goodbye (DELETE), closes the peer and waits for every goroutine of the
// session. It may be called more than once. The error is that of the DELETE; a session
// that the server has ended already is none.
func (s *session) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cancel()
		s.wg.Wait() // no move is under way any more
		s.closeErr = s.leg.end()
	})
	return s.closeErr
}

// Done is closed when the peer connection has failed or was closed by either side, and the session has not moved to another.
func (s *session) Done() <-chan struct{} { return s.down }

// Moves is how often the session has moved to another node.
func (s *session) Moves() uint64 { return s.moves.Load() }

// Resource is the session's URL; it changes when the session moves.
func (s *session) Resource() string { return s.current().resource }

// Timing says how long the first join took.
func (s *session) Timing() Timing { return s.first }

// PeerConnection is the library's object, for what this package does not cover; another one when the session has moved.
func (s *session) PeerConnection() *webrtc.PeerConnection { return s.current().pc }
