package media

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ternmesh/tern/media/braid"
)

// braidNet is three nodes with real braids over an in-memory wire: 20 ms a hop, every 50th datagram lost.
type braidNet struct {
	t     *testing.T
	names []string
	nodes map[string]*braidNode
	roots *x509.CertPool
	ca    *x509.Certificate
	key   *ecdsa.PrivateKey

	mu   sync.Mutex
	sent int
	wait sync.WaitGroup
	down map[netip.AddrPort]bool
}

type braidNode struct {
	net   *braidNet
	name  string
	addr  netip.AddrPort
	cert  tls.Certificate
	hub   *Hub
	braid *braid.Braid
	stop  context.CancelFunc
}

func newBraidNet(t *testing.T, names ...string) *braidNet {
	n := &braidNet{t: t, names: names, nodes: map[string]*braidNode{}, roots: x509.NewCertPool(), down: map[netip.AddrPort]bool{}}
	n.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	n.ca = n.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, nil, &n.key.PublicKey)
	n.roots.AddCert(n.ca)
	for i, name := range names {
		node := &braidNode{net: n, name: name, addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 4000)}
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		leaf := n.certificate(&x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, n.ca, &key.PublicKey)
		node.cert = tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
		n.nodes[name] = node
	}
	for _, name := range names {
		n.nodes[name].start()
	}
	return n
}

func (n *braidNet) certificate(c, parent *x509.Certificate, pub *ecdsa.PublicKey) *x509.Certificate {
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Unix(0, 0), time.Now().AddDate(50, 0, 0)
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, n.key)
	if err != nil {
		n.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		n.t.Fatal(err)
	}
	return parsed
}

// name finds a node by its id.
func (n *braidNet) name(id braid.NodeID) (string, bool) {
	i := slices.IndexFunc(n.names, func(s string) bool { return nodeID(s) == id })
	if i < 0 {
		return "", false
	}
	return n.names[i], true
}

func (node *braidNode) start() {
	n := node.net
	links := new(BraidLinks)
	hub, err := New(Config{
		Self: node.name, Braid: links, Peers: func(string) []string { return n.names },
		NodeID: func(s string) (braid.NodeID, bool) { return nodeID(s), n.nodes[s] != nil }, Name: n.name,
		Fence: func(app string) (braid.FenceID, bool) { return 7, app == "app" },
		Call: func(ctx context.Context, to string, req []byte) ([]byte, error) {
			return n.nodes[to].hub.ServeDirectory(ctx, node.name, req), nil
		},
		Load: func() float64 { return 0 },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	b, err := braid.New(braid.Config{
		Self: nodeID(node.name), Incarnation: 1, Secret: [32]byte{node.addr.Addr().As4()[3]}, Wire: node,
		Addr: func(id braid.NodeID) (netip.AddrPort, bool) {
			name, ok := n.name(id)
			if !ok {
				return netip.AddrPort{}, false
			}
			return n.nodes[name].addr, true
		},
		RelayKey: func(_ context.Context, holder braid.NodeID, epoch uint32) (braid.Key, error) {
			name, _ := n.name(holder)
			return n.nodes[name].braid.KeyFor(nodeID(node.name), epoch), nil
		},
		Allow: func(braid.FenceID, braid.NodeID) bool { return true },
		Paths: func(peer braid.NodeID, _ braid.FenceID, _ []braid.Path) []braid.Path {
			paths := []braid.Path{{}}
			for _, relay := range n.names {
				if id := nodeID(relay); id != peer && relay != node.name {
					paths = append(paths, braid.Path{Relays: []braid.NodeID{id}})
				}
			}
			return paths
		},
		ServerTLS: func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{node.cert}, ClientCAs: n.roots,
				ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
		},
		ClientTLS: func(peer braid.NodeID) *tls.Config {
			name, _ := n.name(peer)
			return &tls.Config{Certificates: []tls.Certificate{node.cert}, RootCAs: n.roots, ServerName: name,
				MinVersion: tls.VersionTLS13}
		},
		PeerID: func(cs tls.ConnectionState) (braid.NodeID, error) {
			if len(cs.PeerCertificates) == 0 {
				return 0, errors.New("no certificate")
			}
			return nodeID(cs.PeerCertificates[0].Subject.CommonName), nil
		},
		Handler: hub,
	})
	if err != nil {
		n.t.Fatal(err)
	}
	links.Bind(b)
	node.hub, node.braid = hub, b
	ctx, stop := context.WithCancel(context.Background())
	node.stop = stop
	n.wait.Go(func() { _ = b.Run(ctx) })
	n.wait.Go(func() { _ = hub.Run(ctx) })
}

// WriteRun implements braid.Wire.
func (node *braidNode) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	n := node.net
	for frame := range slices.Chunk(bytes.Clone(run), max(1, segment)) {
		n.mu.Lock()
		n.sent++
		lost := n.sent%50 == 0 || n.down[node.addr] || n.down[to]
		n.mu.Unlock()
		if lost {
			continue
		}
		for _, peer := range n.nodes {
			if peer.addr == to {
				n.wait.Go(func() {
					time.Sleep(20 * time.Millisecond)
					peer.braid.HandleFrame(frame, node.addr)
				})
			}
		}
	}
	return nil
}

