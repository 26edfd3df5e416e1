package braid

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// testNet is a network of braids inside a synctest bubble. Every delivery gets an instant of its own, so that the order
// of arrivals does not depend on the scheduler.
type testNet struct {
	t     *testing.T
	fence FenceID

	mu      sync.Mutex
	nodes   map[NodeID]*testNode
	rng     *rand.Rand
	unique  time.Duration
	link    func(from, to NodeID) (delay time.Duration, loss float64) // loss 1 = down
	narrow  func(from, to NodeID) *bottleneck                         // nil: unlimited
	slot    func(from NodeID, at time.Time) bool                      // true: all that from sends now is lost
	media   int                                                       // frames, counted by watchMedia
	inspect func(from, to NodeID, frame []byte) bool                  // false: swallowed
	hold    func(from, to NodeID, now time.Time) time.Duration        // how much later a packet leaves than its sender meant

	versions map[NodeID][]string // protocols that a node offers, if not all
}

type testNode struct {
	net    *testNet
	id     NodeID
	braid  *Braid
	cert   tls.Certificate
	inbox  chan arrived
	cancel context.CancelFunc
	ended  chan struct{}
	rec    *recorder
	routes func(peer NodeID) []Path
	late   atomic.Pointer[func() time.Duration] // nil: the reader takes frames as they come; else it comes so late to a batch
	slow   atomic.Pointer[func() time.Duration] // nil: the sender of media runs when it should; else it comes so late
	mute   atomic.Bool                          // its kernel does not say how long frames have waited

	instead func(avoid []Path) []Path             // if not nil, what Paths returns
	allow   atomic.Pointer[func(hop NodeID) bool] // nil: all
	gone    atomic.Uint32                         // a node that is no member any more
	secret  [32]byte
}

// arrived is a frame in a node's socket.
type arrived struct {
	frame []byte
	at    time.Time
}

// recorder is a Handler that keeps what it got.
type recorder struct {
	mu       sync.Mutex
	opened   []*Session
	closed   []error
	packets  map[uint64]int // by the number in the first eight bytes
	bad      int            // packets whose content is not what the number says
	at       map[uint64]time.Time
	messages []string
}

func (r *recorder) Opened(s *Session) { r.mu.Lock(); r.opened = append(r.opened, s); r.mu.Unlock() }
func (r *recorder) Closed(_ *Session, err error) {
	r.mu.Lock()
	r.closed = append(r.closed, err)
	r.mu.Unlock()
}

func (r *recorder) Packet(_ *Session, _ uint16, packet []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := binary.BigEndian.Uint64(packet)
	r.packets[n]++
	r.at[n] = time.Now()
	if !slices.Equal(packet, testPacket(n, len(packet))) {
		r.bad++
	}
}

func (r *recorder) Message(_ *Session, m []byte) {
	r.mu.Lock()
	r.messages = append(r.messages, string(m))
	r.mu.Unlock()
}

func (r *recorder) got() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.packets)
}

// testPacket is packet number n: its content can be checked by its number.
func testPacket(n uint64, size int) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, size), n)
	for i := 8; i < size; i++ {
		b = append(b, byte(uint64(i)*31+n))
	}
	return b
}

func newTestNet(t *testing.T) *testNet {
	return &testNet{
		t: t, fence: FenceOf([]string{"eu", "us"}), nodes: map[NodeID]*testNode{}, rng: rand.New(rand.NewPCG(1, 2)),
		link: func(NodeID, NodeID) (time.Duration, float64) { return 20 * time.Millisecond, 0 },
	}
}

// testCert is a certificate whose common name is the node id; the tests' PeerID trusts it.
func testCert(t testing.TB, id NodeID) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: strconv.Itoa(int(id))},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func testPeerID(cs tls.ConnectionState) (NodeID, error) {
	if len(cs.PeerCertificates) == 0 {
		return 0, errors.New("no certificate")
	}
	n, err := strconv.Atoi(cs.PeerCertificates[0].Subject.CommonName)
	return NodeID(n), err
}

func addrOf(id NodeID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(id)}), 4433)
}

// add starts a node. It stops with the test.
func (n *testNet) add(id NodeID, incarnation uint32, routes func(peer NodeID) []Path, change ...func(*Config)) *testNode {
	n.t.Helper()
	x := &testNode{
		net: n, id: id, cert: testCert(n.t, id), inbox: make(chan arrived, 1<<16), ended: make(chan struct{}), routes: routes,
		rec: &recorder{packets: map[uint64]int{}, at: map[uint64]time.Time{}},
	}
	x.secret[0] = byte(id)
	x.secret[1] = byte(incarnation)
	cfg := x.config(incarnation)
	for _, f := range change {
		f(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	x.braid = b
	if v := n.versions[id]; v != nil {
		b.protocols = v
	}
	n.mu.Lock()
	n.nodes[id] = x
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case f := <-x.inbox:
				if late := x.late.Load(); late != nil {
					time.Sleep((*late)())
				}
				x.read(f)
			case <-ctx.Done():
				return
			}
		}
	})
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			n.t.Errorf("node %d: Run: %v", id, err)
		}
	})
	go func() { wg.Wait(); close(x.ended) }()
	n.t.Cleanup(x.stop)
	return x
}

