package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/ternmesh/tern/media/braid"
)

const (
	memorySessions = 40
	memorySettle   = 3 * time.Second // for handshakes, first reports and keys
	memoryRun      = 4 * time.Second // at full rate
)

// memoryRates are what full rate may mean, in packets of 1,150 bytes a second: 2.5, 4.6 and 18 Mbit/s.
var memoryRates = []int{270, 500, 2000}

func init() {
	register(Benchmark{
		Name:  "braid-memory",
		About: "Heap of a braid's session at one end: idle, beside its QUIC connection, and with media at full rate.",
		Run:   runBraidMemory,
	})
}

// heap is the live heap in bytes.
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func runBraidMemory(ctx context.Context, r *Recorder) error {
	const bare = "QUIC connection alone, idle"
	q, err := memoryQUIC(ctx)
	if err != nil {
		return err
	}
	r.Row(Row{Name: bare, Unit: "KiB"}, q/1024)
	idle, full, err := memoryBraid(ctx)
	if err != nil {
		return err
	}
	r.Row(Row{Name: "idle braid session, with its QUIC connection", Unit: "KiB", Baseline: bare}, idle/1024)
	r.Row(Row{Name: "idle braid session, beside it", Unit: "KiB", Must: 64}, (idle-q)/1024)
	for i, rate := range memoryRates {
		row := Row{Name: fmt.Sprintf("both ends more at %d packets/s of 1,150 B", rate), Unit: "KiB"}
		row.Must = 512
		r.Row(row, full[i]/1024)
	}
	r.Note("%d idle sessions between two nodes, each under a fence of its own, over loopback: live heap after garbage collection, divided "+
		"by the number of ends. At full rate one session sends for %v. The frames that the source keeps for repair are most of it: 384 KiB, "+
		"or what is sent in a round trip by the slowest path and 40 ms if that is more, 4,096 frames at most.", memorySessions, memoryRun)
	return nil
}

// memoryBraid returns the heap of one end of an idle session, and what each of memoryRates adds at both ends together.
func memoryBraid(ctx context.Context) (idle float64, full []float64, err error) {
	pair, stop, err := loopbackPair()
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err = pair.session(); err != nil { // what a pair has once is not a session's
		return 0, nil, err
	}
	before := heap()
	for i := range memorySessions {
		if _, err = pair.nodes[0].Session(ctx, 2, braid.FenceOf([]string{fmt.Sprint("bench", i)})); err != nil {
			return 0, nil, err
		}
	}
	time.Sleep(memorySettle)
	idle = (heap() - before) / (2 * memorySessions)
	packet := make([]byte, 1150)
	for i, rate := range memoryRates {
		s, err := pair.nodes[0].Session(ctx, 2, braid.FenceOf([]string{fmt.Sprint("bench", i)})) // one that was idle till now
		if err != nil {
			return 0, nil, err
		}
		at := heap()
		tick := time.NewTicker(time.Second / time.Duration(rate))
		for range int(memoryRun.Seconds() * float64(rate)) {
			s.Send(1, braid.Video, packet)
			<-tick.C
		}
		full = append(full, heap()-at)
		tick.Stop()
	}
	return idle, full, nil
}

// memoryQUIC is the heap of one end of an idle QUIC connection.
func memoryQUIC(ctx context.Context) (float64, error) {
	conf, err := braidTLS(1)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	sock, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	from := &quic.Transport{Conn: sock}
	defer func() { _ = from.Close(); _ = sock.Close() }()
	l, err := quic.ListenAddr("127.0.0.1:0", conf, benchQUIC())
	if err != nil {
		return 0, err
	}
	defer l.Close()
	var ends []*quic.Conn
	before := heap()
	for range memorySessions {
		out, err := from.Dial(ctx, l.Addr(), conf, benchQUIC())
		if err != nil {
			return 0, err
		}
		in, err := l.Accept(ctx)
		if err != nil {
			return 0, err
		}
		ends = append(ends, out, in)
	}
	time.Sleep(memorySettle)
	used := (heap() - before) / (2 * memorySessions)
	for _, e := range ends {
		_ = e.CloseWithError(0, "")
	}
	return used, nil
}
