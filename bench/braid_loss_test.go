package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/sim"
)

const (
	lossRate = 2000 // packets a second
	lossSize = 1150
	lossWarm = 2 * time.Second
	lossTime = 30 * time.Second
	lossTail = 3 * time.Second // after the last packet
	lossPort = 4433
)

// lossCase is one set of three paths.
type lossCase struct {
	title  string
	delays [3]time.Duration
	loss   float64 // independent, per path and direction
	joint  float64 // share of half-millisecond slots in which a sender loses everything on all paths
}

// lossResult is what one transport made of it.
type lossResult struct {
	undelivered, sent int
	latency           []time.Duration // sorted
	repaired          uint64          // frames; of a braid
	jointly           int             // packets that were lost on all paths at once, before any repair
}

// lossRun sends lossRate packets a second through send and says what arrived of those behind the warm-up.
func lossRun(got *arrivals, send func(n uint64, packet []byte)) (r lossResult) {
	first, all := uint64(lossWarm.Seconds()*lossRate), uint64((lossWarm+lossTime).Seconds()*lossRate)
	got.mu.Lock()
	got.keep, got.seen, got.from, got.to = true, make(map[uint64]struct{}), first, all
	got.mu.Unlock()
	packet := make([]byte, lossSize)
	for n := range all {
		stamp(packet, n)
		send(n, packet)
		time.Sleep(time.Second / lossRate)
	}
	time.Sleep(lossTail)
	synctest.Wait()
	got.mu.Lock()
	defer got.mu.Unlock()
	r.sent = int(all - first)
	r.undelivered = r.sent - len(got.seen)
	r.latency = slices.Sorted(slices.Values(got.latency))
	return r
}

// lossNet is three pairs of emulated hosts, one per path, and the joint loss of each side.
type lossNet struct {
	c     lossCase
	sim   *sim.Network
	conns [2][3]*sim.Conn
	addrs [2][3]netip.AddrPort
	seed  maphash.Seed
	born  time.Time
}

func newLossNet(t *testing.T, c lossCase, seed uint64) *lossNet {
	n := &lossNet{c: c, sim: sim.New(seed), born: time.Now(), seed: maphash.MakeSeed()}
	for path, delay := range c.delays {
		var names [2]string
		for side := range 2 {
			names[side] = fmt.Sprintf("side%d-path%d", side, path)
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(side), byte(path), 1}), lossPort)
			pc, err := n.sim.Host(names[side], addr.Addr()).ListenPacket(context.Background(), addr)
			if err != nil {
				t.Fatal(err)
			}
			n.conns[side][path], n.addrs[side][path] = pc.(*sim.Conn), addr
		}
		for side := range 2 {
			n.sim.SetLink(names[side], names[1-side], sim.Link{Delay: delay, Loss: c.loss})
		}
	}
	return n
}

// lost: the side loses whatever it sends now, on all paths.
func (n *lossNet) lost(side int) bool {
	slot := int64(time.Since(n.born) / (500 * time.Microsecond))
	h := maphash.Comparable(n.seed, [2]int64{int64(side), slot})
	return n.c.joint > 0 && float64(h>>11)/(1<<53) < n.c.joint
}

func (n *lossNet) close() {
	for _, side := range n.conns {
		for _, c := range side {
			_ = c.Close()
		}
	}
	n.sim.Close()
}

// lossyConn is one path of a plain QUIC connection.
type lossyConn struct {
	net.PacketConn
	net  *lossNet
	side int
}

func (c lossyConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.net.lost(c.side) {
		return len(p), nil
	}
	return c.PacketConn.WriteTo(p, to)
}
func (c lossyConn) SetReadBuffer(int) error  { return nil }
func (c lossyConn) SetWriteBuffer(int) error { return nil }

// lossBraid runs a braid over the first paths of the set.
func lossBraid(t *testing.T, c lossCase, seed uint64, paths int, carrier braid.Carrier) (r lossResult) {
	n := newLossNet(t, c, seed)
	var wires [2]braid.Wire
	for side := range 2 {
		wires[side] = wireFunc(func(run []byte, segment int, _ netip.AddrPort) error {
			if n.lost(side) {
				return nil
			}
			path := pathOf(run)
			return n.conns[side][path].WriteRun(run, segment, n.addrs[1-side][path])
		})
	}
	pair := newBraidPair(t, paths, carrier, wires, [2]netip.AddrPort{n.addrs[0][0], n.addrs[1][0]})
	var readers sync.WaitGroup
	for side := range 2 {
		for _, conn := range n.conns[side] {
			readers.Go(func() {
				for conn.ReadRuns(pair.nodes[side].HandleFrame) == nil {
				}
			})
		}
	}
	s := pair.session(t)
	var jam int
	first := uint64(lossWarm.Seconds() * lossRate)
	r = lossRun(&pair.got[1], func(seq uint64, p []byte) {
		s.Send(1, braid.Video, p)
		if seq >= first && n.lost(0) {
			jam++
		}
	})
	r.jointly = jam
	r.repaired = pair.nodes[1].Stats().Sessions[0].Repaired
	pair.close()
	n.close()
	readers.Wait()
	return r
}

// quicPath sets one QUIC connection up over one path.
func (n *lossNet) quicPath(ctx context.Context, t *testing.T, conf *tls.Config, path int) (out, in *quic.Conn, trs [2]*quic.Transport) {
	for side := range trs {
		trs[side] = &quic.Transport{Conn: lossyConn{n.conns[side][path], n, side}}
	}
	l, err := trs[1].Listen(conf, benchQUIC())
	if err != nil {
		t.Fatal(err)
	}
	if out, err = trs[0].Dial(ctx, net.UDPAddrFromAddrPort(n.addrs[1][path]), conf, benchQUIC()); err != nil {
		t.Fatal(err)
	}
	if in, err = l.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	return out, in, trs
}

