package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
)

// world is an in-memory network of mesh nodes: packets, streams and link probes, each with the delay and loss of its link.
type world struct {
	t  *testing.T
	ca string

	mu    sync.Mutex
	rng   *rand.Rand                                                          // guarded by mu
	nodes map[netip.AddrPort]*node                                            // guarded by mu
	rule  func(from, to string) (delay time.Duration, loss float64, cut bool) // guarded by mu
}

// node is one mesh node under test.
type node struct {
	*Mesh
	w      *world
	name   string
	addr   netip.AddrPort
	conn   *memConn
	logs   *lockedBuffer
	stop   context.CancelFunc
	done   chan error
	killed bool // guarded by w.mu: its process is gone, silently

	mu     sync.Mutex
	health Health // guarded by mu
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ca: filepath.Join(t.TempDir(), "ca"), nodes: make(map[netip.AddrPort]*node), rng: rand.New(rand.NewPCG(1, 1))}
	if err := identity.InitCA(w.ca, "demo", time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.set(func(string, string) (time.Duration, float64, bool) { return 20 * time.Millisecond, 0, false })
	return w
}

func (w *world) set(rule func(from, to string) (time.Duration, float64, bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = rule
}

// carry runs f after the delay of a link, unless it is cut or loses the packet. Every delivery has an instant of its own.
func (w *world) carry(from *node, to netip.AddrPort, f func(*node)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	dest := w.nodes[to]
	if dest == nil || dest.killed || from.killed {
		return
	}
	delay, loss, cut := w.rule(from.name, dest.name)
	if cut || w.rng.Float64() < loss {
		return
	}
	time.AfterFunc(delay+time.Duration(w.rng.IntN(1000))*time.Microsecond/4, func() {
		w.mu.Lock()
		gone := dest.killed
		w.mu.Unlock()
		if !gone {
			f(dest)
		}
	})
}

// reach waits a round trip for something reliable, or tells that it cannot be.
func (w *world) reach(ctx context.Context, from *node, to netip.AddrPort) (*node, error) {
	w.mu.Lock()
	dest := w.nodes[to]
	down := dest == nil || dest.killed
	var delay time.Duration
	if !down {
		var back bool
		delay, _, down = w.rule(from.name, dest.name)
		_, _, back = w.rule(dest.name, from.name)
		down = down || back
	}
	w.mu.Unlock()
	if down {
		<-ctx.Done()
		return nil, fmt.Errorf("no route to %s: %w", to, ctx.Err())
	}
	pause(ctx, 2*delay)
	return dest, ctx.Err()
}

func (w *world) identity(name, region string, voter bool) *identity.Identity {
	w.t.Helper()
	out := w.t.TempDir()
	o := identity.IssueOptions{Node: name, Region: region, Voter: voter, NotBefore: time.Now().Add(-time.Hour)}
	if err := identity.Issue(w.ca, out, o); err != nil {
		w.t.Fatal(err)
	}
	id, err := identity.Load(filepath.Join(w.ca, "ca.crt"), filepath.Join(out, name+".crt"), filepath.Join(out, name+".key"))
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func addrOfHost(host int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(host >> 8), byte(host)}), 7000)
}

// add makes a node at 10.0.0.HOST; configure may change its Config.
func (w *world) add(name string, host int, configure func(*Config)) *node {
	w.t.Helper()
	n := &node{w: w, name: name, addr: addrOfHost(host), logs: &lockedBuffer{}, done: make(chan error, 1)}
	n.health = Health{Incarnation: uint32(time.Now().Unix()) + uint32(host), Mesh: n.addr, State: StateServing, Voter: host < 3}
	n.conn = newMemConn(n)
	cfg := Config{
		Identity: w.identity(name, "region-"+name, host == 1),
		Packets:  n.conn,
		Dial:     n.dial,
		Keys:     n.exchange,
		Self: func() Health {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.health
		},
		Probe:  n.probe,
		Logger: slog.New(slog.NewTextHandler(n.logs, nil)),
	}
	if configure != nil {
		configure(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	n.Mesh = m
	w.mu.Lock()
	w.nodes[n.addr] = n
	w.mu.Unlock()
	return n
}

// start runs a node until stopped or the end of the test.
func (n *node) start(join ...string) *node {
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.done <- n.Run(ctx, join) }()
	return n
}

func (w *world) stopAll() {
	w.mu.Lock()
	var all []*node
	for _, n := range w.nodes {
		all = append(all, n)
	}
	w.mu.Unlock()
	for _, n := range all {
		if n.stop != nil {
			n.stop()
		}
	}
	time.Sleep(30 * time.Second) // memberlist's own goroutines end after their timers
}

func (n *node) kill() {
	n.w.mu.Lock()
	n.killed = true
	n.w.mu.Unlock()
}

func (n *node) say(change func(*Health)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.health)
}

func (n *node) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	dest, err := n.w.reach(ctx, n, to)
	if err != nil {
		return nil, err
	}
	here, there := streamPair()
	dest.HandleStream(there)
	return here, nil
}

