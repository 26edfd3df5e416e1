package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node/udp"
)

// braidFence is the fence of all media here.
var braidFence = braid.FenceOf([]string{"bench"})

// braidCert names a node in its common name, which is all that the benches' PeerID looks at.
func braidCert(id braid.NodeID) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: strconv.Itoa(int(id))},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func braidPeerID(cs tls.ConnectionState) (braid.NodeID, error) {
	if len(cs.PeerCertificates) == 0 {
		return 0, errors.New("no certificate")
	}
	n, err := strconv.Atoi(cs.PeerCertificates[0].Subject.CommonName)
	return braid.NodeID(n), err
}

func braidTLS(id braid.NodeID) (*tls.Config, error) {
	cert, err := braidCert(id)
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true,
		NextProtos: []string{braid.ALPN},
	}, err
}

// benchQUIC is how the plain QUIC connections that a braid is compared with are set up.
func benchQUIC() *quic.Config {
	return &quic.Config{
		EnableDatagrams: true, DisablePathMTUDiscovery: true, KeepAlivePeriod: 2 * time.Second, MaxIdleTimeout: 20 * time.Second,
	}
}

// braidPair is two braids with three paths between them. All three are direct towards the braid; the wires tell them
// apart by path id, so that no relay takes part.
type braidPair struct {
	nodes  [2]*braid.Braid
	got    [2]arrivals
	stop   context.CancelFunc
	done   sync.WaitGroup
	failed [2]error // of Run; set when done
}

// pathOf tells which of three ways a frame takes: paths are numbered in the order of the set.
func pathOf(frame []byte) int { return int(frame[2]>>4) % 3 }

// wireFunc is a braid.Wire made of a function.
type wireFunc func(run []byte, segment int, to netip.AddrPort) error

func (f wireFunc) WriteRun(run []byte, segment int, to netip.AddrPort) error {
	return f(run, segment, to)
}

// braidConfig is that of one node that takes everybody for a member: Addr, Paths and Carrier are the caller's. keyFor asks the
// holder, which runs in this process.
func braidConfig(self braid.NodeID, wire braid.Wire, h braid.Handler, keyFor func(holder, user braid.NodeID, epoch uint32) braid.Key) (braid.Config, error) {
	conf, err := braidTLS(self)
	return braid.Config{
		Self: self, Incarnation: 1, Secret: [32]byte{byte(self)}, Wire: wire, Handler: h,
		RelayKey: func(_ context.Context, holder braid.NodeID, epoch uint32) (braid.Key, error) {
			return keyFor(holder, self, epoch), nil
		},
		Allow:     func(braid.FenceID, braid.NodeID) bool { return true },
		ServerTLS: func() *tls.Config { return conf }, ClientTLS: func(braid.NodeID) *tls.Config { return conf },
		PeerID: braidPeerID,
	}, err
}

// newBraidPair starts both; close ends them.
func newBraidPair(paths int, carrier braid.Carrier, wires [2]braid.Wire, addrs [2]netip.AddrPort) (*braidPair, error) {
	p := &braidPair{}
	for i := range p.nodes {
		conf, err := braidConfig(braid.NodeID(i+1), wires[i], &p.got[i], func(holder, user braid.NodeID, epoch uint32) braid.Key {
			return p.nodes[holder-1].KeyFor(user, epoch)
		})
		if err != nil {
			return nil, err
		}
		conf.Addr = func(id braid.NodeID) (netip.AddrPort, bool) { return addrs[(id-1)%2], true }
		conf.Paths = func(braid.NodeID, braid.FenceID, []braid.Path) []braid.Path { return make([]braid.Path, paths) }
		conf.Carrier = func(braid.FenceID) braid.Carrier { return carrier }
		if p.nodes[i], err = braid.New(conf); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	for i, n := range p.nodes {
		p.done.Go(func() { p.failed[i] = n.Run(ctx) })
	}
	return p, nil
}

// session from node 1 to node 2.
func (p *braidPair) session() (*braid.Session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	return p.nodes[0].Session(ctx, 2, braidFence)
}

// close ends both and says what went wrong with them.
func (p *braidPair) close() error {
	p.stop()
	p.done.Wait()
	return errors.Join(p.failed[:]...)
}

// loopbackPair is a pair of braids over six loopback sockets; stop ends all of it.
func loopbackPair() (pair *braidPair, stop func() error, err error) {
	var wires [2]braid.Wire
	var addrs [2]netip.AddrPort
	var mesh [2]*udp.Conn
	var conns []*udp.Conn
	shut := func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	for i := range 2 {
		var socks [3]*udp.Conn
		for k := range socks {
			if socks[k], err = udp.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
				shut()
				return nil, nil, err
			}
			conns = append(conns, socks[k])
		}
		mesh[i] = socks[0]
		addrs[i] = socks[0].LocalAddr().(*net.UDPAddr).AddrPort()
		wires[i] = wireFunc(func(run []byte, segment int, to netip.AddrPort) error {
			return socks[pathOf(run)].TryWriteRun(run, segment, to)
		})
	}
	if pair, err = newBraidPair(3, braid.Frames, wires, addrs); err != nil {
		shut()
		return nil, nil, err
	}
	var readers sync.WaitGroup
	for i, c := range mesh {
		readers.Go(func() {
			for c.ReadRuns(pair.nodes[i].HandleRun) == nil {
			}
		})
	}
	return pair, func() error {
		err := pair.close()
		shut()
		readers.Wait()
		return err
	}, nil
}
