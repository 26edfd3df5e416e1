package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node/udp"
)

const (
	cpuRate = 20_000                  // packets a second
	cpuTime = 1500 * time.Millisecond // of one measurement
	cpuWarm = 300 * time.Millisecond
)

// cpuTargets per packet size: must, and what the prototype suggests.
var cpuTargets = map[int][2]float64{1150: {1.5, 0.6}, 160: {1.6, 0.8}}

func init() {
	register(Benchmark{
		Name:  "braid-cpu",
		About: "Processor time per delivered packet, both ends, loopback: a braid with three copies against plain QUIC DATAGRAMs with one.",
		Run:   runBraidCPU,
	})
}

// runBraidCPU compares user and system time of this process per delivered packet at one rate. The braid's three paths are
// three sending sockets towards the receiver's one port, as if two of them came from relays; relays take no part.
func runBraidCPU(ctx context.Context, r *Recorder) error {
	for _, size := range []int{1150, 160} {
		plain := fmt.Sprintf("QUIC DATAGRAM, 1 copy, %d B", size)
		for range r.Repeat {
			if err := ctx.Err(); err != nil {
				return err
			}
			q, quicShare, err := cpuQUIC(size)
			if err != nil {
				return err
			}
			c, braidShare, err := cpuBraid(size)
			if err != nil {
				return err
			}
			r.Row(Row{Name: plain, Unit: "µs/packet"}, q)
			r.Row(Row{Name: fmt.Sprintf("braid, 3 copies, %d B", size), Unit: "µs/packet", Baseline: plain, Must: cpuTargets[size][0], Aim: cpuTargets[size][1]}, c)
			r.Row(Row{Name: fmt.Sprintf("delivered, QUIC, %d B", size), Unit: "share"}, quicShare)
			r.Row(Row{Name: fmt.Sprintf("delivered, braid, %d B", size), Unit: "share"}, braidShare)
		}
	}
	r.Note("%d packets/s, interleaved rounds of %v each. The braid's paths are three sockets on loopback; no relay is counted. "+
		"Loopback keeps GSO runs whole, so a network card gains less from GRO.", cpuRate, cpuTime)
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

// feed calls send at cpuRate for d, in steps of a millisecond, and returns how many packets that were.
func feed(d time.Duration, packet []byte, send func(packet []byte)) (sent uint64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for now := range tick.C {
		if now.Sub(began) >= d {
			return sent
		}
		for due := uint64(now.Sub(began).Seconds() * cpuRate); sent < due; sent++ {
			stamp(packet, sent)
			send(packet)
		}
	}
	return sent
}

// measure returns microseconds of processor time per delivered packet, and the share delivered.
func measure(size int, got *arrivals, send func(packet []byte)) (us, share float64) {
	packet := make([]byte, size)
	feed(cpuWarm, packet, send)
	time.Sleep(50 * time.Millisecond)
	before, cpu := got.total(), cpuNow()
	sent := feed(cpuTime, packet, send)
	time.Sleep(50 * time.Millisecond)
	used, delivered := cpuNow()-cpu, got.total()-before
	if delivered == 0 {
		return 0, 0
	}
	return float64(used.Microseconds()) / float64(delivered), float64(delivered) / float64(sent)
}

func cpuBraid(size int) (us, share float64, err error) {
	var wires [2]braid.Wire
	var addrs [2]netip.AddrPort
	var conns []*udp.Conn
	var mesh [2]*udp.Conn
	for i := range 2 {
		var socks [3]*udp.Conn
		for k := range socks {
			c, err := udp.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"))
			if err != nil {
				return 0, 0, err
			}
			socks[k] = c
			conns = append(conns, c)
		}
		mesh[i] = socks[0]
		addrs[i] = socks[0].LocalAddr().(*net.UDPAddr).AddrPort()
		wires[i] = wireFunc(func(run []byte, segment int, to netip.AddrPort) error {
			return socks[pathOf(run)].WriteRun(run, segment, to)
		})
	}
	pair, err := newBraidPair(3, braid.Frames, wires, addrs)
	if err != nil {
		return 0, 0, err
	}
	var readers sync.WaitGroup
	for i, c := range mesh {
		readers.Go(func() {
			for c.ReadRuns(pair.nodes[i].HandleRun) == nil {
			}
		})
	}
	s, err := pair.session()
	if err == nil {
		us, share = measure(size, &pair.got[1], func(p []byte) { s.Send(1, braid.Video, p) })
	}
	err = errors.Join(err, pair.close())
	for _, c := range conns {
		_ = c.Close()
	}
	readers.Wait()
	return us, share, err
}

func cpuQUIC(size int) (us, share float64, err error) {
	conf, err := braidTLS(1)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := quic.ListenAddr("127.0.0.1:0", conf, benchQUIC())
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	out, err := quic.DialAddr(ctx, l.Addr().String(), conf, benchQUIC())
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = out.CloseWithError(0, "") }()
	in, err := l.Accept(ctx)
	if err != nil {
		return 0, 0, err
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
	us, share = measure(size, got, func(p []byte) { _ = out.SendDatagram(append([]byte(nil), p...)) })
	_ = in.CloseWithError(0, "")
	reader.Wait()
	return us, share, nil
}
