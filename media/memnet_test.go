package media

import (
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/media/braid"
)

// memNet connects hubs in memory: sessions with a fixed delay for messages, packets at once, directory calls at
// once. It lives inside a synctest bubble.
type memNet struct {
	t     *testing.T
	mu    sync.Mutex
	nodes map[string]*memNode
	order []string
	delay time.Duration
	// fences by app; an app that is missing is not allowed.
	fences map[string]braid.FenceID
	mute   map[string]bool // nodes whose directory does not answer
	calls  map[string]int  // directory calls per node
}

type memNode struct {
	net    *memNet
	name   string
	hub    *Hub
	cancel context.CancelFunc
	exited chan struct{}
	up     bool
	links  map[memPair]*memLink
}

type memPair struct {
	peer  braid.NodeID
	fence braid.FenceID
}

func nodeID(name string) braid.NodeID {
	h := fnv.New32a()
	h.Write([]byte(name))
	return braid.NodeID(h.Sum32())
}

func newNet(t *testing.T, names ...string) *memNet {
	n := &memNet{
		t: t, nodes: map[string]*memNode{}, delay: 20 * time.Millisecond,
		fences: map[string]braid.FenceID{"app": 7}, mute: map[string]bool{}, calls: map[string]int{},
	}
	for _, name := range names {
		n.start(name)
	}
	return n
}

// start boots a node, or boots it again.
func (n *memNet) start(name string) *Hub {
	node := &memNode{net: n, name: name, up: true, links: map[memPair]*memLink{}, exited: make(chan struct{})}
	hub, err := New(Config{
		Self: name, Braid: node, Peers: n.peers,
		NodeID: func(s string) (braid.NodeID, bool) { return nodeID(s), true },
		Name:   n.nameOf,
		Fence: func(app string) (braid.FenceID, bool) {
			n.mu.Lock()
			defer n.mu.Unlock()
			f, ok := n.fences[app]
			return f, ok
		},
		Call: func(ctx context.Context, to string, req []byte) ([]byte, error) { return n.call(ctx, name, to, req) },
		Load: func() float64 { return 0.5 },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	node.hub = hub
	ctx, cancel := context.WithCancel(context.Background())
	node.cancel = cancel
	n.mu.Lock()
	n.nodes[name] = node
	if !slices.Contains(n.order, name) {
		n.order = append(n.order, name)
	}
	n.mu.Unlock()
	go func() { defer close(node.exited); _ = hub.Run(ctx) }()
	synctest.Wait()
	return hub
}

// stop shuts a node down in order; kill drops it from the network first, so nobody hears a goodbye.
func (n *memNet) stop(name string) {
	node := n.nodes[name]
	node.cancel()
	<-node.exited
	n.disconnect(node)
}

func (n *memNet) kill(name string) {
	n.disconnect(n.nodes[name])
	n.stop(name)
}

// disconnect takes a node off the network: its sessions close at both ends.
func (n *memNet) disconnect(node *memNode) {
	n.mu.Lock()
	node.up = false
	links := node.links
	node.links = map[memPair]*memLink{}
	n.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

func (n *memNet) stopAll() {
	for _, name := range n.order {
		n.stop(name)
	}
}

func (n *memNet) peers(string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.order)
}

func (n *memNet) nameOf(id braid.NodeID) (string, bool) {
	for _, name := range n.peers("") {
		if nodeID(name) == id {
			return name, true
		}
	}
	return "", false
}

func (n *memNet) node(id braid.NodeID) *memNode {
	name, _ := n.nameOf(id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if node := n.nodes[name]; node != nil && node.up {
		return node
	}
	return nil
}

// call carries a directory request; a node that is down or mute never answers.
func (n *memNet) call(ctx context.Context, from, to string, req []byte) ([]byte, error) {
	n.mu.Lock()
	n.calls[to]++
	node, mute := n.nodes[to], n.mute[to] || !n.nodes[from].up
	up := node != nil && node.up
	n.mu.Unlock()
	if !up || mute {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return node.hub.ServeDirectory(ctx, from, req), nil
}

func (n *memNet) setMute(mute bool, names ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		n.mute[name] = mute
	}
}

func (n *memNet) setFence(app string, f braid.FenceID, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fences[app] = f; !ok {
		delete(n.fences, app)
	}
}

// Session implements Braid.
func (node *memNode) Session(ctx context.Context, peer braid.NodeID, fence braid.FenceID) (Link, error) {
	n := node.net
	other := n.node(peer)
	if other == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := node.links[memPair{peer, fence}]; l != nil {
		return l, nil
	}
	a := &memLink{from: node, to: other, fence: fence, queue: make(chan []byte, 1024), done: make(chan struct{})}
	b := &memLink{from: other, to: node, fence: fence, queue: make(chan []byte, 1024), done: a.done, other: a}
	a.other, a.once, b.once = b, new(sync.Once), nil
	b.once = a.once
	node.links[memPair{peer, fence}] = a
	other.links[memPair{nodeID(node.name), fence}] = b
	go node.hub.opened(a)
	go other.hub.opened(b)
	go a.carry()
	go b.carry()
	return a, nil
}

// memLink is one end of a session.
type memLink struct {
	from, to *memNode
	other    *memLink
	fence    braid.FenceID
	queue    chan []byte
	done     chan struct{}
	once     *sync.Once
	full     atomic.Bool // refuses messages
}

func (l *memLink) Peer() braid.NodeID   { return nodeID(l.to.name) }
func (l *memLink) Fence() braid.FenceID { return l.fence }
func (l *memLink) Send(stream uint16, _ braid.Class, p []byte) braid.DropReason {
	select {
	case <-l.done:
		return 3
	default:
	}
	l.to.hub.packet(l.other, stream, p)
	return 0
}

func (l *memLink) SendMessage(b []byte) error {
	if l.full.Load() {
		return errors.New("queue full")
	}
	select {
	case <-l.done:
		return errors.New("session closed")
	case l.queue <- bytes.Clone(b):
		return nil
	default:
		return errors.New("queue full")
	}
}

func (l *memLink) carry() {
	for {
		select {
		case b := <-l.queue:
			select {
			case <-time.After(l.from.net.delay):
			case <-l.done:
				return
			}
			l.to.hub.message(l.other, b)
		case <-l.done:
			return
		}
	}
}

func (l *memLink) close() {
	l.once.Do(func() {
		close(l.done)
		n := l.from.net
		n.mu.Lock()
		for _, e := range []*memLink{l, l.other} {
			p := memPair{e.Peer(), e.fence}
			if e.from.links[p] == e {
				delete(e.from.links, p)
			}
		}
		n.mu.Unlock()
		l.from.hub.closed(l)
		l.to.hub.closed(l.other)
	})
}

// viewer is a Sink that remembers.
type viewer struct {
	mu       sync.Mutex
	packets  [][]byte
	tracks   []int
	ended    string
	switched int
}

func (v *viewer) Write(track int, p []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.packets, v.tracks = append(v.packets, bytes.Clone(p)), append(v.tracks, track)
}

func (v *viewer) Ended(reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ended != "" {
		panic("Ended called twice: " + v.ended + ", " + reason)
	}
	v.ended = reason
}

func (v *viewer) Switched() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.switched++
}

func (v *viewer) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.packets)
}

