package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/time/rate"

	"github.com/ternmesh/tern/control"
	"github.com/ternmesh/tern/ebpf"
	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/access"
	"github.com/ternmesh/tern/node/direct"
	"github.com/ternmesh/tern/node/probe"
	"github.com/ternmesh/tern/routing"
)

// meshFence is the reserved fence of link probes; it never carries an app's data.
const meshFence braid.FenceID = 0

// closing remembers what to close if a later step fails.
func (n *Node) closing(f func() error) { n.closeOnFail = append(n.closeOnFail, f) }

func (n *Node) buildPort(ctx context.Context) error {
	conn, err := n.opts.MeshNetwork.ListenPacket(ctx, netip.MustParseAddrPort(n.cfg.Mesh.Listen))
	if err != nil {
		return fmt.Errorf("mesh.listen %s: %w", n.cfg.Mesh.Listen, err)
	}
	n.closing(conn.Close)
	n.port = newPort(conn)
	meshPort := netip.MustParseAddrPort(n.cfg.Mesh.Listen).Port()
	n.port.allow = func(src netip.AddrPort, packet []byte) bool {
		return !n.filter.TwinActive() || n.filter.AllowPacket(src, meshPort, packet).Action == ebpf.Pass
	}
	return nil
}

func (n *Node) buildDirect(context.Context) (err error) {
	n.direct, err = direct.New(direct.Config{
		Identity: n.id,
		Conn:     n.port.quic,
		Resolve:  n.resolve,
		Known:    n.filter.Peer,
		Carriers: n.carriers,
		Carried:  []string{kindRaft, kindControl},
		Logger:   n.log,
	})
	return err
}

// carriers lists members by way of which a voter may be reached: those that links say are between, then all others that live, in
// any order. The policy is not asked: it must not be able to cut the way of its own correction.
func (n *Node) carriers(to string) (out []string) {
	if n.mesh == nil {
		return nil
	}
	if m, ok := n.mesh.Lookup(to); !ok || !m.Alive {
		return nil
	}
	set := n.mesh.Graph().PathSet(n.cfg.Node, to, routing.Constraints{MaxPaths: 3, MaxRelays: 1, AnyRegion: true})
	for _, p := range set.Paths {
		if len(p.Nodes) == 3 {
			out = append(out, p.Nodes[1])
		}
	}
	near := len(out)
	for _, m := range n.mesh.Members() {
		if m.Alive && m.Node != n.cfg.Node && m.Node != to && !slices.Contains(out[:near], m.Node) {
			out = append(out, m.Node)
		}
	}
	rand.Shuffle(len(out)-near, func(i, j int) { out[near+i], out[near+j] = out[near+j], out[near+i] })
	return out
}

// resolve gives the mesh address of a member.
func (n *Node) resolve(node string) (netip.AddrPort, bool) {
	if n.mesh == nil {
		return netip.AddrPort{}, false
	}
	m, ok := n.mesh.Lookup(node)
	if !ok || !m.Health.Mesh.IsValid() {
		return netip.AddrPort{}, false
	}
	return m.Health.Mesh, true
}

