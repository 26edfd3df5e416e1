package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/ternmesh/tern/bench/fanout"
	"github.com/ternmesh/tern/bench/load"
	"github.com/ternmesh/tern/node/udp"
)

// fanoutAddr is where the baseline's HTTP and UDP listen.
const fanoutAddr = "127.0.0.1:17930"

func init() {
	for _, viewers := range []int{50, 100, 200} {
		shape := edgeShape{viewers: viewers, rate: edgePerSec, burst: edgeBurst, window: 20 * time.Second}
		if viewers == 100 {
			shape.cost, shape.p99, shape.memory = 0.45, 3, 120
		}
		register(Benchmark{
			Name:  fmt.Sprintf("edge-servers-%d", viewers),
			About: fmt.Sprintf("One Tern node, the least fan-out that pion can be and bare UDP, with %d viewers: processor time, added latency, memory.", viewers),
			Run:   shape.run,
		})
	}
	saturated := edgeShape{viewers: 100, rate: 4000, burst: 134, window: 8 * time.Second, cost: 0.44}
	register(Benchmark{
		Name:  "edge-saturated",
		About: "The same three with 100 viewers and more packets than one processor can send: processor time per packet and packets a second.",
		Run:   saturated.run,
	})
}

// edgeShape is a load, and what Tern should do under it.
type edgeShape struct {
	viewers int
	rate    float64
	burst   int
	window  time.Duration

	cost        float64 // processor time by that of the pion fan-out: the target by what it took on a quiet machine; 0: none
	p99, memory float64 // ms and MB, of a node on all processors; 0: none
}

// run puts the load on all in turn, each a process of its own.
func (e edgeShape) run(ctx context.Context, r *Recorder) error {
	alone, anywhere, restore, err := apart()
	if err != nil {
		return err
	}
	defer restore()
	servers := []edgeServer{{"bare UDP", runFloor, alone}, {"pion fan-out", runFanout, alone}, {"Tern", runNode, alone}}
	if e.p99 > 0 {
		servers = append(servers, edgeServer{everywhere, runNode, anywhere})
	}
	c := load.Config{
		Publishers: 1, Viewers: e.viewers, Size: edgeSize, Rate: e.rate, Burst: e.burst, Audio: edgeAudio, Warmup: edgeWarmup, For: e.window, Headers: true,
	}
	for range r.Repeat {
		for _, s := range servers {
			got, err := s.run(ctx, s.start, c)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			e.record(r, s.name, got)
		}
	}
	r.Note("%.0f video packets/s of %d B in bursts of %d and %d audio packets/s to each of %d viewers, for %v. A server has one processor, publisher and viewers the others, unless it says all. "+
		"Viewers read headers and report once a second (tern load --headers); the latency is what the server adds, from the publisher's system call to the kernel's stamp at the viewer's socket. "+
		"Bare UDP has no sessions and no keys, the fan-out checks no token, filters nothing and repairs as pion does. On a machine that does other work, run this under chrt -r 10.",
		e.rate, edgeSize, e.burst, edgeAudio, e.viewers, e.window)
	return nil
}

// edgeServer is what is measured, and how it is started.
type edgeServer struct {
	name  string
	run   func(context.Context, func(*exec.Cmd) error, load.Config) (*load.Result, error)
	start func(*exec.Cmd) error
}

// everywhere is a node as it runs by default: the added latency is promised of that.
const everywhere = "Tern on all processors"

// record adds a server's rows. Tern's are divided by the fan-out's, both with one processor, and held against the targets.
func (e edgeShape) record(r *Recorder, server string, got *load.Result) {
	for _, row := range []struct {
		what, unit string
		value      float64
		aim        float64
		ratio      bool
	}{
		{"processor time", "µs/packet", got.Server.MicrosPerPacket, e.cost, true},
		{"packets to viewers", "1/s", got.PacketsOut, 0, true},
		{"p50", "ms", got.Latency.P50, 0, true},
		{"p99", "ms", got.Latency.P99, e.p99, false},
		{"memory", "MB", got.Server.MemoryMB, e.memory, false},
		{"lost", "%", 100 * got.LostRatio, 0, false},
		{"clients' processor time", "s", got.GeneratorCPU, 0, false},
	} {
		out := Row{Name: server + ", " + row.what, Unit: row.unit}
		switch {
		case server == "Tern" && row.ratio:
			out.Baseline, out.Aim = "pion fan-out, "+row.what, row.aim
		case server == everywhere && !row.ratio:
			out.Aim = row.aim
		}
		r.Row(out, row.value)
	}
}

// runFloor measures bare UDP.
func runFloor(ctx context.Context, start func(*exec.Cmd) error, c load.Config) (*load.Result, error) {
	c.WHIP, c.WHEP = "udp://"+fanoutAddr, "udp://"+fanoutAddr
	return runBaseline(ctx, start, c, "--raw")
}

// runFanout measures pion.
func runFanout(ctx context.Context, start func(*exec.Cmd) error, c load.Config) (*load.Result, error) {
	c.WHIP, c.WHEP = "http://"+fanoutAddr+"/whip/s", "http://"+fanoutAddr+"/whep/s"
	return runBaseline(ctx, start, c)
}

// runBaseline measures tern bench fanout.
func runBaseline(ctx context.Context, start func(*exec.Cmd) error, c load.Config, flags ...string) (*load.Result, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	base := exec.Command(binary, append([]string{"bench", "fanout", "--listen", fanoutAddr}, flags...)...)
	base.Stderr = os.Stderr
	if err := start(base); err != nil {
		return nil, err
	}
	defer func() {
		_ = base.Process.Signal(os.Interrupt) // one that has ended already is fine
		_ = base.Wait()
	}()
	c.PID = base.Process.Pid
	return load.Run(ctx, c)
}

// runNode measures a node.
func runNode(ctx context.Context, start func(*exec.Cmd) error, c load.Config) (got *load.Result, err error) {
	m, err := startEdgeMesh(ctx, start, "a")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	return m.run(ctx, c, 0, 0, "s")
}

// ServeFanout is a baseline as a process, until ctx ends: WHIP and WHEP on addr over HTTP, media on the same UDP port; or, raw, RTP
// as it comes to whoever said hello.
func ServeFanout(ctx context.Context, addr string, raw bool) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	conn, err := udp.Listen(ctx, at)
	if err != nil {
		return err
	}
	if raw {
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		return fanout.ServeRaw(conn)
	}
	s, err := fanout.New(conn.UDPConn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	defer s.Close()
	web := &http.Server{Addr: addr, Handler: s, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = web.Close() })
	defer stop()
	if err := web.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return conn.Close()
}
