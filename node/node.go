package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/access"
	"github.com/ternmesh/tern/node/direct"
	"github.com/ternmesh/tern/node/enrol"
	"github.com/ternmesh/tern/node/fair"
	"github.com/ternmesh/tern/node/gate"
	"github.com/ternmesh/tern/node/keyset"
	"github.com/ternmesh/tern/node/probe"
	"github.com/ternmesh/tern/node/tracing"
	"github.com/ternmesh/tern/node/udp"
)

// Options are what a test, the simulator or the demo replaces; the zero value is a real node.
type Options struct {
	// MeshNetwork opens the mesh port. Default: the operating system's UDP.
	MeshNetwork Network
	// ClientNetwork opens everything towards clients and operators: HTTP listeners, the WebRTC port, RTP ingest.
	// Default: the operating system's. In virtual time there must be no real socket.
	ClientNetwork ClientNetwork
	// Logger is used as it is. Default: made from the configuration, on standard error.
	Logger *slog.Logger
	// Version is shown in the status.
	Version string
	// Skew is how far this node's wall clock is ahead of time.Now; nil: it is not. It is for the simulator, whose nodes share a process:
	// what is said to others, or held against what they say, goes by the wall clock (incarnations, path frames, relay keys, gossip
	// keys, certificates of nodes, the audit log, proofs of operators), intervals and the tokens of clients do not.
	Skew func() time.Duration
	// OwnProcess says that the node is alone in its process, whose processor time so is the node's load. Default: it is not looked at.
	OwnProcess bool
	// Fingerprint stands for this machine's where a lease is bound to it. Default: computed (package enrol).
	Fingerprint string
	// DialAuthority opens connections to lease authorities. Default: the operating system's.
	DialAuthority enrol.Dialer
	// Signatures, if set, are remembered among the nodes of a process that share it.
	Signatures *identity.Memo
	// LoadConfig reads the configuration anew for POST /v1/reload. Nil: that is refused.
	LoadConfig func() (Config, error)
}

// Node is one Tern process. New validates, Run lives. Methods may be called from any goroutine once
// Ready is closed.
type Node struct {
	cfg     Config
	opts    Options
	log     *slog.Logger
	logged  *logShared // nil if Options.Logger was given
	id      *identity.Identity
	started time.Time
	// incarnation tells this run of the node from the one before: it grows.
	incarnation uint32

	// set by assemble, before ready closes
	port        *port
	direct      *direct.Layer
	mesh        *mesh.Mesh
	braid       *braid.Braid
	control     *control.Control
	hub         *media.Hub
	prober      *probe.Prober
	links       media.BraidLinks
	access      *access.Access
	keysets     *keyset.Store
	filter      *ebpf.Filter
	quarantine  *quarantineShare
	relay       *kernelRelay
	known       known
	enforcer    *enforcer
	distances   distances
	routes      *routes
	tracing     *tracing.Tracing
	busy        *loads
	drain       *drainer
	accessHTTP  net.Listener
	adminHTTP   net.Listener
	adminUnix   net.Listener  // nil without admin.socket
	adminPair   certificate   // of admin.tls
	keeper      *enrol.Keeper // nil without authorities
	denials     adminCounts
	parsing     sync.Mutex // of one policy document at a time
	accessUDP   net.PacketConn
	accessTCP   net.Listener // ICE over TCP; nil without
	crowded     crowded
	rtpPorts    *portRange
	closeOnFail []func() error

	ready      chan struct{}
	state      state
	reloadable reloadable
	memory     memory
	channels   channelsCache
	history    history
	clocks     clocks
}