func (n *Node) buildBraid(secret [32]byte) (err error) {
	carrier := braid.Frames
	if n.cfg.Carrier == "datagram" {
		carrier = braid.Datagram
	}
	n.routes = newRoutes(n)
	n.busy = newLoads(n.cfg.Mesh, n.opts.OwnProcess)
	n.braid, err = braid.New(braid.Config{
		Self:        braid.NodeID(n.id.ID()),
		Incarnation: n.incarnation,
		Secret:      secret,
		Wire:        n.port,
		Queued:      n.port.queued,
		Skew:        n.opts.Skew,
		Onward:      n.relay.onward(),
		Logger:      n.log,
		Addr: func(id braid.NodeID) (netip.AddrPort, bool) {
			m, ok := n.member(id)
			return m.Health.Mesh, ok && m.Health.Mesh.IsValid()
		},
		RelayKey:  n.fetchKey,
		Allow:     n.allowHop,
		Paths:     n.routes.paths,
		ServerTLS: func() *tls.Config { return n.id.ServerTLS(braid.ALPN) },
		ClientTLS: func(peer braid.NodeID) *tls.Config {
			m, _ := n.member(peer)
			return n.id.ClientTLS(m.Node, braid.ALPN)
		},
		PeerID: func(cs tls.ConnectionState) (braid.NodeID, error) {
			p, err := identity.PeerOf(cs)
			return braid.NodeID(p.ID()), err
		},
		Carrier: func(braid.FenceID) braid.Carrier { return carrier },
		Handler: n.hub,
		Probe:   func(from braid.NodeID, payload []byte) { n.mesh.HandleProbe(uint32(from), payload) },
	})
	if err != nil {
		return err
	}
	n.port.frames = n.braid.HandleRun
	n.links.Bind(n.braid)
	return nil
}

// allowHop says whether a fence's frames may touch a node: its region must be in the fence. The mesh fence
// carries only probes between the two nodes themselves.
func (n *Node) allowHop(id braid.FenceID, hop braid.NodeID) bool {
	if id == meshFence {
		return true
	}
	if uint32(hop) == n.id.ID() {
		return n.enforcer.allows(id, n.id.Region)
	}
	m, ok := n.member(hop)
	return ok && n.enforcer.allows(id, m.Region)
}

func (n *Node) buildMesh(context.Context) (err error) {
	n.mesh, err = mesh.New(mesh.Config{
		Identity: n.id,
		Packets:  n.port.gossip,
		Dial: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			conn, _, err := n.direct.DialAddr(ctx, addr, kindGossip)
			return conn, err
		},
		Keys:      n.exchangeKeys,
		Self:      n.health,
		Skew:      n.opts.Skew,
		ProbeRate: n.cfg.Mesh.ProbeKbps * 1000,
		Probe:     func(to uint32, payload []byte) error { return n.braid.SendProbe(braid.NodeID(to), payload) },
		Traffic:   n.trafficWith,
		Busy:      func() bool { return n.access == nil || !n.Idle() },
		Logger:    n.log,
	})
	return err
}

// trafficWith is what the braid has counted of the frames between this node and another, in the mesh's words.
func (n *Node) trafficWith(other uint32) mesh.Traffic {
	t := n.braid.Traffic(braid.NodeID(other))
	return mesh.Traffic{
		Sent: t.Sent, Arrived: t.Arrived, Timed: t.Timed, Transit: t.Transit, Brought: mesh.Relayed(t.Brought), Passed: mesh.Relayed(t.Passed),
	}
}

// health is what this node tells the mesh of itself.
func (n *Node) health() mesh.Health {
	h := mesh.Health{
		Incarnation:   n.incarnation,
		Mesh:          netip.MustParseAddrPort(n.cfg.Mesh.Advertise),
		State:         n.stateName(),
		PolicyVersion: n.enforcer.enforcement().Version,
		Voter:         n.cfg.Control.Voter,
		Risks:         *n.reloadable.risks.Load(),
	}
	if n.access != nil {
		h.AccessURL = n.AccessURL()
		h.Sessions, h.Load = n.sessions(), n.load()
	}
	return h
}

func (n *Node) buildControl(context.Context) (err error) {
	n.control, err = control.New(control.Config{
		Node:   n.cfg.Node,
		Mesh:   n.id.Mesh,
		Region: n.id.Region, KeyFile: n.cfg.Control.KeyFile,
		Voter:  n.cfg.Control.Voter,
		Expect: n.cfg.Control.Expect,
		Dir:    n.cfg.DataDir,
		Logger: n.log,
		Skew:   n.opts.Skew,
		Stream: newRaftStreams(n),
		Members: func() []control.Member {
			var out []control.Member
			for _, m := range n.mesh.Members() {
				out = append(out, control.Member{Node: m.Node, Region: m.Region, Voter: m.Health.Voter, Alive: m.Alive, PolicyVersion: m.Health.PolicyVersion})
			}
			return out
		},
		Call: func(ctx context.Context, node string, request []byte) ([]byte, error) {
			return n.direct.Call(ctx, node, kindControl, request)
		},
		Sign: func(msg []byte) ([]byte, []byte, error) { return n.id.Sign("tern policy", msg) },
		Verify: func(msg, certDER, sig []byte) (string, bool, error) {
			p, err := n.id.Verify("tern policy", msg, certDER, sig)
			return p.Node, p.Voter, err
		},
		Lasting:  n.lasting,
		Enforce:  n.enforce,
		Enforced: n.enforcer.enforcement,
	})
	return err
}

