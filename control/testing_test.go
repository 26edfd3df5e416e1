package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

func mustPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// mesh is a network in memory: streams and calls that take `delay` one way, and nodes that can be killed and cut off.
// A lost packet is never told to anybody, as over UDP: reads stall until their deadline.
type mesh struct {
	t     testing.TB
	delay time.Duration
	dir   string

	mu    sync.Mutex
	nodes map[string]*node   // guarded by mu
	side  map[string]int     // guarded by mu: nodes on different sides do not hear each other
	cuts  map[[2]string]bool // guarded by mu: pairs that do not hear each other, whatever others hear of them
}

// node is one Control and what the test knows about it.
type node struct {
	m      *mesh
	name   string
	voter  bool
	c      *Control
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
	frozen atomic.Bool // the process is dead: nothing reaches its disk any more
	cancel context.CancelFunc
	done   chan error

	mu       sync.Mutex
	enforced []uint64 // guarded by mu
}

func newMesh(t testing.TB, delay time.Duration) *mesh {
	return &mesh{t: t, delay: delay, dir: t.TempDir(), nodes: make(map[string]*node), side: make(map[string]int)}
}

// up reports whether a packet gets from a to b now.
func (m *mesh) up(a, b string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[a] != nil && m.nodes[b] != nil && m.side[a] == m.side[b] && !m.cuts[[2]string{a, b}] && !m.cuts[[2]string{b, a}]
}

func (m *mesh) split(names ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.side)
	for _, n := range names {
		m.side[n] = 1
	}
}

// cut takes the link between each pair away.
func (m *mesh) cut(pairs ...[2]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cuts = make(map[[2]string]bool)
	for _, p := range pairs {
		m.cuts[p] = true
	}
}

func (m *mesh) get(name string) *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[name]
}

// config is what a node of that name gets; voters are named v..., followers f....
func (m *mesh) config(name string, expect int) Config {
	cfg := Config{
		Mesh: "test", Node: name, Region: regionOf(name), Voter: strings.HasPrefix(name, "v"), Expect: expect,
		Dir: filepath.Join(m.dir, name), Logger: testLogger(name),
		Members: func() []Member { return m.members(name) },
		Call:    func(ctx context.Context, to string, b []byte) ([]byte, error) { return m.call(ctx, name, to, b) },
		Sign:    func(msg []byte) ([]byte, []byte, error) { cert := []byte(name); return cert, fakeSig(cert, msg), nil },
		Verify:  fakeVerify,
	}
	return cfg
}

// testLogger is silent unless TERN_TEST_LOG is set.
func testLogger(name string) *slog.Logger {
	if os.Getenv("TERN_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", name)
}

func fakeSig(cert, msg []byte) []byte {
	sum := sha256.Sum256(slices.Concat([]byte("key of "), cert, msg))
	return sum[:]
}

func fakeVerify(msg, cert, sig []byte) (string, bool, error) {
	if !bytes.Equal(sig, fakeSig(cert, msg)) {
		return "", false, errors.New("bad signature")
	}
	return string(cert), strings.HasPrefix(string(cert), "v"), nil
}

// start brings a node up on whatever its directory holds.
func (m *mesh) start(name string, expect int) *node {
	m.t.Helper()
	return m.startWith(name, expect, func(*Control, *node) {})
}

// startWith is start, with a hand in the Control before it runs.
func (m *mesh) startWith(name string, expect int, tune func(*Control, *node)) *node {
	m.t.Helper()
	n := &node{m: m, name: name, accept: make(chan net.Conn, 16), closed: make(chan struct{}), done: make(chan error, 1)}
	cfg := m.config(name, expect)
	n.voter = cfg.Voter
	cfg.Stream = n
	cfg.Enforce = func(p Policy) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.enforced = append(n.enforced, p.Version)
	}
	c, err := New(cfg)
	if err != nil {
		m.t.Fatalf("node %s does not start: %v", name, err)
	}
	c.wrap = func(s *stores) {
		s.log, s.stable = &frozenLog{s.log, &n.frozen}, &frozenStable{s.stable, &n.frozen}
	}
	n.c = c
	tune(c, n)
	m.mu.Lock()
	m.nodes[name] = n
	m.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() { n.done <- c.Run(ctx) }()
	return n
}