// New checks the configuration and loads the identity; it opens no sockets.
func New(cfg Config, opts Options) (*Node, error) {
	cfg.defaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	n := &Node{ready: make(chan struct{})}
	n.reloadable.start(cfg)
	if opts.Logger == nil {
		handler := newHandler(os.Stderr, cfg.Log, &n.reloadable.level)
		opts.Logger, n.logged, n.reloadable.ownLog = slog.New(handler), handler.s, true
	}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("node: data_dir: %w", err)
	}
	if opts.Skew == nil {
		opts.Skew = func() time.Duration { return 0 }
	}
	id, err := n.openIdentity(cfg, opts)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if id.Node != cfg.Node {
		return nil, fmt.Errorf("node: the certificate %s is for node %q, the configuration says %q", cfg.Identity.Cert, id.Node, cfg.Node)
	}
	if cfg.Control.Voter && !id.Voter {
		return nil, fmt.Errorf("node: control.voter is set, but the certificate %s does not allow voting: issue one with --voter", cfg.Identity.Cert)
	}
	if cfg.Access.TLS.Cert != "" {
		if _, err := n.reloadable.https.load(cfg.Access.TLS); err != nil {
			return nil, fmt.Errorf("node: access.tls: %w", err)
		}
		n.reloadable.isServed = true
	}
	if opts.MeshNetwork == nil {
		opts.MeshNetwork = osNetwork{}
	}
	if opts.ClientNetwork == nil {
		opts.ClientNetwork = osNetwork{}
	}
	id.Skew(opts.Skew)
	id.Share(opts.Signatures)
	n.cfg, n.opts, n.id = cfg, opts, id
	n.log = opts.Logger.With("node", cfg.Node)
	n.tracing, err = tracing.New(tracing.Config{
		Endpoint: cfg.Tracing.Endpoint, Sample: cfg.Tracing.Sample,
		Node: cfg.Node, Region: id.Region, Mesh: id.Mesh, Version: opts.Version, Logger: n.log,
	})
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	return n, nil
}

// osNetwork is the operating system's UDP, with batches, and its TCP.
type osNetwork struct{}

// ListenPacket implements Network.
func (osNetwork) ListenPacket(ctx context.Context, addr netip.AddrPort) (net.PacketConn, error) {
	return udp.Listen(ctx, addr)
}

// Listen implements ClientNetwork.
func (osNetwork) Listen(ctx context.Context, addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}

// Run lives until ctx ends, then shuts down within ShutdownTimeout. A nil error is a clean end.
func (n *Node) Run(ctx context.Context) error {
	n.started = time.Now()
	stages, err := n.assemble(ctx)
	if err != nil {
		for i := len(n.closeOnFail) - 1; i >= 0; i-- {
			_ = n.closeOnFail[i]()
		}
		return fmt.Errorf("node %s: %w", n.cfg.Node, err)
	}
	close(n.ready)
	if n.keeper == nil {
		n.log.Info("no authorities are configured: the certificate of `tern ca` suffices, there is no lease to check", "expires", n.id.Cert().Leaf.NotAfter.UTC())
	}
	n.log.Info("ready", "region", n.id.Region, "mesh", n.cfg.Mesh.Advertise, "access", n.AccessURL(), "admin", n.adminHTTP.Addr().String(), "filter", n.filterMode())
	return runStages(ctx, n.log, ShutdownTimeout, stages)
}

// now is the time by this node's wall clock.
func (n *Node) now() time.Time { return time.Now().Add(n.opts.Skew()) }

// Ready is closed when every listener is open.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Hub is where streams enter and leave this node, once Ready: what runs in the same process may publish and watch
// without being a client, past the admission that clients meet. The policy's fences hold for it as for everybody.
func (n *Node) Hub() *media.Hub { return n.hub }

// Policy is the policy in force at this node, once Ready, secrets included.
func (n *Node) Policy() control.Policy { return n.control.Policy() }

// Name is the node's name; Region is where it is.
func (n *Node) Name() string { return n.cfg.Node }

// Region is explained at Name.
func (n *Node) Region() string { return n.id.Region }

// Idle reports whether the node has no clients and no sessions with peers. It may relay for others. Call it once Ready has closed.
func (n *Node) Idle() bool { return n.sessions() == 0 && len(n.braid.Sessions()) == 0 }

// AccessURL is the base URL for clients, once Ready.
func (n *Node) AccessURL() string { return n.cfg.accessURL(n.accessHTTP.Addr()) }

// AdminURL is the base URL of the private listener, once Ready.
func (n *Node) AdminURL() string {
	if n.cfg.adminHasTLS() {
		return "https://" + n.adminHTTP.Addr().String()
	}
	return "http://" + n.adminHTTP.Addr().String()
}

