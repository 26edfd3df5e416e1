package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node/udp"
)

const (
	relayFrames = 64 // captured; runs are made of them
	relaySize   = 1150
	relayRounds = 150 // of one row and repetition
	// relayLoad is how many frames wait in the relay's socket at the beginning of a round: within its buffer.
	relayLoad = 320
	relayWait = 20 * time.Second
)

// relayRuns are how many frames arrive as one run: alone, a moment of 2,000 packets/s, one of 8,000/s, and a saturated one.
var relayRuns = []int{1, 2, 8, 40}

func init() {
	register(Benchmark{
		Name:  "braid-relay",
		About: "Processor time per frame that a relay in user space forwards, against one recv and one send of the same bytes, batched alike.",
		Run:   runBraidRelay,
	})
}

// relayRig is a relay that does not run, frames that it will forward while they are fresh, its socket and those before and behind it.
type relayRig struct {
	in, relay, sink *udp.Conn
	node            *braid.Braid
	frames          [][]byte
	onward          int // frames written on
	failed          error
}

// runBraidRelay fills the relay's socket, counts the processor time of the one thread that empties it, and so on by turns with the
// baseline: ReadRuns and TryWriteRun alone. Nothing else runs in that time, so nothing waits and nothing is woken.
func runBraidRelay(ctx context.Context, r *Recorder) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range r.Repeat {
		rig, err := newRelayRig(ctx)
		if err != nil {
			return err
		}
		for _, n := range relayRuns {
			plain, ours := rig.compare(n)
			what := fmt.Sprintf("runs of %d x %d B", n, len(rig.frames[0]))
			base := "recv and send, " + what
			r.Row(Row{Name: base, Unit: "µs/frame"}, plain)
			r.Row(Row{Name: "relay, " + what, Unit: "µs/frame", Baseline: base, Must: 1.3}, ours)
		}
		if err := rig.close(); err != nil {
			return err
		}
	}
	r.Note("Both read up to 8 runs in one recvmmsg (UDP_GRO) and write each run in one sendmsg (UDP_SEGMENT), over loopback, on one thread; a relay checks "+
		"MAC, age, budget and fence of each frame in between. %d rounds of %d frames each, by turns.", relayRounds, relayLoad)
	return nil
}

// newRelayRig captures frames that a source has made for the relay.
func newRelayRig(ctx context.Context) (rig *relayRig, err error) {
	rig = &relayRig{}
	mesh, err := newRelayMesh(ctx)
	if err != nil {
		return nil, err
	}
	if rig.frames, err = mesh.capture(ctx); err != nil {
		return nil, err
	}
	rig.node = mesh.nodes[2]
	for _, c := range []**udp.Conn{&rig.in, &rig.relay, &rig.sink} {
		if *c, err = udp.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
			return nil, errors.Join(err, rig.close())
		}
	}
	to := portOf(rig.sink)
	mesh.relayed = func(run []byte, segment int) error { return rig.forward(run, segment, to) }
	return rig, nil
}