// kill is die, and then waits until the remains are gone.
func (n *node) kill() {
	n.die()
	n.stop()
}

// die ends a node as kill -9 does: at one instant nothing it sends or writes counts any more.
func (n *node) die() {
	n.frozen.Store(true)
	n.m.mu.Lock()
	delete(n.m.nodes, n.name)
	n.m.mu.Unlock()
}

// stop ends a node in good order.
func (n *node) stop() {
	n.cancel()
	if err := <-n.done; err != nil {
		n.m.t.Errorf("node %s ended with: %v", n.name, err)
	}
	_ = n.Close()
	n.m.mu.Lock()
	delete(n.m.nodes, n.name)
	n.m.mu.Unlock()
}

func (m *mesh) stopAll() {
	var wg sync.WaitGroup
	m.mu.Lock()
	for _, n := range m.nodes {
		wg.Go(n.stop)
	}
	m.mu.Unlock()
	wg.Wait()
}

func (m *mesh) members(self string) (out []Member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, n := range m.nodes {
		alive := m.side[name] == m.side[self]
		out = append(out, Member{Node: name, Region: regionOf(name), Voter: n.voter, Alive: alive, PolicyVersion: n.c.Policy().Version})
	}
	return out
}

func (m *mesh) call(ctx context.Context, from, to string, b []byte) ([]byte, error) {
	if !pause(ctx, m.delay) {
		return nil, ctx.Err()
	}
	far := m.get(to)
	if far == nil || !m.up(from, to) { // gone, or not reachable
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a := far.c.Serve(ctx, from, b)
	if !pause(ctx, m.delay) {
		return nil, ctx.Err()
	}
	return a, nil
}

// Dial implements raft.StreamLayer.
func (n *node) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if n.frozen.Load() {
		return nil, errors.New("this node is dead")
	}
	time.Sleep(2 * n.m.delay)
	far := n.m.get(string(to))
	if far == nil || !n.m.up(n.name, string(to)) {
		select {
		case <-time.After(timeout):
		case <-n.closed:
		}
		return nil, errors.New("dial timed out")
	}
	ab, ba := newHalf(), newHalf()
	near := &conn{m: n.m, from: n.name, to: string(to), in: ba, out: ab}
	select {
	case far.accept <- &conn{m: n.m, from: string(to), to: n.name, in: ab, out: ba}:
		return near, nil
	default:
		return nil, errors.New("refused")
	}
}

// Accept implements net.Listener.
func (n *node) Accept() (net.Conn, error) {
	select {
	case c := <-n.accept:
		return c, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *node) Close() error { n.once.Do(func() { close(n.closed) }); return nil }

// Addr implements net.Listener.
func (n *node) Addr() net.Addr { return name(n.name) }

type name string

func (n name) Network() string { return "memory" }
func (n name) String() string  { return string(n) }

// half is one direction of a stream.
type half struct {
	mu     sync.Mutex
	queue  []chunk
	closed bool
	notify chan struct{}
}

type chunk struct {
	due  time.Time
	data []byte
}

func newHalf() *half { return &half{notify: make(chan struct{}, 1)} }

// conn is one end of a stream.
type conn struct {
	m        *mesh
	from, to string
	in, out  *half
	mu       sync.Mutex
	deadline time.Time // guarded by mu; for reads only: writes never block
	closed   bool      // guarded by mu: this end was closed
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		c.in.mu.Lock()
		wait := time.Hour
		if len(c.in.queue) > 0 {
			head := &c.in.queue[0]
			if wait = time.Until(head.due); wait <= 0 {
				k := copy(p, head.data)
				if head.data = head.data[k:]; len(head.data) == 0 {
					c.in.queue = c.in.queue[1:]
				}
				c.in.mu.Unlock()
				return k, nil
			}
		} else if c.in.closed {
			c.in.mu.Unlock()
			return 0, io.EOF
		}
		c.in.mu.Unlock()
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return 0, net.ErrClosed
		}
		if d := c.deadline; !d.IsZero() {
			if left := time.Until(d); left <= 0 {
				c.mu.Unlock()
				return 0, os.ErrDeadlineExceeded
			} else if left < wait {
				wait = left
			}
		}
		c.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-c.in.notify:
		}
		t.Stop()
	}
}