// enforce puts a new policy into force, in the order that never leaves a gap: decisions first, then what
// already runs is held against them.
func (n *Node) enforce(p control.Policy) {
	defer n.traceEnforce(p)()
	if err := n.enforcer.enforce(p); err != nil {
		n.log.Error("the filter did not take the policy", "version", p.Version, "err", err)
	}
	n.relay.forget()
	n.keysets.Want(n.enforcer.current.Load().keySets())
	select {
	case <-n.ready:
		n.expel()
		n.braid.Refresh()
		n.hub.Refresh()
		n.access.Reauthorise()
		n.drain.wake()
	default: // the copy on disk, enforced before anything runs
	}
}

func (n *Node) buildMedia(context.Context) (err error) {
	n.hub, err = media.New(media.Config{
		Self:    n.cfg.Node,
		Logger:  n.log,
		Braid:   &n.links,
		Peers:   n.peersOf,
		Keepers: n.keepersOf,
		NodeID: func(node string) (braid.NodeID, bool) {
			m, ok := n.mesh.Lookup(node)
			return braid.NodeID(m.ID), ok
		},
		Name: func(id braid.NodeID) (string, bool) {
			m, ok := n.member(id)
			return m.Node, ok
		},
		Fence: n.enforcer.fenceOf,
		Call: func(ctx context.Context, node string, request []byte) ([]byte, error) {
			return n.direct.Call(ctx, node, kindDirectory, request)
		},
		Load:   n.load,
		Copies: n.enforcer.copies,
		Tracer: n.tracing.Tracer(),
	})
	n.prober = probe.New(n.hub)
	return err
}

// peersOf lists the live nodes inside an app's fence, this one included if it is inside.
func (n *Node) peersOf(app string) []string {
	id, ok := n.enforcer.fenceOf(app)
	if !ok {
		return nil
	}
	var out []string
	for _, m := range n.mesh.Members() {
		if m.Alive && n.enforcer.allows(id, m.Region) {
			out = append(out, m.Node)
		}
	}
	return out
}

// keepersOf lists the peers that hold the directory of an app: those that are not drained, or all if none is left.
func (n *Node) keepersOf(app string) []string {
	peers := n.peersOf(app)
	kept := slices.DeleteFunc(slices.Clone(peers), func(p string) bool {
		return n.enforcer.nodeState(p).State == control.NodeDrained
	})
	if len(kept) == 0 {
		return peers
	}
	return kept
}