func (v *viewer) end() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended
}

// av are the tracks of most tests: video is track 0, audio track 1.
var av = []Track{
	{ID: "v", Kind: KindVideo, Mime: "video/VP8", ClockRate: 90000},
	{ID: "a", Kind: KindAudio, Mime: "audio/opus", ClockRate: 48000, Channels: 2},
}

// asks counts keyframe requests with their times.
type asks struct {
	mu sync.Mutex
	at []time.Time
}

func (a *asks) ask(int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

func (a *asks) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

func key(stream string) Key { return Key{"app", "room", stream} }

func mustPublish(t *testing.T, h *Hub, k Key, keyframe func(int)) *Publication {
	t.Helper()
	p, err := h.Publish(k, av, keyframe)
	if err != nil {
		t.Fatalf("publish %s at %s: %v", k, h.cfg.Self, err)
	}
	return p
}

func mustSubscribe(t *testing.T, h *Hub, k Key) (*Subscription, *viewer) {
	t.Helper()
	v := &viewer{}
	s, err := h.Subscribe(t.Context(), k, v)
	if err != nil {
		t.Fatalf("subscribe %s at %s: %v", k, h.cfg.Self, err)
	}
	return s, v
}

// flows writes a packet and says whether the viewer got it.
func flows(p *Publication, v *viewer) bool {
	before := v.count()
	p.Write(0, []byte("packet"))
	return v.count() == before+1
}

// settle lets d of virtual time pass and all that is ready run.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// world runs a test in a bubble with nodes a, b, c, d, e.
func world(t *testing.T, test func(t *testing.T, n *memNet)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, "a", "b", "c", "d", "e")
		defer n.stopAll() // also when the test fails
		test(t, n)
	})
}