// lossQUIC runs one plain QUIC connection per path, every packet on each, first arrival counts.
func lossQUIC(t *testing.T, c lossCase, seed uint64, paths int) (r lossResult) {
	n := newLossNet(t, c, seed)
	conf, err := braidTLS(1)
	if err != nil {
		t.Fatal(err)
	}
	got := &arrivals{}
	var loops sync.WaitGroup
	var ends []*quic.Conn
	var transports []*quic.Transport
	queues := make([]chan []byte, paths)
	ctx, cancel := context.WithCancel(context.Background())
	for path := range paths {
		out, in, trs := n.quicPath(ctx, t, conf, path)
		ends, transports = append(ends, out, in), append(transports, trs[0], trs[1])
		// SendDatagram blocks while the congestion window is full, so a bounded queue stands before it; the newest is
		// dropped when it is full. Late packets count as delivered all the same.
		queues[path] = make(chan []byte, lossRate*4/10)
		loops.Go(func() {
			for p := range queues[path] {
				if out.SendDatagram(p) != nil {
					return
				}
			}
		})
		loops.Go(func() {
			for {
				p, err := in.ReceiveDatagram(ctx)
				if err != nil {
					return
				}
				got.add(p)
			}
		})
	}
	r = lossRun(got, func(_ uint64, p []byte) {
		for _, q := range queues {
			select {
			case q <- append([]byte(nil), p...):
			default:
			}
		}
	})
	for _, q := range queues {
		close(q)
	}
	for _, e := range ends {
		_ = e.CloseWithError(0, "")
	}
	cancel()
	loops.Wait()
	n.close() // the conns before the transports that read them
	for _, tr := range transports {
		_ = tr.Close()
	}
	return r
}

// inBubble runs f in virtual time. A benchmark has no *testing.T, which the bubble needs, so one is made.
func inBubble(f func(t *testing.T)) error {
	ok := testing.RunTests(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "bubble", F: func(t *testing.T) { synctest.Test(t, f) }}})
	if !ok {
		return errors.New("the run in virtual time failed, see above")
	}
	return nil
}

// BenchmarkBraidLoss tabulates what arrives under loss, in virtual time: a braid against what it replaces.
func BenchmarkBraidLoss(b *testing.B) {
	cases := []lossCase{
		{"independent loss of 1 % per path, 50/60/80 ms", [3]time.Duration{50e6, 60e6, 80e6}, 0.01, 0},
		{"the same with 0.1 % joint loss, 100/110/130 ms", [3]time.Duration{100e6, 110e6, 130e6}, 0.01, 0.001},
	}
	transports := []struct {
		name string
		run  func(t *testing.T, c lossCase, seed uint64) lossResult
	}{
		{"braid, media frames", func(t *testing.T, c lossCase, seed uint64) lossResult {
			return lossBraid(t, c, seed, 3, braid.Frames)
		}},
		{"braid, carrier datagram", func(t *testing.T, c lossCase, seed uint64) lossResult {
			return lossBraid(t, c, seed, 3, braid.Datagram)
		}},
		{"braid over the first path alone", func(t *testing.T, c lossCase, seed uint64) lossResult {
			return lossBraid(t, c, seed, 1, braid.Frames)
		}},
		{"one QUIC connection, first path alone", func(t *testing.T, c lossCase, seed uint64) lossResult {
			return lossQUIC(t, c, seed, 1)
		}},
		{"three QUIC connections, dedup above", func(t *testing.T, c lossCase, seed uint64) lossResult {
			return lossQUIC(t, c, seed, 3)
		}},
	}
	for _, c := range cases {
		table := braidTable{
			Title:   fmt.Sprintf("%d x %d B/s for %v after %v, %s", lossRate, lossSize, lossTime, lossWarm, c.title),
			Columns: []string{"transport", "sent", "undelivered", "share", "before repair", "p50 ms", "p99 ms", "max ms"},
		}
		var jointly int
		for i, tr := range transports {
			var r lossResult
			if err := inBubble(func(t *testing.T) { r = tr.run(t, c, 7) }); err != nil {
				b.Fatal(err)
			}
			if i == 0 {
				jointly = r.jointly
				b.ReportMetric(float64(r.undelivered), fmt.Sprintf("undelivered-joint%g", c.joint))
			}
			table.Rows = append(table.Rows, r.row(tr.name))
		}
		if c.joint == 0 {
			table.Notes = append(table.Notes, "Target: the braid with media frames leaves at most 1 packet undelivered.")
		} else {
			table.Notes = append(table.Notes, fmt.Sprintf("Target: undelivered <= 1.1 x the joint loss. %d packets fell into a slot of joint "+
				"loss in the first run (expected %.0f), so at most %.0f.", jointly, c.joint*lossTime.Seconds()*lossRate, 1.1*float64(jointly)))
		}
		table.print(b)
	}
}

func (r lossResult) row(name string) []string {
	at := func(q float64) string {
		if len(r.latency) == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", float64(r.latency[int(q*float64(len(r.latency)-1))].Microseconds())/1000)
	}
	return []string{
		name, fmt.Sprint(r.sent), fmt.Sprint(r.undelivered), fmt.Sprintf("%.4f %%", 100*float64(r.undelivered)/float64(r.sent)),
		fmt.Sprint(r.undelivered + int(r.repaired)), at(0.5), at(0.99), at(1),
	}
}