func (n *Node) buildAccess(ctx context.Context) error {
	if err := n.listenAccess(ctx); err != nil {
		return err
	}
	advertise := make([]netip.AddrPort, 0, len(n.cfg.Access.UDPAdvertise))
	for _, a := range n.cfg.Access.UDPAdvertise {
		ap := netip.MustParseAddrPort(a)
		if ap.Port() == 0 { // the port was left to the system
			ap = netip.AddrPortFrom(ap.Addr(), uint16(n.accessUDP.LocalAddr().(*net.UDPAddr).Port))
		}
		advertise = append(advertise, ap)
	}
	udp, err := n.filteredAccess()
	if err != nil {
		return err
	}
	n.access, err = access.New(access.Config{
		Nearest:      n.serveNearest,
		Tracer:       n.tracing.Tracer(),
		Hub:          n.hub,
		Logger:       n.log,
		App:          n.appFor,
		UnknownKey:   n.unknownKey,
		UDP:          udp,
		UDPAdvertise: advertise,
		Filter:       n.filter,
		Allow:        func(a netip.Addr) bool { return n.filter.Allow(a).Action == ebpf.Pass },
		ListenRTP:    n.rtpPorts.listen,
		RTPHost:      netip.MustParseAddr(n.cfg.Access.RTPHost),
		Draining:     n.refusesClients,
		Elsewhere:    n.elsewhere,
		TCP:          n.accessTCP,
		Lite:         n.cfg.Access.ICELite,
		Self:         n.cfg.Node,
		URL:          strings.TrimRight(n.cfg.Access.URL, "/"), // as configured: a listening address is not always one to send clients to
		NodeURL:      n.accessURLOf,

		AppKeysHeader: n.cfg.Access.AppKeysHeader, TenantsHeader: n.cfg.Access.TenantsHeader,
		TrustedProxies: n.cfg.Access.proxies(),
		MaxSessions:    n.cfg.Access.MaxSessions,
		JoinRate:       rate.Limit(n.cfg.Access.JoinRate), JoinBurst: n.cfg.Access.JoinBurst,
		PatchRate: rate.Limit(n.cfg.Access.PatchRate), PatchBurst: 4 * n.cfg.Access.PatchRate,
		MaxRTPPerApp: n.cfg.Access.RTPPerApp, MaxRTPPerSource: n.cfg.Access.RTPPerSource,
	})
	return err
}

func (n *Node) listenAccess(ctx context.Context) error {
	ln, err := n.opts.ClientNetwork.Listen(ctx, n.cfg.Access.Listen)
	if err != nil {
		return fmt.Errorf("access.listen: %w", err)
	}
	n.accessHTTP = ln
	n.closing(ln.Close)
	if n.accessUDP, err = n.opts.ClientNetwork.ListenPacket(ctx, netip.MustParseAddrPort(n.cfg.Access.UDP)); err != nil {
		return fmt.Errorf("access.udp: %w", err)
	}
	n.closing(n.accessUDP.Close)
	if n.cfg.Access.TCP != "" {
		tcp, err := n.opts.ClientNetwork.Listen(ctx, n.cfg.Access.TCP)
		if err != nil {
			return fmt.Errorf("access.tcp: %w", err)
		}
		n.accessTCP = n.forClients(tcp, &n.crowded.ice)
		n.closing(n.accessTCP.Close)
	}
	first, last, err := n.cfg.Access.rtpRange()
	if err != nil {
		return err
	}
	n.rtpPorts = newPortRange(n.opts.ClientNetwork, netip.MustParseAddr(n.cfg.Access.RTPHost), first, last)
	return n.tryRTP(ctx)
}

// tryRTP opens a pair of ports of plain RTP now: an address that is not this machine's should not wait for the first publisher.
func (n *Node) tryRTP(ctx context.Context) error {
	if _, real := n.opts.ClientNetwork.(osNetwork); !real {
		return nil
	}
	rtp, rtcp, err := n.rtpPorts.listen(ctx)
	if errors.Is(err, errNoPort) {
		return nil // others hold them now; they may not for ever
	}
	if err != nil {
		return err
	}
	return errors.Join(rtp.Close(), rtcp.Close())
}

func (n *Node) buildAdmin(ctx context.Context) error {
	ln, err := n.opts.ClientNetwork.Listen(ctx, n.cfg.Admin.Listen)
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	n.adminHTTP = ln
	n.closing(ln.Close)
	if n.cfg.Admin.TLS.Cert != "" {
		if _, err := n.adminPair.load(n.cfg.Admin.TLS); err != nil {
			return fmt.Errorf("admin.tls: %w", err)
		}
	}
	if n.adminUnix, err = n.listenSocket(ctx); err == nil && n.adminUnix != nil {
		n.closing(n.adminUnix.Close)
	}
	return err
}

var errNoMember = errors.New("not a member of the mesh")