// read takes a frame and all that wait behind it.
func (x *testNode) read(f arrived) {
	for {
		waited := time.Since(f.at)
		if x.mute.Load() {
			waited = 0
		}
		x.braid.HandleRun(f.frame, len(f.frame), netip.AddrPort{}, false, waited)
		select {
		case f = <-x.inbox:
		default:
			return
		}
	}
}

// sends is where a sender that comes late is held: once, and then it runs for a moment. One goroutine's.
func (x *testNode) sends() func(FenceID) Carrier {
	var woke time.Time
	return func(FenceID) Carrier {
		if slow := x.slow.Load(); slow != nil && time.Since(woke) > 2*coalesce {
			time.Sleep((*slow)())
			woke = time.Now()
		}
		return Frames
	}
}

func (x *testNode) stop() {
	x.cancel()
	<-x.ended
}

func (x *testNode) config(incarnation uint32) Config {
	n := x.net
	return Config{
		Self: x.id, Incarnation: incarnation, Secret: x.secret, Wire: x, Handler: x.rec,
		Addr: func(id NodeID) (netip.AddrPort, bool) { return addrOf(id), id < 200 && id != NodeID(x.gone.Load()) },
		RelayKey: func(_ context.Context, holder NodeID, epoch uint32) (Key, error) {
			time.Sleep(15 * time.Millisecond) // L1's round trip
			n.mu.Lock()
			defer n.mu.Unlock()
			h := n.nodes[holder]
			if h == nil {
				return Key{}, errors.New("no such node")
			}
			return h.braid.KeyFor(x.id, epoch), nil
		},
		Allow: func(fence FenceID, hop NodeID) bool {
			allow := x.allow.Load()
			return fence == n.fence && (allow == nil || (*allow)(hop))
		},
		Paths: func(peer NodeID, _ FenceID, avoid []Path) []Path {
			if x.instead != nil {
				return x.instead(avoid)
			}
			return x.routes(peer)
		},
		ServerTLS: func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{x.cert}, ClientAuth: tls.RequireAnyClientCert}
		},
		ClientTLS: func(NodeID) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{x.cert}, InsecureSkipVerify: true} // the tests' PeerID decides
		},
		PeerID: testPeerID, Carrier: x.sends(),
	}
}

// only restricts the nodes that this node's policy allows the fence to touch.
func (x *testNode) only(allow func(hop NodeID) bool) { x.allow.Store(&allow) }

// WriteRun implements Wire: every segment takes its own way.
func (x *testNode) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	if segment > MaxDatagram {
		x.net.t.Errorf("a datagram of %d bytes, at most %d", segment, MaxDatagram)
	}
	for len(run) > 0 {
		n := min(segment, len(run))
		x.net.send(x.id, NodeID(to.Addr().As4()[3]), append([]byte(nil), run[:n]...))
		run = run[n:]
	}
	return nil
}

// carry is one packet's fate: how long it takes, or that it is lost. Holds mu.
func (n *testNet) carry(from, to NodeID, size int) (time.Duration, bool) {
	delay, loss := n.link(from, to)
	if n.hold != nil {
		delay += n.hold(from, to, time.Now())
	}
	if n.slot != nil && n.slot(from, time.Now()) || n.rng.Float64() < loss {
		return 0, false
	}
	if n.narrow != nil {
		if b := n.narrow(from, to); b != nil {
			wait, ok := b.carry(time.Now(), size+28)
			if !ok {
				return 0, false
			}
			delay += wait
		}
	}
	n.unique = (n.unique + 1) % 1000
	return delay + n.unique, true
}

func (n *testNet) send(from, to NodeID, frame []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inspect != nil && !n.inspect(from, to, frame) {
		return
	}
	wait, ok := n.carry(from, to, len(frame))
	if !ok {
		return
	}
	time.AfterFunc(wait, func() {
		n.mu.Lock()
		x := n.nodes[to]
		n.mu.Unlock()
		if x == nil {
			return
		}
		select {
		case x.inbox <- arrived{frame, time.Now()}:
		default:
		}
	})
}

// set changes the network under its lock.
func (n *testNet) set(f func()) {
	n.mu.Lock()
	f()
	n.mu.Unlock()
}

func (x *testNode) session(peer NodeID) *Session {
	x.net.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := x.braid.Session(ctx, peer, x.net.fence)
	if err != nil {
		x.net.t.Fatalf("node %d: no session with %d: %v", x.id, peer, err)
	}
	return s
}

// stream sends count packets of the given size at even intervals, numbered from first.
func stream(s *Session, first, count, size int, interval time.Duration) {
	for i := range count {
		s.Send(7, Video, testPacket(uint64(first+i), size))
		time.Sleep(interval)
	}
}

func direct(NodeID) []Path { return []Path{{}} }

// threePaths are the direct path and one by relay 3 and 4 each.
func threePaths(NodeID) []Path { return []Path{{}, {Relays: []NodeID{3}}, {Relays: []NodeID{4}}} }

// inBubble runs a test in virtual time, with the network torn down inside the bubble.
func inBubble(t *testing.T, f func(t *testing.T, n *testNet)) {
	synctest.Test(t, func(t *testing.T) { f(t, newTestNet(t)) })
}

// pause lets virtual time pass until everything that is due has happened.
func pause(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