func (n *node) exchange(ctx context.Context, to netip.AddrPort, mine [][]byte) ([][]byte, error) {
	dest, err := n.w.reach(ctx, n, to)
	if err != nil {
		return nil, err
	}
	if _, err := dest.cfg.Identity.Check(n.cfg.Identity.Cert().Certificate[0]); err != nil {
		return nil, err // as layer 1 would
	}
	if _, err := n.cfg.Identity.Check(dest.cfg.Identity.Cert().Certificate[0]); err != nil {
		return nil, err
	}
	return dest.HandleKeys(mine), nil
}

func (n *node) probe(to uint32, payload []byte) error {
	member, ok := n.ByID(to)
	if !ok {
		return errors.New("no such member")
	}
	payload = bytes.Clone(payload)
	n.w.carry(n, member.Health.Mesh, func(dest *node) { dest.HandleProbe(n.ID(), payload) })
	return nil
}

func (n *node) ID() uint32 { return n.Mesh.id }

// memConn is a net.PacketConn in memory that honours read deadlines.
type memConn struct {
	n *node
	q chan memPacket

	mu    sync.Mutex
	timer *time.Timer   // guarded by mu
	late  chan struct{} // guarded by mu: closed once the deadline passed
}

type memPacket struct {
	b    []byte
	from net.Addr
}

func newMemConn(n *node) *memConn {
	return &memConn{n: n, q: make(chan memPacket, 1024), late: make(chan struct{})}
}

func (c *memConn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	late := c.late
	c.mu.Unlock()
	select {
	case p := <-c.q:
		return copy(b, p.b), p.from, nil
	case <-late:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (c *memConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > 1371 {
		return 0, fmt.Errorf("gossip packet of %d bytes does not fit", len(b))
	}
	p := memPacket{bytes.Clone(b), net.UDPAddrFromAddrPort(c.n.addr)}
	c.n.w.carry(c.n, to.(*net.UDPAddr).AddrPort(), func(dest *node) {
		select {
		case dest.conn.q <- p:
		default:
		}
	})
	return len(b), nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer != nil {
		c.timer.Stop()
	}
	select {
	case <-c.late:
		c.late = make(chan struct{})
	default:
	}
	if !t.IsZero() {
		late := c.late
		c.timer = time.AfterFunc(time.Until(t), func() { close(late) })
	}
	return nil
}

func (c *memConn) Close() error                     { return nil }
func (c *memConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(c.n.addr) }
func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// stream is one end of a reliable stream whose writer never waits for the reader.
type stream struct {
	net.Conn
	out chan []byte
	end sync.Once
}

func streamPair() (net.Conn, net.Conn) {
	a, b := net.Pipe()
	return newStream(a), newStream(b)
}

func newStream(c net.Conn) *stream {
	s := &stream{Conn: c, out: make(chan []byte, 1024)}
	go func() {
		for p := range s.out {
			if _, err := c.Write(p); err != nil {
				break
			}
		}
		_ = c.Close()
	}()
	return s
}

func (s *stream) Write(b []byte) (int, error) {
	select {
	case s.out <- bytes.Clone(b):
		return len(b), nil
	default:
		return 0, io.ErrShortWrite
	}
}

// Close lets what was written arrive first.
func (s *stream) Close() error {
	s.end.Do(func() {
		close(s.out)
		_ = s.Conn.SetWriteDeadline(time.Now().Add(time.Second))
	})
	return nil
}

func (s *stream) SetDeadline(t time.Time) error {
	return s.Conn.SetReadDeadline(t)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// within waits in virtual time for a condition and returns how long it took.
func within(t *testing.T, limit time.Duration, story string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for time.Since(start) <= limit {
		if ok() {
			return time.Since(start)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within %v: %s", limit, story)
	return 0
}

// alive counts the live members that a node sees.
func (n *node) alive() (count int) {
	for _, m := range n.Members() {
		if m.Alive {
			count++
		}
	}
	return count
}

func allSee(nodes []*node, count int) func() bool {
	return func() bool {
		for _, n := range nodes {
			if n.alive() != count {
				return false
			}
		}
		return true
	}
}

// links counts the usable links in a node's graph.
func (n *node) usable() (count int) {
	for _, l := range n.Graph().Links() {
		if !l.Down {
			count++
		}
	}
	return count
}

// bubble runs a story in virtual time and stops all nodes afterwards.
func bubble(t *testing.T, story func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.stopAll()
		story(t, w)
	})
}

// sixNodes starts a mesh that knows one address and waits until everybody sees everybody and every link.
func sixNodes(t *testing.T, w *world) []*node {
	t.Helper()
	var nodes []*node
	for i, name := range []string{"ams", "fra", "iad", "nrt", "sin", "syd"} {
		nodes = append(nodes, w.add(name, i+1, nil).start("10.0.0.1:7000"))
	}
	took := within(t, 20*time.Second, "six nodes see each other", allSee(nodes, 6))
	within(t, 10*time.Second, "all 30 links are measured", func() bool {
		for _, n := range nodes {
			if n.usable() != 30 {
				return false
			}
		}
		return true
	})
	t.Logf("converged after %v", took)
	return nodes
}
