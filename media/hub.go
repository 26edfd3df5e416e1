package media

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/media/braid"
)

// shutdownFlush is how long Run waits, after its context ended, for withdrawals to reach the directory.
const shutdownFlush = time.Second

// Config is what a Hub needs from its node. All functions are called without any lock of the hub held, must be
// safe for concurrent use, and must not call the hub back. Only Logger may be nil.
type Config struct {
	Self   string // this node's name
	Logger *slog.Logger
	Braid  Braid // sessions; see BraidLinks for real ones
	// Peers returns the live nodes inside the app's fence, this node included if it is inside.
	Peers func(app string) []string
	// Keepers returns those of Peers that hold the app's directory; nil: all of Peers. Nodes that agree on it find each
	// other's entries; where they disagree about one of three, the other two tell.
	Keepers func(app string) []string
	NodeID  func(node string) (braid.NodeID, bool)
	Name    func(braid.NodeID) (string, bool)
	// Fence returns the fence that the policy gives an app; false: the app is not allowed.
	Fence func(app string) (braid.FenceID, bool)
	// Call sends one directory request of at most MaxDirectoryBytes to a node over an authenticated stream
	// and returns its answer. It honours the context.
	Call func(ctx context.Context, node string, request []byte) ([]byte, error)
	Load func() float64 // of this node, 0 = idle
	// Copies says in how many copies an app's media crosses the mesh, as a part of a class: 0 on every path of the set,
	// braid.OneCopy or braid.Adaptive; nil: 0.
	Copies func(app string) braid.Class
	// Tracer makes the spans of lookups and subscriptions; nil: none.
	Tracer trace.Tracer
}

// validate names the first missing field.
func (c Config) validate() error {
	if err := checkName("self", c.Self); err != nil {
		return err
	}
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Braid", c.Braid == nil}, {"Peers", c.Peers == nil}, {"NodeID", c.NodeID == nil}, {"Name", c.Name == nil},
		{"Fence", c.Fence == nil}, {"Call", c.Call == nil}, {"Load", c.Load == nil},
	} {
		if f.missing {
			return fmt.Errorf("%w: Config.%s is missing", ErrInvalid, f.name)
		}
	}
	return nil
}

// Hub connects publishers and viewers of this node with each other and with other nodes. All methods are safe
// for concurrent use.
type Hub struct {
	cfg   Config
	log   *slog.Logger
	count counters
	links atomic.Pointer[map[Link]*peerLink] // copy-on-write; read on the packet path
	refs  atomic.Uint32                      // the last ref that this node chose
	reg   registrar
	dir   directory

	mu      sync.Mutex // guards everything below, and what its users say
	pubs    map[Key]*Publication
	watches map[Key]*watch
	viewers int             // local subscriptions
	serving int             // subscriptions of peers
	closing bool            // nothing new is published or subscribed
	stopped bool            // nothing is spawned
	group   *errgroup.Group // nil before Run
	ctx     context.Context // of Run
	pending []func(context.Context)
}

// New validates the configuration. Nothing runs before Run; what is published or subscribed earlier starts with
// it.
func New(cfg Config) (*Hub, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("media: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Keepers == nil {
		cfg.Keepers = cfg.Peers
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.NewTracerProvider().Tracer("")
	}
	h := &Hub{cfg: cfg, log: cfg.Logger, pubs: map[Key]*Publication{}, watches: map[Key]*watch{}}
	h.links.Store(&map[Link]*peerLink{})
	h.reg = registrar{
		hub: h, wake: make(chan struct{}, 1),
		dirty: map[Key]struct{}{}, ended: map[Key]uint64{}, writers: map[string]*writer{},
	}
	h.dir.table = newTable()
	return h, nil
}

