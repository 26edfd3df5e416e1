package braid

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sync/errgroup"
)

// NodeID is the compact id of a node.
type NodeID uint32

// FenceID names a set of regions; 0 is the mesh fence, which carries link probes alone.
type FenceID uint32

// Key is a relay key: what one node lets one other prove to it.
type Key [16]byte

// Class orders packets in the send queue.
type Class uint8

// Classes: audio always leaves first.
const (
	Audio Class = iota
	Video
)

// OneCopy, added to a class, sends a packet on the best living path alone instead of on every path of the set; see
// Adaptive as well.
const OneCopy Class = 1 << 7

// Carrier says what media rides in. Either end accepts both at any time.
type Carrier uint8

// Carriers.
const (
	Frames   Carrier = iota // sealed media frames
	Datagram                // QUIC DATAGRAMs on the braided connection, under its congestion control
)

// FenceOf returns the id of a set of regions: order and repetition do not matter. It is never 0.
func FenceOf(regions []string) FenceID {
	sorted := slices.Compact(slices.Sorted(slices.Values(regions)))
	sum := sha256.Sum256([]byte(strings.Join(sorted, "\n")))
	return max(1, FenceID(binary.BigEndian.Uint32(sum[:])))
}

// Path is the relays between two nodes, in order; none = direct.
type Path struct{ Relays []NodeID }

// Wire writes UDP. run is one or more segments of equal size, of which the last may be shorter. It must be safe for
// concurrent use, must not keep run, and should not wait: what the socket has no room for is refused with an error, and
// counted. One that waits holds up the frames behind.
type Wire interface {
	WriteRun(run []byte, segment int, to netip.AddrPort) error
}

// Handler receives what sessions bring. Opened is called before anything else for a session and Closed after all; between
// them, Packet calls come one at a time, and Message calls come one at a time. None may block; packet and message are
// valid during the call.
type Handler interface {
	Opened(*Session)
	Closed(*Session, error)
	Packet(s *Session, stream uint16, packet []byte)
	Message(s *Session, message []byte)
}

// Config of a Braid. All functions are called from several goroutines; those marked (packet) for every packet, so they
// must be quick, must not block and should not allocate.
type Config struct {
	Self        NodeID
	Incarnation uint32   // a number that differs after every restart
	Secret      [32]byte // relay keys and stateless-reset tokens derive from it
	Wire        Wire
	Logger      *slog.Logger // nil: none

	Addr     func(NodeID) (netip.AddrPort, bool)                                 // (packet) current mesh address of a member
	RelayKey func(ctx context.Context, holder NodeID, epoch uint32) (Key, error) // fetches a key over L1
	Allow    func(fence FenceID, hop NodeID) bool                                // (packet) may the fence's frames touch that node
	// Paths are best first, at most three. avoid: paths to the peer that are dead though their links may look well, so others
	// are wanted in their place; what Paths returns all the same is used.
	Paths     func(peer NodeID, fence FenceID, avoid []Path) []Path
	ServerTLS func() *tls.Config
	ClientTLS func(peer NodeID) *tls.Config
	PeerID    func(tls.ConnectionState) (NodeID, error) // whose certificate the peer showed
	Carrier   func(FenceID) Carrier                     // nil: Frames
	Handler   Handler
	Probe     func(from NodeID, payload []byte) // (packet) receives link probes; nil: dropped

	// Queued says how many bytes wait in the socket behind Wire, by which a relay tells that it is congested; nil: it never
	// does but by writes that Wire refuses.
	Queued func() int

	// Skew is how far this node's wall clock is ahead of time.Now; nil: it is not. Simulations give nodes of one process clocks of
	// their own by it.
	Skew func() time.Duration

	// Onward (packet) is told of what this node has relayed and would relay again, once for the frames of a run that go one way, for
	// whoever can do so faster; nil: nobody is. See Forwarded.
	Onward func(Onward)

	// RelayRate bounds what one source may have relayed by this node, in bytes a second. 0: DefaultRelayRate.
	RelayRate float64
}

// Bounds.
const (
	maxFlows = 4096 // peers times fences
	maxPaths = 3
	// maxSessions bounds the sessions of a flow, those still without a hello included: the one in use, one that replaces
	// it, and two that are being given up. Further connections are refused.
	maxSessions = 4
	// flowIdle is how long a flow without a session is kept.
	flowIdle = time.Minute
	// defaultRekey is how many frames are sealed with one media key; AES-GCM would bear more.
	defaultRekey = 1 << 22
)

