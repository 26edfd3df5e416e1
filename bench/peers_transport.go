package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ternmesh/tern/bench/load"
	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/node/udp"
	"github.com/ternmesh/tern/sim"
	"github.com/ternmesh/tern/sim/link"
)

const (
	peerRate = 2000 // packets a second
	peerSize = 1150
	peerWarm = 500 * time.Millisecond
	peerTime = 3 * time.Second
	peerTail = 500 * time.Millisecond // more than any buffer here
	peerOpen = 600 * time.Millisecond // for the tools to shake hands
)

// peerDelays are those of the two paths; peerLoss is lost on each, independently, in both directions.
var peerDelays = [2]time.Duration{5 * time.Millisecond, 15 * time.Millisecond}

const peerLoss = 0.05

func init() {
	register(Benchmark{
		Name:  "redundant-transports",
		About: "A braid, librist and SRT over the same two emulated paths, in real time: losses, latency, and a path that dies. Needs rist-tools and srt-tools.",
		Run:   runRedundantTransports,
	})
}

// peerResult is what arrived of one run.
type peerResult struct {
	sent, got int
	latency   delays
	us        float64 // processor time of the tools' processes for each packet that arrived; 0: not measured
}

// peerCase is one transport; start returns once it is ready.
type peerCase struct {
	name  string
	needs string // program without which it is left out
	paths int
	start func(ctx context.Context, paths int) (*peerRun, error)
}

// peerRun is a transport that runs.
type peerRun struct {
	send  func(packet []byte)
	got   *arrivals
	links []*link.Link // of the paths; of a braid, those of one direction and then those of the other
	pids  []int
	stop  func() error
}

func peerCases() []peerCase {
	rist := func(buffer int) peerCase {
		return peerCase{fmt.Sprintf("librist, 2 peers, buffer %d ms", buffer), "ristsender", 2, func(ctx context.Context, paths int) (*peerRun, error) {
			return startTools(ctx, paths, func(in, far, out uint16, ways []netip.AddrPort) (sender, receiver []string) {
				var to []string
				for _, w := range ways {
					to = append(to, fmt.Sprintf("rist://%v?buffer=%d", w, buffer))
				}
				return []string{"ristsender", "-p", "1", "-v", "-1", "-S", "0", "-i", fmt.Sprintf("udp://@127.0.0.1:%d", in), "-o", strings.Join(to, ",")},
					[]string{"ristreceiver", "-p", "1", "-v", "-1", "-S", "0", "-i", fmt.Sprintf("rist://@127.0.0.1:%d?buffer=%d", far, buffer), "-o", fmt.Sprintf("udp://127.0.0.1:%d", out)}
			})
		}}
	}
	srt := func(latency int) peerCase {
		return peerCase{fmt.Sprintf("SRT, first path alone, latency %d ms", latency), "srt-live-transmit", 1, func(ctx context.Context, paths int) (*peerRun, error) {
			return startTools(ctx, paths, func(in, far, out uint16, ways []netip.AddrPort) (sender, receiver []string) {
				return []string{"srt-live-transmit", "-q", fmt.Sprintf("udp://127.0.0.1:%d", in), fmt.Sprintf("srt://%v?latency=%d", ways[0], latency)},
					[]string{"srt-live-transmit", "-q", fmt.Sprintf("srt://127.0.0.1:%d?mode=listener&latency=%d", far, latency), fmt.Sprintf("udp://127.0.0.1:%d", out)}
			})
		}}
	}
	return []peerCase{
		{"raw UDP, a copy on each path", "", 2, startRaw},
		{"braid, 2 paths", "", 2, startPeerBraid},
		{"braid, first path alone", "", 1, startPeerBraid},
		rist(100), rist(30), srt(120),
	}
}

// runRedundantTransports runs every transport in turn, Repeat times, clean, with loss, and with the first path cut in the middle.
func runRedundantTransports(ctx context.Context, r *Recorder) error {
	conditions := []struct {
		name string
		loss float64
		cut  bool
	}{{"clean", 0, false}, {fmt.Sprintf("%g %% loss on each", 100*peerLoss), peerLoss, false}, {"first path cut", 0, true}}
	for _, c := range peerCases() {
		if c.needs != "" {
			if _, err := exec.LookPath(c.needs); err != nil {
				r.Note("%s was left out: %s is not installed.", c.name, c.needs)
				continue
			}
		}
		for _, how := range conditions {
			if how.cut && c.paths == 1 {
				continue
			}
			for range min(r.Repeat, 3) {
				got, err := peerMeasure(ctx, c, how.loss, how.cut)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", c.name, how.name, err)
				}
				got.record(r, c.name, how.name)
			}
		}
	}
	r.Note("%d packets of %d B a second, evenly, for %v after %v, over paths of %v and %v one-way, in real time on this machine's clock: sim/link carries each path. "+
		"librist and SRT hold every packet for their buffer, so they deliver evenly and retransmit inside it; a braid hands on the first copy and repairs once. "+
		"Processor time is that of the tools' two processes, which also take the stream in and hand it out by UDP; that of braids is in braid-cpu. "+
		"Debian's srt-tools has no bonding, so SRT has one path.", peerRate, peerSize, peerTime, peerWarm, peerDelays[0], peerDelays[1])
	return nil
}

