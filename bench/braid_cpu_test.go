package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node/udp"
)

const (
	cpuRate   = 20_000 // packets a second
	cpuRounds = 5
	cpuTime   = 1500 * time.Millisecond // of one measurement
	cpuWarm   = 300 * time.Millisecond
)

// cpuTargets per packet size: must, and what the prototype suggests.
var cpuTargets = map[int][2]float64{1150: {1.5, 0.6}, 160: {1.6, 0.8}}

// BenchmarkBraidCPU compares processor time (user and system, both ends, this process) per delivered packet: a braid with
// three copies against plain quic-go DATAGRAMs with one, both over loopback at the same rate. The braid's three paths are
// three sending sockets towards the receiver's one port, as if two of them came from relays; relays take no part.
func BenchmarkBraidCPU(b *testing.B) {
	table := braidTable{
		Title: fmt.Sprintf("CPU per delivered packet at %d packets/s, both ends, loopback", cpuRate),
		Columns: []string{
			"packet", "QUIC DATAGRAM, 1 copy (µs)", "braid, 3 copies (µs)", "ratio: median (range)", "must", "aim", "delivered QUIC / braid",
		},
		Notes: []string{
			fmt.Sprintf("%d interleaved rounds of %v each. The braid's paths are three sockets on loopback; no relay is counted. "+
				"Loopback keeps GSO runs whole, so a network card gains less from GRO.", cpuRounds, cpuTime),
		},
	}
	for _, size := range []int{1150, 160} {
		var plain, braided, ratios []float64
		var shares [2]float64
		for range max(cpuRounds, b.N) {
			q, qs := cpuQUIC(b, size)
			c, cs := cpuBraid(b, size)
			plain, braided, ratios = append(plain, q), append(braided, c), append(ratios, c/q)
			shares[0], shares[1] = shares[0]+qs, shares[1]+cs
		}
		ratio, low, high := median(ratios)
		q, _, _ := median(plain)
		c, _, _ := median(braided)
		n := float64(len(ratios))
		target := cpuTargets[size]
		table.Rows = append(table.Rows, []string{
			fmt.Sprintf("%d B", size), fmt.Sprintf("%.1f", q), fmt.Sprintf("%.1f", c),
			fmt.Sprintf("%.2f (%.2f-%.2f)", ratio, low, high), fmt.Sprintf("<= %.1f", target[0]), fmt.Sprintf("<= %.1f", target[1]),
			fmt.Sprintf("%.2f %% / %.2f %%", 100*shares[0]/n, 100*shares[1]/n),
		})
		b.ReportMetric(ratio, fmt.Sprintf("ratio-%dB", size))
	}
	table.print(b)
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

func cpuBraid(b *testing.B, size int) (us, share float64) {
	var wires [2]braid.Wire
	var addrs [2]netip.AddrPort
	var conns []*udp.Conn
	var mesh [2]*udp.Conn
	for i := range 2 {
		var socks [3]*udp.Conn
		for k := range socks {
			c, err := udp.Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"))
			if err != nil {
				b.Fatal(err)
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
	pair := newBraidPair(b, 3, braid.Frames, wires, addrs)
	var readers sync.WaitGroup
	for i, c := range mesh {
		readers.Go(func() {
			for c.ReadRuns(pair.nodes[i].HandleFrame) == nil {
			}
		})
	}
	s := pair.session(b)
	us, share = measure(size, &pair.got[1], func(p []byte) { s.Send(1, braid.Video, p) })
	if st := s.Stats(); len(st.Drops) > 0 {
		b.Logf("%d B: the braid dropped %v; %+v", size, st.Drops, pair.nodes[1].Stats().Frames)
	}
	pair.close()
	for _, c := range conns {
		_ = c.Close()
	}
	readers.Wait()
	return us, share
}

func cpuQUIC(b *testing.B, size int) (us, share float64) {
	conf, err := braidTLS(1)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := quic.ListenAddr("127.0.0.1:0", conf, benchQUIC())
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	out, err := quic.DialAddr(ctx, l.Addr().String(), conf, benchQUIC())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = out.CloseWithError(0, "") }()
	in, err := l.Accept(ctx)
	if err != nil {
		b.Fatal(err)
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
	return us, share
}
