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
	"sync/atomic"
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

func newLossNet(c lossCase, seed uint64) (*lossNet, error) {
	n := &lossNet{c: c, sim: sim.New(seed), born: time.Now(), seed: maphash.MakeSeed()}
	for path, delay := range c.delays {
		var names [2]string
		for side := range 2 {
			names[side] = fmt.Sprintf("side%d-path%d", side, path)
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(side), byte(path), 1}), lossPort)
			pc, err := n.sim.Host(names[side], addr.Addr()).ListenPacket(context.Background(), addr)
			if err != nil {
				return nil, err
			}
			n.conns[side][path], n.addrs[side][path] = pc.(*sim.Conn), addr
		}
		for side := range 2 {
			n.sim.SetLink(names[side], names[1-side], sim.Link{Delay: delay, Loss: c.loss})
		}
	}
	return n, nil
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

// braids starts a pair over the first paths of the set; watch, if not nil, sees each run that a side sends. stop ends it all,
// the network as well.
func (n *lossNet) braids(paths int, carrier braid.Carrier, watch func(side int, run []byte, segment int)) (pair *braidPair, stop func() error, err error) {
	var wires [2]braid.Wire
	for side := range 2 {
		wires[side] = wireFunc(func(run []byte, segment int, _ netip.AddrPort) error {
			if watch != nil {
				watch(side, run, segment)
			}
			if n.lost(side) {
				return nil
			}
			path := pathOf(run)
			return n.conns[side][path].WriteRun(run, segment, n.addrs[1-side][path])
		})
	}
	if pair, err = newBraidPair(paths, carrier, wires, [2]netip.AddrPort{n.addrs[0][0], n.addrs[1][0]}); err != nil {
		return nil, nil, err
	}
	var readers sync.WaitGroup
	for side := range 2 {
		for _, conn := range n.conns[side] {
			readers.Go(func() {
				for conn.ReadRuns(pair.nodes[side].HandleRun) == nil {
				}
			})
		}
	}
	return pair, func() error {
		err := pair.close()
		n.close()
		readers.Wait()
		return err
	}, nil
}

// lossBraid runs a braid over the first paths of the set.
func lossBraid(c lossCase, seed uint64, paths int, carrier braid.Carrier) (r lossResult, err error) {
	n, err := newLossNet(c, seed)
	if err != nil {
		return r, err
	}
	var jam, counts atomic.Int64 // frames of one packet each that met a joint loss, counted once the warm-up is over
	pair, stop, err := n.braids(paths, carrier, func(side int, run []byte, segment int) {
		if side == 0 && pathOf(run) == 0 && run[3]&0xf == 2 && counts.Load() > 0 && n.lost(0) {
			jam.Add(int64((len(run) + segment - 1) / segment))
		}
	})
	if err != nil {
		return r, err
	}
	s, err := pair.session()
	if err == nil {
		first, early := uint64(lossWarm.Seconds()*lossRate), uint64(0)
		r = lossRun(&pair.got[1], func(seq uint64, p []byte) {
			if seq == first {
				counts.Store(1)
				early = pair.nodes[1].Stats().Sessions[0].Repaired // in the warm-up
			}
			s.Send(1, braid.Video, p)
		})
		r.jointly, r.repaired = int(jam.Load()), pair.nodes[1].Stats().Sessions[0].Repaired-early
	}
	return r, errors.Join(err, stop())
}

// quicPath sets one QUIC connection up over one path.
func (n *lossNet) quicPath(ctx context.Context, conf *tls.Config, path int) (out, in *quic.Conn, trs [2]*quic.Transport, err error) {
	for side := range trs {
		trs[side] = &quic.Transport{Conn: lossyConn{n.conns[side][path], n, side}}
	}
	l, err := trs[1].Listen(conf, benchQUIC())
	if err != nil {
		return nil, nil, trs, err
	}
	if out, err = trs[0].Dial(ctx, net.UDPAddrFromAddrPort(n.addrs[1][path]), conf, benchQUIC()); err != nil {
		return nil, nil, trs, err
	}
	in, err = l.Accept(ctx)
	return out, in, trs, err
}