func (p peerResult) record(r *Recorder, transport, condition string) {
	row := func(what, unit string, v float64) {
		name := fmt.Sprintf("%s, %s: %s", transport, condition, what)
		base := fmt.Sprintf("raw UDP, a copy on each path, %s: %s", condition, what)
		if name == base || what != "p50" && what != "p99" {
			base = ""
		}
		r.Row(Row{Name: name, Unit: unit, Baseline: base}, v)
	}
	row("lost", "%", 100*float64(p.sent-p.got)/float64(p.sent))
	row("p50", "ms", p.latency.at(0.5))
	row("p99", "ms", p.latency.at(0.99))
	if p.us > 0 {
		row("processor time", "µs/packet", p.us)
	}
}

// peerMeasure is one run of one transport.
func peerMeasure(ctx context.Context, c peerCase, loss float64, cut bool) (p peerResult, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, all := uint64(peerWarm.Seconds()*peerRate), uint64((peerWarm+peerTime).Seconds()*peerRate)
	run, err := c.start(ctx, c.paths)
	if err != nil {
		return p, err
	}
	got := run.got
	got.expect(first, all)
	defer func() { err = errors.Join(err, run.stop()) }()
	for i, l := range run.links {
		way := sim.Link{Delay: peerDelays[i%c.paths], Loss: loss}
		l.Set(way, way)
	}
	before, err := cpuOf(run.pids)
	if err != nil {
		return p, err
	}
	packet, began := make([]byte, peerSize), time.Now()
	for n := uint64(0); n < all; {
		if ctx.Err() != nil {
			return p, ctx.Err()
		}
		if cut && n == (first+all)/2 {
			for i := 0; i < len(run.links); i += c.paths {
				run.links[i].Set(sim.Link{Down: true}, sim.Link{Down: true})
			}
		}
		if due := began.Add(time.Duration(n) * time.Second / peerRate); time.Now().Before(due) {
			time.Sleep(time.Until(due))
		}
		stamp(packet, n)
		run.send(packet)
		n++
	}
	time.Sleep(peerTail)
	after, err := cpuOf(run.pids)
	if err != nil {
		return p, err
	}
	book := got.close()
	p.sent, p.got, p.latency = int(all-first), book.got, book.latency
	if count := got.total(); len(run.pids) > 0 && count > 0 {
		p.us = float64((after - before).Microseconds()) / float64(count)
	}
	return p, nil
}

func cpuOf(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		cpu, one := load.CPU(pid)
		sum, err = sum+cpu, errors.Join(err, one)
	}
	return sum, err
}

// peerWays opens the emulated paths towards a port, lossless while transports shake hands, and returns where each begins.
func peerWays(ctx context.Context, group *errgroup.Group, n int, to netip.AddrPort) (links []*link.Link, ways []netip.AddrPort, err error) {
	for i := range n {
		l, err := link.New(link.Config{
			Out: sim.Link{Delay: peerDelays[i]}, Back: sim.Link{Delay: peerDelays[i]}, Seed: uint64(time.Now().UnixNano()),
			Listen: netip.MustParseAddrPort("127.0.0.1:0"), To: to,
		})
		if err != nil {
			return nil, nil, err
		}
		ready, failed := make(chan netip.AddrPort, 1), make(chan error, 1)
		group.Go(func() error {
			err := l.Run(ctx, func(at netip.AddrPort, _ string) { ready <- at })
			failed <- err
			return err
		})
		select {
		case at := <-ready:
			links, ways = append(links, l), append(ways, at)
		case err := <-failed:
			return nil, nil, errors.Join(errors.New("an emulated path did not open"), err)
		}
	}
	return links, ways, nil
}

// loopback opens a UDP port of this machine.
func loopback() (*net.UDPConn, netip.AddrPort, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	_ = c.SetReadBuffer(udp.BufferBytes) // as much as the kernel grants: the measurement must lose nothing itself
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort(), nil
}

// collect reads packets until the port is closed.
func collect(c *net.UDPConn, got *arrivals) {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			got.add(buf[:n])
		}
	}
}