func (n *braidNet) stopAll() {
	for _, node := range n.nodes {
		node.stop()
	}
	n.wait.Wait()
}

func TestOverRealBraidsEveryPacketArrivesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBraidNet(t, "a", "b", "c")
		defer n.stopAll()
		settle(time.Second)
		var got asks
		p := mustPublish(t, n.nodes["a"].hub, key("cam"), got.ask)
		settle(time.Second)
		_, v := mustSubscribe(t, n.nodes["b"].hub, key("cam"))
		if settle(time.Millisecond); got.count() != 1 {
			t.Fatalf("%d keyframe requests, want 1 at once", got.count())
		}
		const packets = 500
		seen := map[string]int{}
		for i := range packets {
			p.Write(i%2, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 300+i%400))
			time.Sleep(5 * time.Millisecond)
			if i == packets/2 { // the relay dies; a path remains
				n.mu.Lock()
				n.down[n.nodes["c"].addr] = true
				n.mu.Unlock()
			}
		}
		settle(time.Second)
		for _, packet := range v.packets {
			seen[string(packet)]++
		}
		for packet, times := range seen {
			if times != 1 {
				t.Fatalf("a packet of %d bytes came %d times", len(packet), times)
			}
		}
		// Two percent of all datagrams are lost, requests and repairs too. How much of that a braid makes good is its
		// own tests' matter; here nothing may be lost beside it: what the source sent is what the viewer's node got out.
		if len(seen) < packets*98/100 || uint64(len(seen)) != n.nodes["b"].hub.Stats().PacketsIn {
			t.Fatalf("%d of %d packets arrived; source %+v, viewer's node %+v", len(seen), packets,
				n.nodes["a"].hub.Stats(), n.nodes["b"].hub.Stats())
		}
		p.Close()
		if settle(time.Second); v.end() != reasonClosed {
			t.Fatalf("Ended(%q), want closed", v.end())
		}
	})
}

func TestOverRealBraidsTheOriginsDeathIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newBraidNet(t, "a", "b", "c")
		defer n.stopAll()
		settle(time.Second)
		mustPublish(t, n.nodes["a"].hub, key("cam"), nil)
		settle(time.Second)
		_, v := mustSubscribe(t, n.nodes["b"].hub, key("cam"))
		n.mu.Lock()
		n.down[n.nodes["a"].addr] = true
		n.mu.Unlock()
		if settle(15 * time.Second); n.nodes["b"].hub.Stats().Upstreams != 0 || v.end() != "" {
			t.Fatalf("15 s after the death: %+v, ended %q", n.nodes["b"].hub.Stats(), v.end())
		}
		p := mustPublish(t, n.nodes["c"].hub, key("cam"), nil)
		settle(15 * time.Second)
		// One path is left and a lost packet with none behind it is not asked for again, so one alone proves nothing.
		for i := range 10 {
			p.Write(0, []byte{byte(i)})
			time.Sleep(20 * time.Millisecond)
		}
		if settle(time.Second); v.count() < 8 || v.switched != 1 {
			t.Fatalf("the publisher is back elsewhere: %d of 10 packets, switched %d; source %+v, viewer's node %+v",
				v.count(), v.switched, n.nodes["c"].hub.Stats(), n.nodes["b"].hub.Stats())
		}
	})
}
