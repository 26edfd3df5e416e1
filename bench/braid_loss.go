package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/sim"
)

const (
	lossSize = 1150 // bytes: one packet fills a frame
	lossWarm = 2 * time.Second
	lossTail = 3 * time.Second // after the last packet
	// lossPause is for what still waits in the sender when the warm-up ends.
	lossPause = 50 * time.Millisecond
	lossSeed  = 7
	// lossMost bounds a run that goes on until enough was lost, in packets.
	lossMost = 60_000_000
)

// lossResult is what one transport made of it.
type lossResult struct {
	sent, undelivered int
	latency           delays
	repaired          uint64  // frames; of a braid
	prompt            delays  // latency of what was not repaired; of a braid
	watch             *oracle // of a braid with media frames
}

// lossRun sends packets through send and says what arrived of those behind the warm-up. begin is called when that is over; more,
// after each time of the case, says whether to go on.
func lossRun(c *lossCase, got *arrivals, send func(packet []byte), begin func(), more func() bool) (r lossResult) {
	rate := uint64(c.rate)
	first, most := uint64(lossWarm.Seconds())*rate, uint64(lossWarm.Seconds())*rate+lossMost
	got.expect(first, most)
	packet := make([]byte, lossSize)
	n := uint64(0)
	feed := func(d time.Duration) {
		for range uint64(d.Seconds()) * rate {
			stamp(packet, n)
			send(packet)
			time.Sleep(time.Second / time.Duration(rate))
			n++
		}
	}
	feed(lossWarm)
	time.Sleep(lossPause)
	begin()
	for again := true; again; again = n < most && more() {
		feed(c.time)
	}
	time.Sleep(lossTail)
	synctest.Wait()
	book := got.close()
	r.sent = int(n - first)
	r.undelivered, r.latency, r.prompt = r.sent-book.got, book.latency, book.prompt
	return r
}

