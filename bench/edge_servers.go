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
	"github.com/ternmesh/tern/node/access/token"
	"github.com/ternmesh/tern/node/udp"
)

// fanoutAddr is where the baseline's HTTP and UDP listen.
const fanoutAddr = "127.0.0.1:17930"

func init() {
	register(Benchmark{
		Name:  "edge-servers",
		About: "One Tern node against the least fan-out that pion can be: processor time and latency for 50 WebRTC viewers on loopback.",
		Run:   runEdgeServers,
	})
}

// runEdgeServers puts the same load on both in turn, each a process of its own.
func runEdgeServers(ctx context.Context, r *Recorder) (err error) {
	m, err := startEdgeMesh(ctx, "a")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	base := exec.Command(binary, "bench", "fanout", "--listen", fanoutAddr)
	base.Stderr = os.Stderr
	if err := base.Start(); err != nil {
		return err
	}
	defer func() {
		_ = base.Process.Signal(os.Interrupt) // one that has ended already is fine
		_ = base.Wait()
	}()
	for i := range r.Repeat {
		theirs, err := load.Run(ctx, edgeLoad("http://"+fanoutAddr+"/whip/", "http://"+fanoutAddr+"/whep/", fmt.Sprintf("s%d", i), base.Process.Pid))
		if err != nil {
			return fmt.Errorf("the baseline: %w", err)
		}
		ours, err := m.run(ctx, 0, 0, fmt.Sprintf("s%d", i))
		if err != nil {
			return err
		}
		for _, row := range []struct {
			what, unit   string
			theirs, ours float64
		}{
			{"processor time", "µs/packet", theirs.Server.MicrosPerPacket, ours.Server.MicrosPerPacket},
			{"p50", "ms", theirs.Latency.P50, ours.Latency.P50},
			{"p99", "ms", theirs.Latency.P99, ours.Latency.P99},
			{"memory", "MB", theirs.Server.MemoryMB, ours.Server.MemoryMB},
			{"lost", "%", 100 * theirs.LostRatio, 100 * ours.LostRatio},
		} {
			baseline := "pion fan-out, " + row.what
			r.Row(Row{Name: baseline, Unit: row.unit}, row.theirs)
			r.Row(Row{Name: "Tern, " + row.what, Unit: row.unit, Baseline: baseline}, row.ours)
		}
	}
	r.Note("The load of edge-latency: %d video packets/s of %d B in bursts of 5 and %d audio packets/s to each of %d viewers. The fan-out checks no token, filters nothing and repairs as pion does.",
		edgePerSec, edgeSize, edgeAudio, edgeViewers)
	return nil
}

// edgeLoad is the load of both edge benchmarks, without tokens.
func edgeLoad(whip, whep, stream string, pid int) load.Config {
	return load.Config{
		Publishers: 1, Viewers: edgeViewers, WHIP: whip + stream, WHEP: whep + stream,
		Size: edgeSize, Rate: edgePerSec, Burst: 5, Audio: edgeAudio, Warmup: edgeWarmup, For: edgeFor, PID: pid,
	}
}

// run publishes at one node and watches at another (or the same) with edgeViewers viewers.
func (m *edgeMesh) run(ctx context.Context, in, out int, channel string) (*load.Result, error) {
	c := edgeLoad("http://"+m.nodes[in].access+"/whip/"+edgeApp+"/", "http://"+m.nodes[out].access+"/whep/"+edgeApp+"/", channel, m.nodes[out].process.Process.Pid)
	var err1, err2 error
	c.PublishToken, err1 = edgeToken(token.CanPublishVideo, token.CanPublishAudio)
	c.ViewToken, err2 = edgeToken(token.CanSubscribe)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return load.Run(ctx, c)
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
