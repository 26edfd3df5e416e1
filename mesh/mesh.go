package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/mesh/linkstate"
	"github.com/ternmesh/tern/routing"
)

// States of a node that mean something to the mesh. Any state that is not among them keeps a node from relaying.
const (
	StateServing  = "serving"
	StateDraining = "draining" // clients are moving away
	StateDrained  = "drained"  // and are gone
	StateCordoned = "cordoned" // takes no new clients
	StateUnleased = "unleased" // takes no new clients: its lease has ended
	StateLeft     = "left"     // said by a node that goes for good, or until it is started again
)

// Health is what a node says of itself; Config.Self provides it.
type Health struct {
	Incarnation   uint32         // of the node's run; grows with every start
	Mesh          netip.AddrPort // address of the mesh port, as others reach it
	AccessURL     string         // at most 200 bytes
	State         string         // at most 16 bytes
	Load          float64        // 0 is idle, 1 is full (and no relay any more)
	PolicyVersion uint64
	Voter         bool // for others only believed if the certificate says so too
	Sessions      int
	Risks         []string // what the node shares with others ("site:fra1"); at most 4 of 40 bytes
}

// Member is a node whose signed record was verified. Region, Node and ID are those of its certificate.
type Member struct {
	Node, Region string
	ID           uint32
	Alive        bool // memberlist holds it for alive, and it has not said goodbye
	Health       Health
}

// Traffic is what a node has counted of the frames that go straight between it and another.
type Traffic struct {
	Sent, Arrived uint64
	Timed         uint64        // of those that arrived, the other's own, which carry the time of their sending
	Transit       time.Duration // of the newest of those: our clock at its arrival less the other's at its sending
	// Brought are frames of third nodes among those that arrived, Passed among those sent.
	Brought, Passed Relayed
}

// Relayed is what was counted of the frames of third nodes in one direction of a link.
type Relayed struct {
	Count   uint64
	Source  uint32        // of the newest,
	SentMS  uint16        // the low 16 bits of its time, in milliseconds by the source's clock,
	Transit time.Duration // and our clock at its arrival here less that
}

// Config is what a Mesh needs. All functions are called from several goroutines. No lock of the mesh is held then, but
// memberlist may hold its own: Self must not wait for gossip.
type Config struct {
	Identity *identity.Identity
	Packets  net.PacketConn                                                                             // gossip class, payload without the class byte; read deadlines must work
	Dial     func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)                           // reliable gossip stream over L1
	Keys     func(ctx context.Context, addr netip.AddrPort, mine [][]byte) (theirs [][]byte, err error) // exchange of gossip keys over L1
	Self     func() Health
	Probe    func(to uint32, payload []byte) error // sends a link probe; must not block
	// Traffic tells of the frames of live traffic between this node and a member since it was first asked for that one. Must not
	// block. nil: links are measured by probes alone.
	Traffic func(to uint32) Traffic
	// Busy tells whether this node has clients or sessions with peers. Must not block. nil: always (see rest.go).
	Busy   func() bool
	Logger *slog.Logger

	// Skew is how far this node's wall clock, by which keys get their time, is ahead of time.Now; nil: it is not. For simulations.
	Skew func() time.Duration

	// ProbeRate caps this node's probe traffic, in bits per second on the wire. 0: DefaultProbeRate; at least MinProbeRate.
	ProbeRate int
	// Resolve turns the host of a join address into addresses, at every attempt. nil: net.DefaultResolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// InitialKeys are gossip keys known from before, as KeysChanged gave them; nil: the first node of a mesh draws one.
	InitialKeys [][]byte
	// KeysChanged, if set, gets the whole ring after every change, for keeping it.
	KeysChanged func(keys [][]byte)
}