// lossQUIC runs one plain QUIC connection per path, every packet on each, first arrival counts.
func lossQUIC(c lossCase, seed uint64, paths int) (r lossResult, err error) {
	n, err := newLossNet(c, seed)
	if err != nil {
		return r, err
	}
	conf, err := braidTLS(1)
	if err != nil {
		return r, err
	}
	got := &arrivals{}
	var loops sync.WaitGroup
	var ends []*quic.Conn
	var transports []*quic.Transport
	queues := make([]chan []byte, paths)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for path := range paths {
		out, in, trs, err := n.quicPath(ctx, conf, path)
		if err != nil {
			return r, err
		}
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
	return r, nil
}

// lossIdeal sends every packet bare on each path and counts the first copy: what no transport can better. Its loss is the
// product of the paths' (and the joint loss), its latency the minimum over the copies.
func lossIdeal(c lossCase, seed uint64, paths int) (r lossResult, err error) {
	n, err := newLossNet(c, seed)
	if err != nil {
		return r, err
	}
	got := &arrivals{}
	var readers sync.WaitGroup
	for _, conn := range n.conns[1] {
		readers.Go(func() {
			for conn.ReadRuns(func(p []byte, _ int, _ netip.AddrPort, _ bool) { got.add(p) }) == nil {
			}
		})
	}
	r = lossRun(got, func(_ uint64, p []byte) {
		if n.lost(0) {
			return
		}
		for path := range paths {
			_, _ = n.conns[0][path].WriteToUDPAddrPort(p, n.addrs[1][path]) // an emulated port takes everything
		}
	})
	n.close()
	readers.Wait()
	return r, nil
}

func init() {
	register(Benchmark{
		Name:  "braid-loss",
		About: "What arrives under loss, in virtual time: a braid against what it replaces, and against the ideal.",
		Run:   runBraidLoss,
	})
}

// lossTransports are compared on the same emulated paths; the first is the one that targets are for.
var lossTransports = []struct {
	name string
	run  func(c lossCase, seed uint64) (lossResult, error)
}{
	{"braid, media frames", func(c lossCase, seed uint64) (lossResult, error) { return lossBraid(c, seed, 3, braid.Frames) }},
	{"braid, carrier datagram", func(c lossCase, seed uint64) (lossResult, error) { return lossBraid(c, seed, 3, braid.Datagram) }},
	{"braid over the first path alone", func(c lossCase, seed uint64) (lossResult, error) { return lossBraid(c, seed, 1, braid.Frames) }},
	{"one QUIC connection, first path alone", func(c lossCase, seed uint64) (lossResult, error) { return lossQUIC(c, seed, 1) }},
	{"three QUIC connections, dedup above", func(c lossCase, seed uint64) (lossResult, error) { return lossQUIC(c, seed, 3) }},
	{"ideal: bare copies, first one counts", func(c lossCase, seed uint64) (lossResult, error) { return lossIdeal(c, seed, 3) }},
}

// runBraidLoss tabulates two cases; virtual time makes one repetition enough.
func runBraidLoss(ctx context.Context, r *Recorder) error {
	cases := []lossCase{
		{"independent loss of 1 % per path, 50/60/80 ms", [3]time.Duration{50e6, 60e6, 80e6}, 0.01, 0},
		{"the same with 0.1 % joint loss, 100/110/130 ms", [3]time.Duration{100e6, 110e6, 130e6}, 0.01, 0.001},
	}
	for _, c := range cases {
		table := Table{
			Title:   fmt.Sprintf("%d x %d B/s for %v after %v, %s", lossRate, lossSize, lossTime, lossWarm, c.title),
			Columns: []string{"transport", "sent", "undelivered", "share", "before repair", "p50 ms", "p99 ms", "max ms"},
		}
		var jointly int
		for i, tr := range lossTransports {
			if err := ctx.Err(); err != nil {
				return err
			}
			var got lossResult
			var err error
			if bubble := r.Bubble(func() { got, err = tr.run(c, 7) }); bubble != nil || err != nil {
				return fmt.Errorf("%s: %w", tr.name, errors.Join(bubble, err))
			}
			if i == 0 {
				jointly = got.jointly
				r.Row(Row{Name: fmt.Sprintf("undelivered, joint loss %g %%", 100*c.joint), Unit: "packets", Must: max(1, 0.1*float64(jointly))}, float64(got.undelivered))
				r.Row(Row{Name: fmt.Sprintf("lost on all paths before repair, joint loss %g %%", 100*c.joint), Unit: "packets", Must: max(1, 1.1*float64(jointly))},
					float64(got.undelivered)+float64(got.repaired))
			}
			table.Rows = append(table.Rows, got.row(tr.name))
		}
		if c.joint > 0 {
			table.Notes = append(table.Notes, fmt.Sprintf("%d packets met a joint loss in the first run (expected %.0f): before repair 1.1 times that may be lost, after it a tenth.",
				jointly, c.joint*lossTime.Seconds()*lossRate))
		}
		r.Table(table)
	}
	return nil
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