// DefaultRelayRate is what one source may have relayed by a node, in bytes a second.
const DefaultRelayRate = 250e6

// Errors of Session and SendProbe.
var (
	ErrClosed    = errors.New("braid: closed")
	ErrFence     = errors.New("braid: policy keeps this fence away from the peer or this node")
	ErrNoKey     = errors.New("braid: the peer's relay key has not arrived yet")
	ErrNoAddress = errors.New("braid: the peer has no address")
	errSessions  = errors.New("braid: too many sessions with the peer under way")
)

// flowKey names all traffic between this node and a peer under one fence.
type flowKey struct {
	peer  NodeID
	fence FenceID
}

// Braid is a node's end of all its braids, and its relay. All methods are safe for concurrent use.
type Braid struct {
	cfg  Config
	log  *slog.Logger
	keys *keyring
	conn *virtualConn
	time *steady

	counters counters
	budgets  budgets
	started  chan struct{} // closed when Run is ready for Session
	ending   chan struct{} // closed when Run begins to end
	done     chan struct{} // closed when Run has ended
	tasks    chan func(context.Context)
	running  atomic.Bool

	transport *quic.Transport // set before started closes

	flowMu sync.RWMutex
	flows  map[flowKey]*flow

	traffic  traffic
	sourceMu sync.Mutex // guards sources
	sources  sources

	probeMu    sync.Mutex // guards the block below
	probeBuf   [MaxDatagram]byte
	probeSeq   uint32
	probeInput [macInputSize]byte

	pressure pressure

	runs  sync.Pool // *[runBytes]byte: one run in the making
	rekey uint64    // frames per media key

	protocols []string // offered
}

// New checks cfg and builds a Braid that does nothing until Run.
func New(cfg Config) (*Braid, error) {
	switch {
	case cfg.Wire == nil, cfg.Addr == nil, cfg.RelayKey == nil, cfg.Allow == nil, cfg.Paths == nil,
		cfg.ServerTLS == nil, cfg.ClientTLS == nil, cfg.PeerID == nil, cfg.Handler == nil:
		return nil, errors.New("braid: Wire, Addr, RelayKey, Allow, Paths, ServerTLS, ClientTLS, PeerID and Handler must be set")
	case cfg.RelayRate < 0:
		return nil, fmt.Errorf("braid: RelayRate %v is negative", cfg.RelayRate)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Carrier == nil {
		cfg.Carrier = func(FenceID) Carrier { return Frames }
	}
	if cfg.Skew == nil {
		cfg.Skew = func() time.Duration { return 0 }
	}
	if cfg.RelayRate == 0 {
		cfg.RelayRate = DefaultRelayRate
	}
	b := &Braid{
		cfg: cfg, log: cfg.Logger, started: make(chan struct{}), ending: make(chan struct{}), done: make(chan struct{}),
		tasks: make(chan func(context.Context)), flows: make(map[flowKey]*flow),
		sources: sources{secret: cfg.Secret, rate: cfg.RelayRate, known: make(map[NodeID]*source)},
		runs:    sync.Pool{New: func() any { return new([runBytes]byte) }},
		rekey:   defaultRekey, protocols: offered,
	}
	b.budgets.wake, b.budgets.soon = make(chan struct{}, 1), make(chan struct{}, 1)
	b.time = newSteady(time.Now(), func(now time.Time) time.Time { return now.Round(0).Add(cfg.Skew()) })
	b.keys = newKeyring(b)
	b.conn = newVirtualConn(b)
	return b, nil
}

// quicConfig is the same for both sides. InitialPacketSize stays unset: larger than its default and with path MTU
// discovery off, quic-go's pacer and controller would disagree about packet sizes and spin.
func quicConfig() *quic.Config {
	return &quic.Config{
		EnableDatagrams:         true,
		DisablePathMTUDiscovery: true,            // with copies, a probe would pass if any path passes it
		KeepAlivePeriod:         5 * time.Second, // reports are more frequent
		MaxIdleTimeout:          10 * time.Second,
		HandshakeIdleTimeout:    5 * time.Second,
		MaxIncomingStreams:      -1,
		MaxIncomingUniStreams:   4,
	}
}

// resetKey lets a restarted node with the same secret end its old connections at once.
func (b *Braid) resetKey() *quic.StatelessResetKey {
	mac := hmac.New(sha256.New, b.cfg.Secret[:])
	mac.Write([]byte("tern stateless reset"))
	return (*quic.StatelessResetKey)(mac.Sum(nil))
}

// unixMS is the instant now in Unix milliseconds, by the time that frames carry.
func (b *Braid) unixMS(now time.Time) uint64 { return b.time.unixMS(now) }

// Run serves until ctx ends; then it says goodbye on every session and returns when all goroutines have ended. It may
// be called once. The Wire must outlive it.
func (b *Braid) Run(ctx context.Context) error {
	if b.running.Swap(true) {
		return errors.New("braid: Run called twice")
	}
	defer close(b.done)
	b.transport = &quic.Transport{Conn: b.conn, StatelessResetKey: b.resetKey()}
	server := &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return withALPN(b.cfg.ServerTLS(), b.protocols), nil
		},
	}
	listener, err := b.transport.Listen(server, quicConfig())
	if err != nil {
		return fmt.Errorf("braid: listening on the virtual connection: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	close(b.started)
	g.Go(func() error { return b.accept(gctx, g, listener) })
	g.Go(func() error { return b.housekeep(gctx) })
	g.Go(func() error { return b.budgetLoop(gctx) })
	g.Go(func() error {
		defer close(b.ending)
		for {
			select {
			case task := <-b.tasks:
				g.Go(func() error { task(gctx); return nil })
			case <-gctx.Done():
				return nil
			}
		}
	})
	err = g.Wait() // sessions close their connections before their goroutines end
	// Order matters: the transport's reader ends when the conn does, and Close waits for that reader.
	_ = listener.Close()
	_ = b.conn.Close()
	_ = b.transport.Close()
	return err
}

// spawn runs task under Run's group; it reports false when Run is ending.
func (b *Braid) spawn(task func(context.Context)) bool {
	select {
	case b.tasks <- task:
		return true
	case <-b.ending:
		return false
	}
}

// housekeep does what is due every second: the clock, keys of coming epochs, flows that nobody uses.
func (b *Braid) housekeep(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			b.time.follow(now)
			for _, f := range b.allFlows() {
				f.rekey(now)
				if f.idle(now) {
					b.flowMu.Lock()
					delete(b.flows, f.key)
					b.flowMu.Unlock()
					b.budgets.remove(f.pace)
				}
			}
			b.keys.sweep(now)
		case <-b.keys.wake:
			b.keys.fetchWanted(ctx)
		}
	}
}

