package node

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"go.opentelemetry.io/otel/trace"

	"github.com/ternmesh/tern/media"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/mesh/identity"
	"github.com/ternmesh/tern/node/direct"
)

// Kinds of streams between nodes (L1).
const (
	kindGossip     = "gossip"
	kindJoin       = "join"
	kindKey        = "key"
	kindRaft       = "raft"
	kindControl    = "control"
	kindDirectory  = "directory"
	kindQuarantine = "quarantine"
	kindEvidence   = "evidence"
)

// maxJoin bounds the gossip keys that a node may hand over, in bytes.
const maxJoin = 64 << 10

// serveDirect says who answers which kind of stream.
func (n *Node) serveDirect() {
	n.direct.Handle(kindGossip, func(_ context.Context, _ identity.Peer, conn net.Conn) { n.mesh.HandleStream(conn) })
	n.handleCalls(kindJoin, maxJoin, n.answerKeys)
	n.handleCalls(kindKey, 4, n.answerKey)
	n.handleCalls(kindControl, direct.MaxMessage, func(ctx context.Context, peer identity.Peer, request []byte) []byte {
		return n.control.Serve(ctx, peer.Node, request)
	})
	n.handleCalls(kindInventory, 1, n.answerInventory)
	n.handleCalls(kindEvidence, maxEvidence, n.answerEvidence)
	n.handleCalls(kindClock, 0, n.answerClock)
	n.handleCalls(kindProbe, maxProbe, n.answerProbe)
	n.handleCalls(kindDirectory, media.MaxDirectoryBytes, func(ctx context.Context, peer identity.Peer, request []byte) []byte {
		return n.hub.ServeDirectory(ctx, peer.Node, request)
	})
	if n.cfg.Filter.ShareQuarantine {
		n.handleCalls(kindQuarantine, maxQuarantineBytes, n.quarantine.hear)
	}
}

// exchangeKeys gives our gossip keys to a node and returns its own.
func (n *Node) exchangeKeys(ctx context.Context, addr netip.AddrPort, mine [][]byte) ([][]byte, error) {
	request, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	answer, _, err := n.direct.CallAddr(ctx, addr, kindJoin, request)
	if err != nil {
		return nil, err
	}
	var theirs [][]byte
	if err := json.Unmarshal(answer, &theirs); err != nil {
		return nil, fmt.Errorf("gossip keys of %s: %w", addr, err)
	}
	return theirs, nil
}

func (n *Node) answerKeys(_ context.Context, _ identity.Peer, request []byte) []byte {
	var theirs [][]byte
	if json.Unmarshal(request, &theirs) != nil {
		return nil
	}
	answer, _ := json.Marshal(n.mesh.HandleKeys(theirs))
	return answer
}

// keyTimeout bounds one fetch of a relay key; the braid asks again.
const keyTimeout = 5 * time.Second

// fetchKey gets K(holder, self, epoch) over L1: four bytes of epoch out, sixteen bytes of key back.
func (n *Node) fetchKey(ctx context.Context, holder braid.NodeID, epoch uint32) (key braid.Key, err error) {
	m, ok := n.mesh.ByID(uint32(holder))
	if !ok {
		return key, errNoMember
	}
	ctx = trace.ContextWithSpanContext(ctx, n.routes.causeOf(m.Node))
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	answer, err := n.direct.Call(ctx, m.Node, kindKey, binary.BigEndian.AppendUint32(nil, epoch))
	if err != nil {
		return key, err
	}
	if copy(key[:], answer) != len(key) || len(answer) != len(key) {
		return key, fmt.Errorf("relay key of %s: %d bytes", m.Node, len(answer))
	}
	return key, nil
}

// answerKey hands the caller the key that this node, as a relay or egress, checks the caller's frames with.
func (n *Node) answerKey(_ context.Context, peer identity.Peer, request []byte) []byte {
	if len(request) != 4 {
		return nil
	}
	key := n.braid.KeyFor(braid.NodeID(peer.ID()), binary.BigEndian.Uint32(request))
	return key[:]
}

// raftStreams is raft's stream layer over L1; addresses are node names.
type raftStreams struct {
	node *Node
	in   chan net.Conn
	once sync.Once
	done chan struct{}
}

// raftBacklog bounds raft connections that wait to be accepted; more are refused.
const raftBacklog = 64

func newRaftStreams(n *Node) *raftStreams {
	s := &raftStreams{node: n, in: make(chan net.Conn, raftBacklog), done: make(chan struct{})}
	n.direct.Handle(kindRaft, s.push)
	return s
}

// push takes a raft stream from a peer; only certificates that may vote get this far.
func (s *raftStreams) push(_ context.Context, peer identity.Peer, conn net.Conn) {
	if !peer.Voter {
		s.node.log.Warn("refused a raft stream: the certificate does not allow voting", "peer", peer.Node)
		_ = conn.Close()
		return
	}
	select {
	case s.in <- conn:
	case <-s.done:
		_ = conn.Close()
	default:
		_ = conn.Close()
	}
}

// Dial implements raft.StreamLayer.
func (s *raftStreams) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() { // a dial does not outlive the layer
		select {
		case <-s.done:
			cancel()
		case <-ended:
		}
	}()
	return s.node.direct.Dial(ctx, string(address), kindRaft)
}

// Accept implements net.Listener.
func (s *raftStreams) Accept() (net.Conn, error) {
	select {
	case c := <-s.in:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (s *raftStreams) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// Addr implements net.Listener.
func (s *raftStreams) Addr() net.Addr { return nodeAddr(s.node.cfg.Node) }

// nodeAddr is a node name as an address.
type nodeAddr string

// Network implements net.Addr.
func (nodeAddr) Network() string { return "tern" }

func (a nodeAddr) String() string { return string(a) }

// portRange gives out UDP ports of plain RTP in pairs: an even one for RTP, the next for RTCP.
type portRange struct {
	network     Network
	mu          sync.Mutex
	host        netip.Addr
	first, last uint16
	next        uint16 // guarded by mu; even
}

func newPortRange(network Network, host netip.Addr, first, last uint16) *portRange {
	even := first + first%2
	return &portRange{network: network, host: host, first: even, last: last, next: even}
}

var errNoPort = fmt.Errorf("every port of access.rtp_ports: %w", syscall.EADDRINUSE)

// listen opens the next free pair of the range; the first one is tried again after the last.
func (r *portRange) listen(ctx context.Context) (rtp, rtcp net.PacketConn, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range (int(r.last-r.first) + 1) / 2 {
		port := r.next
		if r.next += 2; r.next >= r.last || r.next < r.first {
			r.next = r.first
		}
		rtp, rtcp, err = r.pair(ctx, port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return rtp, rtcp, err
		}
	}
	return nil, nil, errNoPort
}

// pair opens two ports, or none.
func (r *portRange) pair(ctx context.Context, port uint16) (rtp, rtcp net.PacketConn, err error) {
	if rtp, err = r.network.ListenPacket(ctx, netip.AddrPortFrom(r.host, port)); err == nil {
		if rtcp, err = r.network.ListenPacket(ctx, netip.AddrPortFrom(r.host, port+1)); err == nil {
			tellRefusals(rtp)
			return rtp, rtcp, nil
		}
		_ = rtp.Close()
	}
	return nil, nil, fmt.Errorf("access.rtp_host %s: %w", r.host, err)
}
