package bench

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/media/braid"
)

const (
	cpuTime = 1500 * time.Millisecond // of one measurement
	cpuWarm = 500 * time.Millisecond
	// cpuWindow is how many packets may be under way when both ends are saturated.
	cpuWindow = 256
)

// cpuLoad is one way of sending packets.
type cpuLoad struct {
	name      string
	size      int // bytes
	rate      int // packets a second; 0: as many as go
	burst     int // packets at a time; 0: what a millisecond brings
	must, aim float64
}

var cpuLoads = []cpuLoad{
	{"1,150 B, bursts of 8, saturated", 1150, 0, 8, 0.35, 0},
	{"1,150 B at 20,000/s", 1150, 20_000, 0, 0.6, 0},
	{"1,150 B, single, 900/s", 1150, 900, 1, 1.5, 0},
	{"160 B at 20,000/s", 160, 20_000, 0, 0.8, 0},
}

func init() {
	register(Benchmark{
		Name:  "braid-cpu",
		About: "Processor time per delivered packet, both ends, loopback: a braid with three copies against plain QUIC DATAGRAMs with one.",
		Run:   runBraidCPU,
	})
}

// runBraidCPU compares user and system time of this process per delivered packet. The braid's three paths are three sending
// sockets towards the receiver's one port, as if two of them came from relays; relays take no part.
func runBraidCPU(ctx context.Context, r *Recorder) error {
	for _, l := range cpuLoads {
		plain := "QUIC DATAGRAM, 1 copy, " + l.name
		for range r.Repeat {
			if err := ctx.Err(); err != nil {
				return err
			}
			q, err := cpuQUIC(l)
			if err != nil {
				return err
			}
			c, err := cpuBraid(l)
			if err != nil {
				return err
			}
			r.Row(Row{Name: plain, Unit: "µs/packet"}, q.us)
			r.Row(Row{Name: "braid, 3 copies, " + l.name, Unit: "µs/packet", Baseline: plain, Must: l.must, Aim: l.aim}, c.us)
			if l.rate == 0 {
				r.Row(Row{Name: "packets/s, QUIC, " + l.name, Unit: "packets/s"}, q.rate)
				r.Row(Row{Name: "packets/s, braid, " + l.name, Unit: "packets/s"}, c.rate)
			}
			r.Row(Row{Name: "delivered, QUIC, " + l.name, Unit: "share"}, q.share)
			r.Row(Row{Name: "delivered, braid, " + l.name, Unit: "share"}, c.share)
			r.Row(Row{Name: "copies, braid, " + l.name, Unit: "copies/frame"}, c.copies)
		}
	}
	r.Note("Interleaved rounds of %v each. The braid's paths are three sockets on loopback; no relay is counted. "+
		"Loopback keeps GSO runs whole, so a network card gains less from GRO. Single packets leave more than a millisecond apart, so "+
		"that nothing shares a run; saturated, at most 256 packets are under way at a time.", cpuTime)
	return nil
}

// cpuNow is the processor time that this process has used.
func cpuNow() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// saturate sends bursts for d, with at most cpuWindow packets under way: as fast as both ends go, and no faster.
func (l cpuLoad) saturate(d time.Duration, packet []byte, got *arrivals, send func(packet []byte)) (sent uint64) {
	began, before, moved := time.Now(), got.total(), time.Now()
	var arrived, lost uint64
	for time.Since(began) < d {
		now := got.total() - before
		if now > arrived {
			arrived, moved = now, time.Now()
		}
		if under := sent - min(sent, arrived+lost); under+uint64(l.burst) > cpuWindow {
			if time.Since(moved) > 20*time.Millisecond { // what is still missing is lost
				lost, moved = lost+under, time.Now()
			}
			time.Sleep(50 * time.Microsecond)
			continue
		}
		for range l.burst {
			stamp(packet, sent)
			send(packet)
			sent++
		}
	}
	return sent
}

// feed calls send for d as the load says and returns how many packets that took.
func (l cpuLoad) feed(d time.Duration, packet []byte, got *arrivals, send func(packet []byte)) (sent uint64) {
	if l.rate == 0 {
		return l.saturate(d, packet, got, send)
	}
	began := time.Now()
	step := time.Millisecond
	if l.burst > 0 {
		step = time.Second * time.Duration(l.burst) / time.Duration(l.rate)
	}
	tick := time.NewTicker(step)
	defer tick.Stop()
	for now := range tick.C {
		if now.Sub(began) >= d {
			return sent
		}
		due := sent + uint64(l.burst)
		if l.burst == 0 {
			due = uint64(now.Sub(began).Seconds() * float64(l.rate))
		}
		for ; sent < due; sent++ {
			stamp(packet, sent)
			send(packet)
		}
	}
	return sent
}

// cpuResult is microseconds of processor time per delivered packet, packets delivered a second, the share of those sent, and
// the copies that left of each.
type cpuResult struct{ us, rate, share, copies float64 }

func (l cpuLoad) measure(got *arrivals, send func(packet []byte)) (r cpuResult) {
	packet := make([]byte, l.size)
	l.feed(cpuWarm, packet, got, send)
	time.Sleep(50 * time.Millisecond)
	before, cpu := got.total(), cpuNow()
	sent := l.feed(cpuTime, packet, got, send)
	time.Sleep(50 * time.Millisecond)
	used, delivered := cpuNow()-cpu, got.total()-before
	if delivered == 0 {
		return r
	}
	return cpuResult{
		us: float64(used.Microseconds()) / float64(delivered), rate: float64(delivered) / cpuTime.Seconds(),
		share: float64(delivered) / float64(sent),
	}
}

func cpuBraid(l cpuLoad) (r cpuResult, err error) {
	pair, stop, err := loopbackPair()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	s, err := pair.session()
	if err != nil {
		return r, err
	}
	r = l.measure(&pair.got[1], func(p []byte) { s.Send(1, braid.Video, p) })
	st := s.Stats()
	var sent uint64
	for _, p := range st.Out {
		sent += p.Sent
	}
	r.copies = float64(sent) / float64(max(1, st.FramesSent))
	return r, nil
}

func cpuQUIC(load cpuLoad) (r cpuResult, err error) {
	conf, err := braidTLS(1)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := quic.ListenAddr("127.0.0.1:0", conf, benchQUIC())
	if err != nil {
		return r, err
	}
	defer l.Close()
	out, err := quic.DialAddr(ctx, l.Addr().String(), conf, benchQUIC())
	if err != nil {
		return r, err
	}
	defer func() { _ = out.CloseWithError(0, "") }()
	in, err := l.Accept(ctx)
	if err != nil {
		return r, err
	}
	got := &arrivals{}
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			p, err := in.ReceiveDatagram(ctx)
			if err != nil {
				return
			}
			got.add(p)
		}
	})
	r = load.measure(got, func(p []byte) { _ = out.SendDatagram(append([]byte(nil), p...)) })
	_ = in.CloseWithError(0, "")
	reader.Wait()
	return r, nil
}