// lossBraid runs a braid over the first paths of the set.
func lossBraid(c *lossCase, paths int, carrier braid.Carrier) (r lossResult, err error) {
	n, err := newLossNet(*c, lossSeed)
	if err != nil {
		return r, err
	}
	if carrier == braid.Frames {
		n.watch = newOracle(c.delays)
	}
	pair, stop, err := n.braids(paths, carrier, nil)
	if err != nil {
		return r, err
	}
	s, err := pair.session()
	if err == nil {
		early := uint64(0) // repaired in the warm-up
		repaired := func() uint64 { return pair.nodes[1].Stats().Sessions[0].Repaired }
		r = lossRun(c, &pair.got[1], func(p []byte) { s.Send(1, braid.Video, p) }, func() {
			early = repaired()
			if n.watch != nil {
				n.watch.begin()
			}
		}, func() bool {
			if paths < len(c.delays) || n.watch == nil || c.losses == 0 {
				return false
			}
			time.Sleep(time.Second) // until nothing is under way
			return n.watch.lost() < c.losses
		})
		r.repaired, r.watch = repaired()-early, n.watch
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
func lossQUIC(c *lossCase, paths int) (r lossResult, err error) {
	n, err := newLossNet(*c, lossSeed)
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
		queues[path] = make(chan []byte, c.rate*4/10)
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
	r = lossRun(c, got, func(p []byte) {
		for _, q := range queues {
			select {
			case q <- append([]byte(nil), p...):
			default:
			}
		}
	}, func() {}, func() bool { return false })
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

// lossTransports are compared on the same emulated paths; the first is the one that targets are for.
var lossTransports = []struct {
	name string
	run  func(c *lossCase) (lossResult, error)
}{
	{"braid, media frames", func(c *lossCase) (lossResult, error) { return lossBraid(c, 3, braid.Frames) }},
	{"braid, carrier datagram", func(c *lossCase) (lossResult, error) { return lossBraid(c, 3, braid.Datagram) }},
	{"braid over the first path alone", func(c *lossCase) (lossResult, error) { return lossBraid(c, 1, braid.Frames) }},
	{"one QUIC connection, first path alone", func(c *lossCase) (lossResult, error) { return lossQUIC(c, 1) }},
	{"three QUIC connections, dedup above", func(c *lossCase) (lossResult, error) { return lossQUIC(c, 3) }},
}

func init() {
	register(Benchmark{
		Name:  "braid-loss",
		About: "What arrives under loss, in virtual time: a braid against theory, the oracle, and what it replaces.",
		Run:   func(ctx context.Context, r *Recorder) error { return runLossCases(ctx, r, lossCases) },
	})
	register(Benchmark{
		Name:  "braid-bursts",
		About: "The same with losses in bursts, until 200 packets were lost on all paths at once.",
		Run:   func(ctx context.Context, r *Recorder) error { return runLossCases(ctx, r, burstCases) },
	})
}

// lossWays are those that are not far apart, farWays those of rows on joint loss.
var (
	lossWays = [3]time.Duration{50 * time.Millisecond, 60 * time.Millisecond, 80 * time.Millisecond}
	farWays  = [3]time.Duration{100 * time.Millisecond, 110 * time.Millisecond, 130 * time.Millisecond}
)

var lossCases = []lossCase{
	{title: "1 % each", delays: lossWays, loss: 0.01, rate: 2000, time: 30 * time.Second, judge: judgeFew},
	{title: "5 % each", delays: lossWays, loss: 0.05, rate: 2000, time: 10 * time.Minute, judge: judgeIndependent(1.2, 0)},
	{title: "20 % each", delays: lossWays, loss: 0.2, rate: 200, time: 10 * time.Minute, judge: judgeIndependent(1.1, 0.05)},
	{title: "20 % each", delays: lossWays, loss: 0.2, rate: 2000, time: 10 * time.Minute, judge: judgeIndependent(1.1, 0.05)},
	jointCase(0.0001), jointCase(0.001), jointCase(0.006), jointCase(0.05),
}

func jointCase(share float64) lossCase {
	return lossCase{
		title:  fmt.Sprintf("1 %% each and %g %% joint", 100*share),
		delays: farWays, loss: 0.01, joint: share, rate: 2000, time: 10 * time.Minute, judge: judgeJoint,
	}
}

// burstCases lose 2 % on each path in bursts of 5 packets on average.
var burstCases = []lossCase{{
	title: "2 % each in bursts of 5", delays: lossWays, bursts: sim.GilbertElliott{P: 0.2 * 0.02 / 0.98, R: 0.2}, rate: 2000, time: 10 * time.Minute,
	losses: 200, judge: judgeIndependent(1.3, 0),
}}

// name of a case's rows.
func (c *lossCase) name() string { return fmt.Sprintf("%s, %d/s", c.title, c.rate) }

// percent of the packets.
func (r *lossResult) percent(n int) float64 { return 100 * float64(n) / float64(max(1, r.sent)) }

// judgeFew is for a case in which next to nothing may be lost.
func judgeFew(r *Recorder, c *lossCase, got *lossResult) {
	r.Row(Row{Name: c.name() + ": lost before repair", Unit: "packets", Must: 1}, float64(got.watch.lost()))
	r.Row(Row{Name: c.name() + ": undelivered", Unit: "packets", Must: 1}, float64(got.undelivered))
	judgeLatency(r, c, got)
}

// judgeIndependent holds what was lost before repair against the product of the paths' losses, and what was lost after it, in
// percent, against after, if that is not 0.
func judgeIndependent(by, after float64) func(r *Recorder, c *lossCase, got *lossResult) {
	return func(r *Recorder, c *lossCase, got *lossResult) {
		theory := c.name() + ": product of the paths' losses"
		r.Row(Row{Name: theory, Unit: "%"}, 100*c.theory())
		r.Row(Row{Name: c.name() + ": lost before repair", Unit: "%", Baseline: theory, Must: by}, got.percent(got.watch.lost()))
		r.Row(Row{Name: c.name() + ": undelivered", Unit: "%", Must: after}, got.percent(got.undelivered))
		judgeLatency(r, c, got)
	}
}

// judgeJoint holds it against the packets that met a joint loss on the wire.
func judgeJoint(r *Recorder, c *lossCase, got *lossResult) {
	joint := c.name() + ": met a joint loss"
	r.Row(Row{Name: joint, Unit: "packets"}, float64(got.watch.jointly))
	r.Row(Row{Name: c.name() + ": lost before repair", Unit: "packets", Baseline: joint, Must: 1.1}, float64(got.watch.lost()))
	r.Row(Row{Name: c.name() + ": undelivered", Unit: "packets", Baseline: joint, Must: 0.1}, float64(got.undelivered))
	judgeLatency(r, c, got)
}

// judgeLatency holds the latency of what came without repair against the oracle's.
func judgeLatency(r *Recorder, c *lossCase, got *lossResult) {
	oracle := c.name() + ": p99, first copy to arrive"
	r.Row(Row{Name: oracle, Unit: "ms"}, got.watch.best.at(0.99))
	r.Row(Row{Name: c.name() + ": p99 without repairs", Unit: "ms", Baseline: oracle, Must: 1.05}, got.prompt.at(0.99))
	r.Row(Row{Name: c.name() + ": p99 of all", Unit: "ms"}, got.latency.at(0.99))
}

// runLossCases tabulates the cases; virtual time makes one repetition enough.
func runLossCases(ctx context.Context, r *Recorder, cases []lossCase) error {
	for i := range cases {
		c := &cases[i]
		table := Table{
			Title: fmt.Sprintf("%s: %d x %d B/s for %v or more after %v, over paths of %v, %v and %v one-way", c.title, c.rate, lossSize, c.time, lossWarm,
				c.delays[0], c.delays[1], c.delays[2]),
			Columns: []string{"transport", "sent", "undelivered", "share", "lost before repair", "p50 ms", "p99 ms", "max ms"},
		}
		for k, tr := range lossTransports {
			if err := ctx.Err(); err != nil {
				return err
			}
			var got lossResult
			var err error
			began := time.Now()
			if bubble := r.Bubble(func() { got, err = tr.run(c) }); bubble != nil || err != nil {
				return fmt.Errorf("%s, %s: %w", c.title, tr.name, errors.Join(bubble, err))
			}
			if k == 0 {
				c.judge(r, c, &got)
				table.Notes = append(table.Notes, got.paths())
			}
			table.Rows = append(table.Rows, got.row(tr.name))
			r.Say("%s: %s (%v)", c.name(), strings.Join(got.row(tr.name), " | "), time.Since(began).Round(time.Second))
		}
		r.Table(table)
	}
	r.Note("Lost before repair: packets of which no path brought the copy that was sent at first; of carrier datagram and QUIC the same as undelivered, for they repair " +
		"nothing. A path loses its share both ways, so it loses feedback and requests for repair, too. The first copy to arrive is seen on the emulated wire, beside the braid, and its latency " +
		"counts from when it left.")
	return nil
}

// paths says what the three paths did.
func (r *lossResult) paths() string {
	return fmt.Sprintf("In the braid's run the paths lost %.3f, %.3f and %.3f %% of the first copies, and %d of %d packets met a joint loss.",
		100*r.watch.share(0), 100*r.watch.share(1), 100*r.watch.share(2), r.watch.jointly, r.sent)
}

func (r *lossResult) row(name string) []string {
	at := func(q float64) string {
		if r.latency.n == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f", r.latency.at(q))
	}
	before := r.undelivered
	if r.watch != nil {
		before = r.watch.lost()
	}
	return []string{
		name, fmt.Sprint(r.sent), fmt.Sprint(r.undelivered), fmt.Sprintf("%.4f %%", r.percent(r.undelivered)),
		fmt.Sprint(before), at(0.5), at(0.99), at(1),
	}
}