func (b *Braid) allFlows() []*flow {
	b.flowMu.RLock()
	defer b.flowMu.RUnlock()
	out := make([]*flow, 0, len(b.flows))
	for _, f := range b.flows {
		out = append(out, f)
	}
	return out
}

// flow returns the flow of a key; nil if it does not exist and make is false, or there are too many.
func (b *Braid) flow(key flowKey, create bool) *flow {
	b.flowMu.RLock()
	f := b.flows[key]
	b.flowMu.RUnlock()
	if f != nil || !create {
		return f
	}
	b.flowMu.Lock()
	defer b.flowMu.Unlock()
	if f = b.flows[key]; f == nil && len(b.flows) < maxFlows {
		f = newFlow(b, key)
		b.flows[key] = f
	}
	return f
}

// KeyFor returns the key that peer must use towards this node in an epoch; hand it to nobody else.
func (b *Braid) KeyFor(peer NodeID, epoch uint32) Key { return deriveKey(&b.cfg.Secret, peer, epoch) }

// Refresh asks Config.Paths again for every flow. Where policy no longer allows the fence at either end, it ends the
// sessions, and when it returns no path of theirs is in use. It waits for their goodbyes to be written: the last frames
// under such a fence, without media.
func (b *Braid) Refresh() {
	for _, f := range b.allFlows() {
		if !b.allowed(f.key) {
			f.forbid()
		}
		f.refresh()
	}
}

// forbid ends all sessions of a flow, those without a hello included, and returns when their goodbyes are out.
func (f *flow) forbid() {
	f.rxMu.Lock()
	sessions := f.sessions // replaced, never changed in place
	f.rxMu.Unlock()
	for _, s := range sessions {
		s.close(codeClosed, "policy")
		_ = s.conn.CloseWithError(codeClosed, "policy")
	}
}

// allowed: the fence may touch both ends.
func (b *Braid) allowed(key flowKey) bool {
	return key.fence != 0 && b.cfg.Allow(key.fence, b.cfg.Self) && b.cfg.Allow(key.fence, key.peer)
}