// Mesh is one node's view of the mesh. Make it with New; all methods are safe for concurrent use, before, during and
// after Run.
type Mesh struct {
	cfg   Config
	log   *slog.Logger
	id    uint32
	keys  *keys
	links *prober
	wire  *transport
	warn  *limiter
	stats counters

	established atomic.Bool // some member answered a probe: it holds us for the node of our name

	changed chan struct{} // capacity 1
	fatal   chan error    // capacity 1: ends Run
	keyPush chan struct{} // capacity 1: the ring of keys changed

	strangers chan netip.AddrPort // capacity maxStrangers: nodes to join

	now  func() time.Time // time.Now, but in tests that step through time
	dirt dirt             // has its own lock
	// sign and verify are the Identity's, but in tests that replay exactly, for signatures are drawn by chance, and in those that run
	// many nodes in one process and check each signature once.
	sign   func(context string, msg []byte) (certificate, sig []byte, err error)
	verify func(context string, msg, certificate, sig []byte) (identity.Peer, error)

	drawing sync.Mutex     // held while the graph is drawn; taken before mu
	graph   *routing.Graph // guarded by drawing

	mu        sync.Mutex
	met       map[netip.AddrPort]time.Time      // guarded by mu: when a stranger was last queued, at most maxLost
	proven    map[string]netip.AddrPort         // guarded by mu: where strangers are by their cards, at most maxLost
	peers     map[string]*peer                  // guarded by mu: by name, self not included
	ids       map[uint32]string                 // guarded by mu: compact id to name, of peers
	reachable []uint32                          // guarded by mu: ids of live peers, rising; replaced, never written
	lost      map[netip.AddrPort]time.Time      // guarded by mu: addresses of failed members, for rejoining, at most maxLost
	core      *linkstate.Core                   // guarded by mu
	rng       *rand.Rand                        // guarded by mu
	send      func(to peerAddr, message []byte) // guarded by mu: nil outside of Run
	used      map[uint32]bool                   // guarded by mu: see Use
	planned   time.Time                         // guarded by mu: when neighbours were last chosen
	planSoon  bool                              // guarded by mu: members or use changed since
	self      own                               // guarded by mu
	clash     time.Time                         // guarded by mu: since when another node has our name or id; zero: none
	busy      time.Time                         // guarded by mu: when the mesh was last seen to be at work; see rest.go
	resting   bool                              // belongs to beat
	moved     bool                              // guarded by mu: members changed since the prober was told
	told      time.Time                         // guarded by mu: when it was
	tellings  uint64                            // guarded by mu: how often it was
}

// New checks the configuration and returns a Mesh that knows nobody. Run makes it live.
func New(cfg Config) (*Mesh, error) {
	switch {
	case cfg.Identity == nil:
		return nil, errors.New("mesh: Identity is missing")
	case cfg.Packets == nil, cfg.Dial == nil, cfg.Keys == nil, cfg.Self == nil, cfg.Probe == nil:
		return nil, errors.New("mesh: Packets, Dial, Keys, Self and Probe are all needed")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Skew == nil {
		cfg.Skew = func() time.Duration { return 0 }
	}
	if cfg.Resolve == nil {
		cfg.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	ring, err := newKeys(time.Now().Add(cfg.Skew()), cfg.InitialKeys, cfg.KeysChanged)
	if err != nil {
		return nil, err
	}
	switch rate := &cfg.ProbeRate; {
	case *rate == 0:
		*rate = DefaultProbeRate
	case *rate < MinProbeRate:
		return nil, fmt.Errorf("mesh: a probe rate of %d bit/s measures nothing; at least %d", *rate, MinProbeRate)
	}
	m := &Mesh{
		cfg:     cfg,
		log:     cfg.Logger,
		id:      cfg.Identity.ID(),
		keys:    ring,
		warn:    newLimiter(cfg.Logger),
		changed: make(chan struct{}, 1),
		fatal:   make(chan error, 1),
		keyPush: make(chan struct{}, 1),
		peers:   make(map[string]*peer),
		ids:     make(map[uint32]string),
		lost:    make(map[netip.AddrPort]time.Time),
		met:     make(map[netip.AddrPort]time.Time),
		proven:  make(map[string]netip.AddrPort),
		core:    linkstate.NewCore(cfg.Identity.ID()),
		rng:     rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())),
		now:     time.Now,
		sign:    cfg.Identity.Sign,
		verify:  cfg.Identity.Verify,

		strangers: make(chan netip.AddrPort, maxStrangers),
	}
	m.links = newProber(m, cfg.ProbeRate, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	m.wire = newTransport(m)
	return m, nil
}

// HandleStream takes over a gossip stream that a peer opened. Outside of Run it is closed.
func (m *Mesh) HandleStream(conn net.Conn) { m.wire.accept(conn) }

// HandleKeys answers a peer's exchange of gossip keys: both sides end up with the union. L1 has authenticated the peer.
func (m *Mesh) HandleKeys(theirs [][]byte) (mine [][]byte) {
	m.learnKeys(theirs)
	return m.keys.answer(m.wall())
}

// HandleProbe takes a link probe from an authenticated peer; the payload is not kept.
func (m *Mesh) HandleProbe(from uint32, payload []byte) { m.links.handle(m.now(), from, payload) }

// wall is the time by this node's wall clock, which others' are held against.
func (m *Mesh) wall() time.Time { return m.now().Add(m.cfg.Skew()) }

// Changed has an element after members, their health, or links changed; further changes until it is read are merged.
func (m *Mesh) Changed() <-chan struct{} { return m.changed }

func (m *Mesh) notify() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
