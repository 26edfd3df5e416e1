package sim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// maxUnread bounds what one end of a stream may write ahead of the other's reading, in bytes.
const maxUnread = 1 << 20

var errNobody = errors.New("connection refused: nobody listens")

// stream is one end of StreamPair.
type stream struct {
	net.Conn
	wake chan struct{} // capacity 1

	mu     sync.Mutex
	queue  [][]byte // guarded by mu
	size   int      // guarded by mu: bytes that the other end has not read, in queue or with pump; at most maxUnread
	closed bool     // guarded by mu
}

// StreamPair is a connection in memory, both ends. Unlike net.Pipe's, a writer never waits for the reader: in virtual time two
// that write at once would wait for each other's lock, which holds the clock still for ever. There is no delay and no loss. Each
// end must be closed.
func StreamPair() (net.Conn, net.Conn) {
	a, b := net.Pipe()
	return newStream(a), newStream(b)
}

func newStream(c net.Conn) *stream {
	s := &stream{Conn: c, wake: make(chan struct{}, 1)}
	go s.pump()
	return s
}

// pump is the only one that writes to the pipe.
func (s *stream) pump() {
	defer s.Conn.Close()
	for {
		s.mu.Lock()
		queue, closed := s.queue, s.closed
		s.queue = nil
		s.mu.Unlock()
		for _, b := range queue {
			if _, err := s.Conn.Write(b); err != nil {
				return
			}
			s.read(len(b))
		}
		if len(queue) == 0 {
			if closed {
				return
			}
			<-s.wake
		}
	}
}

// read takes note that the other end has read n bytes: until then they count as unread, also those that pump holds.
func (s *stream) read(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.size -= n
}

func (s *stream) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Write implements net.Conn.
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, net.ErrClosed
	case s.size+len(b) > maxUnread:
		return 0, io.ErrShortWrite
	}
	s.queue, s.size = append(s.queue, bytes.Clone(b)), s.size+len(b)
	s.nudge()
	return len(b), nil
}

// Close implements net.Conn; what was written still arrives, within a second.
func (s *stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	_ = s.Conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = s.Conn.SetReadDeadline(time.Unix(1, 0))
	s.nudge()
	return nil
}

// SetDeadline implements net.Conn, for reads: writes do not wait.
func (s *stream) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(time.Time) error { return nil }

// StreamListener is a net.Listener in memory: Dial gives it one end of a StreamPair. Make it with NewStreamListener.
type StreamListener struct {
	addr    net.Addr
	waiting chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

// NewStreamListener makes a listener that is open until Close.
func NewStreamListener(addr net.Addr) *StreamListener {
	return &StreamListener{addr: addr, waiting: make(chan net.Conn), closed: make(chan struct{})}
}

// Dial connects, as net.Dialer.DialContext does: it waits until the connection is accepted. A nil listener refuses. The network
// and the address are not looked at.
func (l *StreamListener) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if l == nil {
		return nil, errNobody
	}
	here, there := StreamPair()
	var err error
	select {
	case l.waiting <- there:
		return here, nil
	case <-l.closed:
		err = errNobody
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, here.Close(), there.Close())
}

// Accept implements net.Listener.
func (l *StreamListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *StreamListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *StreamListener) Addr() net.Addr { return l.addr }
