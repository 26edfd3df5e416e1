package access

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	// runBytes and runSegments bound what leaves in one system call; the kernel takes 64 segments of 64 KiB together.
	runBytes    = 32 << 10
	runSegments = 32
)

// runWriter sends several datagrams at once: run is segments of equal size, the last may be shorter.
type runWriter interface {
	WriteRun(run []byte, segment int, to netip.AddrPort) error
}

// runConn is the one UDP port of all clients. What a viewer's writer sends between gather and flush to its own
// address leaves as runs of equal segments, one system call for a frame's packets instead of one each; everything
// else passes straight through. A socket that knows no runs is used as it is.
type runConn struct {
	net.PacketConn
	wire runWriter // nil: no runs

	mu   sync.RWMutex
	open map[netip.AddrPort]*run // guarded by mu

	failed atomic.Uint64 // datagrams that the network refused after WriteTo had taken them
}

func newRunConn(conn net.PacketConn) *runConn {
	wire, _ := conn.(runWriter)
	return &runConn{PacketConn: conn, wire: wire, open: make(map[netip.AddrPort]*run)}
}

// run collects datagrams to one address. Its owner calls gather and flush; any goroutine may add.
type run struct {
	to netip.AddrPort

	mu      sync.Mutex      // guards the rest
	buf     *[runBytes]byte // nil once the run has ended
	used    int
	segment int
	count   int
}

var runBuffers = sync.Pool{New: func() any { return new([runBytes]byte) }}

// gather begins to collect what is sent to an address. False: runs are not to be had, or another session collects for
// that address already.
func (c *runConn) gather(to netip.AddrPort) *run {
	if c.wire == nil || !to.IsValid() {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[to] != nil {
		return nil
	}
	r := &run{to: to, buf: runBuffers.Get().(*[runBytes]byte)}
	c.open[to] = r
	return r
}

// flush sends what was collected and ends collecting.
func (c *runConn) flush(r *run) {
	c.mu.Lock()
	delete(c.open, r.to)
	c.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	c.send(r)
	runBuffers.Put(r.buf)
	r.buf = nil
}

// send writes the run that stands in the buffer. Called with r.mu held.
func (c *runConn) send(r *run) {
	if r.count == 0 {
		return
	}
	if err := c.wire.WriteRun(r.buf[:r.used], r.segment, r.to); err != nil {
		c.failed.Add(uint64(r.count))
	}
	r.used, r.count = 0, 0
}

// WriteTo implements net.PacketConn.
func (c *runConn) WriteTo(p []byte, addr net.Addr) (int, error) {
	if u, ok := addr.(*net.UDPAddr); ok && c.wire != nil {
		to := u.AddrPort()
		to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
		c.mu.RLock()
		r := c.open[to]
		c.mu.RUnlock()
		if r != nil && c.add(r, p) {
			return len(p), nil
		}
	}
	return c.PacketConn.WriteTo(p, addr)
}

// add appends a datagram to a run, and sends the run first if it does not fit or is longer than the others. False: the
// run has ended meanwhile, or the datagram is larger than a run.
func (c *runConn) add(r *run, p []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf == nil || len(p) > runBytes {
		return false
	}
	if r.count > 0 && (len(p) > r.segment || r.count >= runSegments || r.used+len(p) > runBytes) {
		c.send(r)
	}
	if r.count == 0 {
		r.segment = len(p)
	}
	r.used += copy(r.buf[r.used:], p)
	r.count++
	if len(p) < r.segment { // a shorter one can only be the last
		c.send(r)
	}
	return true
}
