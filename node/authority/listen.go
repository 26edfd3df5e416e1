package authority

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/netutil"
)

const (
	// maxConns bounds open connections; more wait in the kernel's queue.
	maxConns = 512
	// maxPerSource bounds those of one source; more are closed at once.
	maxPerSource = 32
)

// fairListener keeps one source from taking every connection.
type fairListener struct {
	net.Listener
	refused func()

	mu   sync.Mutex
	open map[netip.Prefix]int // guarded by mu; at most maxConns
}

func fair(ln net.Listener, refused func()) net.Listener {
	return &fairListener{Listener: netutil.LimitListener(ln, maxConns), refused: refused, open: make(map[netip.Prefix]int)}
}

// Accept implements net.Listener.
func (l *fairListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := sourceOf(c.RemoteAddr().String())
		if l.take(source) {
			return &fairConn{Conn: c, give: func() { l.give(source) }}, nil
		}
		l.refused()
		_ = c.Close()
	}
}

func (l *fairListener) take(source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source] >= maxPerSource && source.IsValid() {
		return false
	}
	l.open[source]++
	return true
}

func (l *fairListener) give(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source]--; l.open[source] <= 0 {
		delete(l.open, source)
	}
}

// fairConn gives its place back when it closes.
type fairConn struct {
	net.Conn
	once sync.Once
	give func()
}

// Close implements net.Conn.
func (c *fairConn) Close() error {
	c.once.Do(c.give)
	return c.Conn.Close()
}