// assemble opens the sockets and builds the parts, lowest layer first. The stages that it returns start in
// this order and stop in the reverse: clients are told goodbye first, the filter is detached last.
func (n *Node) assemble(ctx context.Context) ([]stage, error) {
	secret, err := loadSecret(n.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if n.incarnation, err = nextIncarnation(n.cfg.DataDir, n.now()); err != nil {
		return nil, err
	}
	n.enforcer = newEnforcer(n.id.Region)
	n.drain = newDrainer(n)
	n.id.Revoke(n.enforcer.revoked)
	n.keysets = keyset.New(keyset.Config{Logger: n.log, Changed: n.keysChanged})
	steps := []func(context.Context) error{
		n.buildFilter,
		n.buildPort,
		n.buildDirect,
		n.buildMedia, // a braid needs its handler
		func(context.Context) error { return n.buildBraid(secret) },
		n.buildMesh,
		n.buildControl,
		n.buildAccess,
		n.buildAdmin,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	n.serveDirect()
	admin, err := n.adminHandler()
	if err != nil {
		return nil, err
	}
	return []stage{
		{"traces", n.tracing.Run}, // stops last: what the others end still leaves
		{"filter", n.filter.Run},
		{"quarantine", n.quarantine.run},
		{"key sets", n.keysets.Run},
		{"mesh port", n.runPort},
		{"admin", n.serveHTTP(n.forOperators(n.adminHTTP), admin, n.adminTLS())},
		{"admin socket", n.serveSocket(admin)},
		{"direct", n.direct.Run},
		{"braid", n.braid.Run},
		{"relay", n.relay.run},
		{"mesh", func(ctx context.Context) error { return n.mesh.Run(ctx, n.cfg.Mesh.Join) }},
		{"control", n.control.Run},
		{"enforce", n.keepEnforcing},
		{"routes", n.routes.run},
		{"media", n.hub.Run},
		{"probes", n.prober.Run},
		{"sessions", n.access.Run},
		{"access", n.serveHTTP(n.forClients(n.accessHTTP, &n.crowded.http), n.access.Handler(), n.httpsConfig())},
		{"files", n.watchFiles},
		{"lease", n.keepLease},
		{"drain", n.drain.run},
		{"history", n.keepHistory},
		{"clocks", n.watchClocks},
		{"state", n.keepState},
	}, nil
}

// runPort reads the mesh port until ctx ends.
func (n *Node) runPort(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = n.port.conn.Close() })
	defer stop()
	return n.port.run()
}

// Connections that a listener holds open at once; more wait in the kernel's queue. Half-sent requests end after seconds. One
// source has a share of them, see package fair: loopback has none, where proxies and operators' tools are.
const (
	maxClients     = 4096
	maxAdmin       = 64
	adminPerSource = 16
	// DefaultConnectionsPerSource is AccessConfig.ConnectionsPerSource: a house behind one address, and an eighth of all.
	DefaultConnectionsPerSource = maxClients / 8
)

// crowded counts the connections that were closed because their source had its share, by listener.
type crowded struct{ http, ice, admin atomic.Uint64 }

// forClients shares a listener of clients' connections.
func (n *Node) forClients(ln net.Listener, refused *atomic.Uint64) net.Listener {
	proxies := n.cfg.Access.proxies()
	return fair.Listen(ln, fair.Limits{
		All: maxClients, Source: n.cfg.Access.ConnectionsPerSource, Refused: func() { refused.Add(1) },
		Exempt: func(a netip.Addr) bool {
			return a.IsLoopback() || slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
		},
	})
}

// forOperators shares a listener of the admin API.
func (n *Node) forOperators(ln net.Listener) net.Listener {
	return fair.Listen(ln, fair.Limits{All: maxAdmin, Source: adminPerSource, Exempt: netip.Addr.IsLoopback, Refused: func() { n.crowded.admin.Add(1) }})
}

// httpsConfig is the clients' listener's TLS, nil if it speaks plain HTTP.
func (n *Node) httpsConfig() *tls.Config {
	if !n.reloadable.isServed {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: n.reloadable.https.get}
}

// serveSocket serves the admin API on its Unix socket, if there is one.
func (n *Node) serveSocket(h http.Handler) func(context.Context) error {
	if n.adminUnix == nil {
		return func(ctx context.Context) error { <-ctx.Done(); return nil }
	}
	return n.serveHTTP(n.forOperators(n.adminUnix), h, nil)
}

// serveHTTP serves a listener, with TLS if conf is not nil, and ends open requests when ctx does.
func (n *Node) serveHTTP(ln net.Listener, h http.Handler, conf *tls.Config) func(context.Context) error {
	return func(ctx context.Context) error {
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       15 * time.Second,
			IdleTimeout:       60 * time.Second,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
			TLSConfig:         conf,
			ConnContext:       gate.ConnContext,
		}
		stop := context.AfterFunc(ctx, func() {
			end, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if srv.Shutdown(end) != nil {
				_ = srv.Close()
			}
		})
		defer stop()
		var err error
		if conf != nil {
			err = srv.ServeTLS(ln, "", "")
		} else {
			err = srv.Serve(ln)
		}
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}