func (c *conn) Write(p []byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.closed {
		return 0, net.ErrClosed
	}
	if c.m.up(c.from, c.to) {
		c.out.queue = append(c.out.queue, chunk{time.Now().Add(c.m.delay), bytes.Clone(p)})
		nudge(c.out.notify)
	}
	return len(p), nil
}

func (c *conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, h := range []*half{c.in, c.out} {
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		nudge(h.notify)
	}
	return nil
}

func (c *conn) SetReadDeadline(d time.Time) error {
	c.mu.Lock()
	c.deadline = d
	c.mu.Unlock()
	nudge(c.in.notify)
	return nil
}

func (c *conn) SetDeadline(d time.Time) error    { return c.SetReadDeadline(d) }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }
func (c *conn) LocalAddr() net.Addr              { return name(c.from) }
func (c *conn) RemoteAddr() net.Addr             { return name(c.to) }

// frozenLog and frozenStable swallow the writes of a dead process.
type frozenLog struct {
	raft.LogStore
	frozen *atomic.Bool
}

func (f *frozenLog) IsMonotonic() bool { return true }
func (f *frozenLog) StoreLog(l *raft.Log) error {
	return f.StoreLogs([]*raft.Log{l})
}

func (f *frozenLog) StoreLogs(l []*raft.Log) error {
	if f.frozen.Load() {
		return nil
	}
	return f.LogStore.StoreLogs(l)
}

func (f *frozenLog) DeleteRange(a, b uint64) error {
	if f.frozen.Load() {
		return nil
	}
	return f.LogStore.DeleteRange(a, b)
}

type frozenStable struct {
	raft.StableStore
	frozen *atomic.Bool
}

func (f *frozenStable) Set(k, v []byte) error {
	if f.frozen.Load() {
		return nil
	}
	return f.StableStore.Set(k, v)
}

func (f *frozenStable) SetUint64(k []byte, v uint64) error {
	if f.frozen.Load() {
		return nil
	}
	return f.StableStore.SetUint64(k, v)
}

// until waits in virtual time for a condition.
func (m *mesh) until(limit time.Duration, what string, ok func() bool) time.Duration {
	m.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			m.t.Fatalf("after %v: still not %s\n%s", limit, what, m.describe())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func (m *mesh) describe() string {
	m.mu.Lock()
	nodes := make([]*node, 0, len(m.nodes))
	for _, n := range m.nodes {
		nodes = append(nodes, n)
	}
	m.mu.Unlock()
	var b strings.Builder
	for _, n := range nodes {
		fmt.Fprintf(&b, "  %s: %+v\n", n.name, n.c.Status())
	}
	return b.String()
}

// leader is the one voter that leads, or nil.
func (m *mesh) leader() *node {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range m.nodes {
		if r := n.c.node(); r != nil && r.State() == raft.Leader {
			return n
		}
	}
	return nil
}

// everyoneAt reports whether all nodes enforce version v.
func (m *mesh) everyoneAt(v uint64) func() bool {
	return func() bool {
		for _, mb := range m.members("") {
			if mb.PolicyVersion != v {
				return false
			}
		}
		return true
	}
}

// numbered is a document that can be told from others.
func numbered(i int) []byte {
	return fmt.Appendf(nil, "regions: [{id: eu}]\napps: [{id: app%d, certificates: [%s]}]\n", i, secretA)
}

// envInt lets longer runs than CI's be asked for.
func envInt(key string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(key)); err == nil {
		return n
	}
	return otherwise
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// change applies a document, whatever it strands.
func (c *Control) change(ctx context.Context, doc []byte, ifVersion *uint64) (Policy, error) {
	out, err := c.Propose(ctx, Proposal{Document: doc, Who: "test", IfVersion: ifVersion, Force: true})
	return out.Policy, err
}

// regionOf says where a node of that name is: eu, unless it ends in another region's name.
func regionOf(name string) string {
	if _, region, found := strings.Cut(name, "-"); found {
		return region
	}
	return "eu"
}