// startRaw is what no transport can better in latency: bare packets, of which the first copy counts.
func startRaw(ctx context.Context, paths int) (*peerRun, error) {
	out, at, err := loopback()
	if err != nil {
		return nil, err
	}
	in, _, err := loopback()
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	group, got := &errgroup.Group{}, &arrivals{}
	group.Go(func() error { collect(out, got); return nil })
	stop := func() error {
		cancel()
		return errors.Join(in.Close(), out.Close(), group.Wait())
	}
	links, ways, err := peerWays(ctx, group, paths, at)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return &peerRun{links: links, got: got, stop: stop, send: func(p []byte) {
		for _, w := range ways {
			_, _ = in.WriteToUDPAddrPort(p, w) // what is not sent is lost
		}
	}}, nil
}

// startTools starts a sender and a receiver that take and hand out the stream by UDP. Ports are found by opening and closing them:
// the tools cannot say which they took.
func startTools(ctx context.Context, paths int, commands func(in, far, out uint16, ways []netip.AddrPort) (sender, receiver []string)) (*peerRun, error) {
	out, outAt, err := loopback()
	if err != nil {
		return nil, err
	}
	var free [2]netip.AddrPort
	for i := range free {
		c, at, err := loopback()
		if err != nil {
			return nil, errors.Join(err, out.Close())
		}
		free[i] = at
		_ = c.Close()
	}
	ctx, cancel := context.WithCancel(ctx)
	group := &errgroup.Group{}
	run := &peerRun{got: &arrivals{}}
	group.Go(func() error { collect(out, run.got); return nil })
	var tools []*exec.Cmd
	var socket net.Conn
	run.stop = sync.OnceValue(func() error {
		cancel()
		for _, t := range tools {
			_ = t.Wait() // killed
		}
		if socket != nil {
			_ = socket.Close()
		}
		return errors.Join(out.Close(), group.Wait())
	})
	links, ways, err := peerWays(ctx, group, paths, free[1])
	if err != nil {
		return nil, errors.Join(err, run.stop())
	}
	sender, receiver := commands(free[0].Port(), free[1].Port(), outAt.Port(), ways)
	for _, line := range [][]string{receiver, sender} {
		tool := exec.CommandContext(ctx, line[0], line[1:]...)
		if err := tool.Start(); err != nil {
			return nil, errors.Join(err, run.stop())
		}
		tools, run.pids = append(tools, tool), append(run.pids, tool.Process.Pid)
		time.Sleep(peerOpen / 2)
	}
	if socket, err = net.Dial("udp4", free[0].String()); err != nil {
		return nil, errors.Join(err, run.stop())
	}
	run.links, run.send = links, func(p []byte) { _, _ = socket.Write(p) }
	return run, nil
}

// startPeerBraid is two braids in this process with real sockets; each direction of each path is a way of its own.
func startPeerBraid(ctx context.Context, paths int) (*peerRun, error) {
	ctx, cancel := context.WithCancel(ctx)
	group := &errgroup.Group{}
	var conns []*udp.Conn
	var pair *braidPair
	run := &peerRun{}
	run.stop = sync.OnceValue(func() (err error) {
		if pair != nil {
			err = pair.close()
		}
		cancel()
		for _, c := range conns {
			_ = c.Close()
		}
		return errors.Join(err, group.Wait())
	})
	var addrs [2]netip.AddrPort
	var wires [2]braid.Wire
	for side := range 2 {
		c, err := udp.Listen(ctx, netip.MustParseAddrPort("127.0.0.1:0"))
		if err != nil {
			return nil, errors.Join(err, run.stop())
		}
		conns, addrs[side] = append(conns, c), c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	for side := range 2 {
		links, ways, err := peerWays(ctx, group, paths, addrs[1-side])
		if err != nil {
			return nil, errors.Join(err, run.stop())
		}
		if side == 0 {
			run.links = links
		} else {
			run.links = append(run.links, links...)
		}
		wires[side] = wireFunc(func(frames []byte, segment int, _ netip.AddrPort) error {
			return conns[side].TryWriteRun(frames, segment, ways[pathOf(frames)%paths])
		})
	}
	var err error
	if pair, err = newBraidPair(paths, braid.Frames, wires, addrs); err != nil {
		return nil, errors.Join(err, run.stop())
	}
	for side, c := range conns {
		group.Go(func() error {
			for c.ReadRuns(pair.nodes[side].HandleRun) == nil {
			}
			return nil
		})
	}
	s, err := pair.session()
	if err != nil {
		return nil, errors.Join(err, run.stop())
	}
	run.got = &pair.got[1]
	run.send = func(p []byte) { s.Send(1, braid.Video, p) }
	return run, nil
}