func portOf(c *udp.Conn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

func (rig *relayRig) close() error {
	errs := []error{rig.failed}
	for _, c := range []*udp.Conn{rig.in, rig.relay, rig.sink} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

func (rig *relayRig) forward(run []byte, segment int, to netip.AddrPort) error {
	rig.onward += (len(run) + segment - 1) / segment
	return rig.relay.TryWriteRun(run, segment, to)
}

// compare returns microseconds of processor time per frame in runs of n: of the baseline, and of the relay.
func (rig *relayRig) compare(n int) (plain, ours float64) {
	segment := len(rig.frames[0])
	run := bytes.Join(rig.frames[:n], nil)
	to := portOf(rig.sink)
	bare := func(run []byte, segment int, _ netip.AddrPort, _ bool, _ time.Duration) {
		if err := rig.forward(run, segment, to); err != nil {
			rig.failed = err
		}
	}
	var spent [2]time.Duration
	for range relayRounds {
		for i, handle := range []runHandler{bare, rig.node.HandleRun} {
			spent[i] += rig.round(run, segment, relayLoad/n, handle)
		}
	}
	frames := float64(relayRounds * (relayLoad / n) * n)
	return float64(spent[0].Nanoseconds()) / 1000 / frames, float64(spent[1].Nanoseconds()) / 1000 / frames
}

// round puts runs into the relay's socket, and takes the time that reading, handling and writing them needs.
func (rig *relayRig) round(run []byte, segment, runs int, handle runHandler) time.Duration {
	want := runs * ((len(run) + segment - 1) / segment)
	to := portOf(rig.relay)
	for range runs {
		if err := rig.in.WriteRun(run, segment, to); err != nil {
			rig.failed = err
			return 0
		}
	}
	// Whatever does not come, because a buffer is too small here, must not block the round.
	_ = rig.relay.SetReadDeadline(time.Now().Add(relayWait))
	rig.onward = 0
	before := threadTime()
	for rig.onward < want {
		if err := rig.relay.ReadRuns(handle); err != nil {
			rig.failed = fmt.Errorf("%d of %d frames were forwarded: %w", rig.onward, want, err)
			break
		}
	}
	spent := threadTime() - before
	_ = rig.sink.SetReadDeadline(time.Now().Add(relayWait))
	for got := 0; got < rig.onward && rig.failed == nil; {
		rig.failed = rig.sink.ReadRuns(func(run []byte, segment int, _ netip.AddrPort, _ bool, _ time.Duration) {
			got += (len(run) + segment - 1) / segment
		})
	}
	return spent
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // cannot fail for the own thread
	return time.Duration(t.Nano())
}

// relayMesh is a source (1), a destination (2) and a relay (3) over loopback.
type relayMesh struct {
	conns   [3]*udp.Conn
	nodes   [3]*braid.Braid
	kept    chan []byte                         // frames of media as they reach the relay
	relayed func(run []byte, segment int) error // instead of the relay's socket, once it is closed
	tasks   sync.WaitGroup
	addrs   [3]netip.AddrPort
}

func newRelayMesh(ctx context.Context) (m *relayMesh, err error) {
	m = &relayMesh{kept: make(chan []byte, relayFrames)}
	for i := range m.conns {
		if m.conns[i], err = udp.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0")); err != nil {
			m.close()
			return nil, err
		}
		m.addrs[i] = portOf(m.conns[i])
	}
	for i := range m.nodes {
		conf, err := braidConfig(braid.NodeID(i+1), wireFunc(func(run []byte, segment int, to netip.AddrPort) error {
			if i == 2 && m.relayed != nil {
				return m.relayed(run, segment)
			}
			return m.conns[i].TryWriteRun(run, segment, to)
		}), &arrivals{}, func(holder, user braid.NodeID, epoch uint32) braid.Key { return m.nodes[holder-1].KeyFor(user, epoch) })
		if err != nil {
			m.close()
			return nil, err
		}
		conf.RelayRate = 1e12
		conf.Addr = func(id braid.NodeID) (netip.AddrPort, bool) { return m.addrs[(id-1)%3], true }
		conf.Paths = func(braid.NodeID, braid.FenceID, []braid.Path) []braid.Path {
			return []braid.Path{{Relays: []braid.NodeID{3}}}
		}
		if m.nodes[i], err = braid.New(conf); err != nil {
			m.close()
			return nil, err
		}
	}
	return m, nil
}

func (m *relayMesh) close() {
	for _, c := range m.conns {
		if c != nil {
			_ = c.Close()
		}
	}
	m.tasks.Wait()
}

// capture lets node 1 send to node 2 and keeps what reaches node 3. When it returns nothing of the mesh runs any more.
func (m *relayMesh) capture(ctx context.Context) (frames [][]byte, err error) {
	ctx, stop := context.WithTimeout(ctx, relayWait)
	defer m.close()
	defer stop()
	for i, n := range m.nodes {
		m.tasks.Go(func() { _ = n.Run(ctx) }) // what fails shows: nothing comes
		m.tasks.Go(func() { m.read(i) })
	}
	s, err := m.nodes[0].Session(ctx, 2, braidFence)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	packet := make([]byte, relaySize)
	for len(frames) < relayFrames {
		select {
		case f := <-m.kept:
			frames = append(frames, f)
		case <-tick.C:
			s.Send(1, braid.Video, packet)
		case <-ctx.Done():
			return nil, fmt.Errorf("%d of %d frames came in %v: %w", len(frames), relayFrames, relayWait, ctx.Err())
		}
	}
	return frames, nil
}

// read serves a node's socket until it is closed.
func (m *relayMesh) read(i int) {
	handle := m.nodes[i].HandleRun
	if i == 2 {
		handle = func(run []byte, segment int, from netip.AddrPort, marked bool, waited time.Duration) {
			if _, media := mediaSeq(run); media && len(run) <= segment && run[2]>>2&3 == 0 {
				select {
				case m.kept <- bytes.Clone(run):
				default:
				}
			}
			m.nodes[2].HandleRun(run, segment, from, marked, waited)
		}
	}
	for m.conns[i].ReadRuns(handle) == nil {
	}
}
