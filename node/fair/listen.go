package fair

import (
	"net"
	"net/netip"
	"sync"

	"golang.org/x/net/netutil"
)

// Limits of a Listener.
type Limits struct {
	All    int // connections open at once; more wait in the kernel's queue
	Source int // those of one source (SourceOf); more are closed at once

	// Exempt says which addresses have no share of their own, such as proxies that bring everybody's connections; nil: none.
	// It must not block.
	Exempt func(netip.Addr) bool
	// Refused is called for each connection that is closed, from Accept; it must not block.
	Refused func()
}

// Listener is a net.Listener that keeps one source from taking every connection. Safe for concurrent use.
type Listener struct {
	net.Listener
	limits Limits

	mu   sync.Mutex
	open map[netip.Prefix]int // guarded by mu; at most Limits.All
}

// Listen puts limits on a listener.
func Listen(ln net.Listener, limits Limits) *Listener {
	return &Listener{Listener: netutil.LimitListener(ln, limits.All), limits: limits, open: make(map[netip.Prefix]int)}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		source := SourceOf(c.RemoteAddr().String())
		switch {
		case !source.IsValid() || l.limits.Exempt != nil && l.exempt(c.RemoteAddr().String()):
			return c, nil
		case l.take(source):
			return &conn{Conn: c, give: func() { l.give(source) }}, nil
		}
		l.limits.Refused()
		_ = c.Close()
	}
}

func (l *Listener) exempt(remote string) bool {
	ap, err := netip.ParseAddrPort(remote)
	return err == nil && l.limits.Exempt(ap.Addr().Unmap().WithZone(""))
}

func (l *Listener) take(source netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source] >= l.limits.Source {
		return false
	}
	l.open[source]++
	return true
}

func (l *Listener) give(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[source]--; l.open[source] <= 0 {
		delete(l.open, source)
	}
}

// conn gives its place back when it closes.
type conn struct {
	net.Conn
	once sync.Once
	give func()
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(c.give)
	return c.Conn.Close()
}