// Run works until ctx ends. Then publications end and are withdrawn (at most shutdownFlush), peers are told, and
// viewers get Ended. It returns nil after a shutdown by ctx, and an error when called twice.
func (h *Hub) Run(ctx context.Context) error {
	group := new(errgroup.Group)
	// Withdrawals must outlive ctx a little; everything else ends with it.
	flush, stopFlush := context.WithCancel(context.WithoutCancel(ctx))
	defer stopFlush()
	h.mu.Lock()
	if h.group != nil {
		h.mu.Unlock()
		return errors.New("media: Run called twice")
	}
	h.reg.ctx = flush
	h.group, h.ctx = group, ctx
	group.Go(func() error { h.reg.run(ctx); return nil })
	group.Go(func() error { h.listen(ctx); return nil })
	for _, f := range h.pending {
		h.spawnLocked(f)
	}
	h.pending = nil
	h.mu.Unlock()

	<-ctx.Done()
	h.mu.Lock()
	h.closing = true
	for _, p := range h.pubs {
		h.endPublication(p, reasonShutdown)
	}
	h.mu.Unlock()
	h.reg.flush()
	defer time.AfterFunc(shutdownFlush, stopFlush).Stop()
	h.mu.Lock()
	h.stopped = true // from here on nothing is spawned, so Wait sees everything
	h.mu.Unlock()
	return group.Wait()
}

// spawn runs f under Run's group; false when the hub has stopped.
func (h *Hub) spawn(f func(context.Context)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.spawnLocked(f)
}

// spawnLocked is spawn with mu held.
func (h *Hub) spawnLocked(f func(context.Context)) bool {
	switch {
	case h.stopped:
		return false
	case h.group == nil:
		h.pending = append(h.pending, f)
	default:
		ctx := h.ctx
		h.group.Go(func() error { f(ctx); return nil })
	}
	return true
}

// allowed says whether the policy lets this node carry an app: the app is known and this node is inside its
// fence. Fails closed.
func (h *Hub) allowed(app string) bool {
	_, ok := h.cfg.Fence(app)
	return ok && slices.Contains(h.cfg.Peers(app), h.cfg.Self)
}

// Refresh applies a changed policy: publications and subscriptions of apps that are no longer allowed here end
// with reason "policy"; sessions that no longer carry their app's fence lose their subscriptions, whose viewers
// are supplied anew under the new fence. It also writes all registrations at once, because a new fence has new
// directory nodes.
func (h *Hub) Refresh() {
	h.mu.Lock()
	apps := map[string]bool{}
	for k := range h.pubs {
		apps[k.App] = true
	}
	for k := range h.watches {
		apps[k.App] = true
	}
	h.mu.Unlock()
	fences, copies := map[string]braid.FenceID{}, map[string]braid.Class{}
	for app := range apps {
		copies[app] = h.copiesOf(app)
		if fence, ok := h.cfg.Fence(app); ok && h.allowed(app) {
			fences[app] = fence
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.evict(fences, apps)
	for k, p := range h.pubs {
		if _, ok := fences[k.App]; !ok && apps[k.App] {
			h.endPublication(p, reasonPolicy)
			continue
		}
		p.copies.Store(uint32(copies[k.App]))
	}
	for k, w := range h.watches {
		fence, ok := fences[k.App]
		switch {
		case !apps[k.App]: // came while the policy was asked: it was admitted under it
		case !ok:
			w.revoked = true
			h.endWatchSupply(w, causePolicy)
			poke(w.nudge)
		case w.current != nil && w.current.link != nil && w.current.link.Fence() != fence:
			h.endWatchSupply(w, causeLost)
		}
	}
	h.reg.all()
}

// Retry has viewers that lost their source look for it now instead of at the next try: a node came that may have it. Safe for
// concurrent use; never blocks.
func (h *Hub) Retry() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.watches {
		if w.current == nil && w.tracks != nil { // a first search must not be cut short: its viewers would be refused
			w.hurry()
		}
	}
}

// List returns the live streams of a channel, longest live first: the union of the directory and of what is
// published here. Errors: ErrInvalid, ErrNotAllowed, ErrUnavailable, ErrClosed.
func (h *Hub) List(ctx context.Context, app, channel string) ([]StreamInfo, error) {
	if err := checkRoom(app, channel); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if !h.allowed(app) {
		return nil, fmt.Errorf("list: %w", ErrNotAllowed)
	}
	found, err := h.lookup(ctx, room{app, channel})
	if err != nil {
		return nil, fmt.Errorf("list %s/%s: %w", app, channel, err)
	}
	if !found.conclusive() && len(found.regs) == 0 {
		return nil, fmt.Errorf("list %s/%s: %w: %d of %d directory nodes answered",
			app, channel, ErrUnavailable, found.answered, found.asked)
	}
	return streamsOf(found.regs), nil
}
