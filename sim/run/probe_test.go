package run

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/node/probe"
	"github.com/ternmesh/tern/sim"
)

// TestAProbeOfALiveMeshMeasuresWhatIsThere probes nodes as an operator does, between one step at a node and the next.
func TestAProbeOfALiveMeshMeasuresWhatIsThere(t *testing.T) {
	s := parse(t, small+"streams:\n  - {name: cam, from: fra, to: [sin], app: demo, packets_per_second: 25, size: 200}\n")
	var report *Report
	err := bubble(t)(func() {
		g, err := prepare(t.TempDir(), s)
		if err != nil {
			t.Error(err)
			return
		}
		net := sim.New(1)
		m := newMesh(context.Background(), g, net, Options{Bubble: bubble(t), Logger: slog.New(slog.DiscardHandler), Progress: new(Progress)})
		defer m.close()
		m.note = func(string, ...any) {}
		m.clock = &clock{t0: time.Now()}
		if err := m.form(); err != nil {
			t.Error(err)
			return
		}
		asked, _ := m.byName["bom"].living() // any node will do
		report, err = Probe(context.Background(), ProbeOptions{
			From: "fra", To: "sin", App: "demo", PacketsPerSecond: 100, Size: 600, For: 4 * time.Second, Deadline: 200 * time.Millisecond, Version: "test",
			Fence: fmt.Sprintf("%08x", m.fenceOf("demo")),
		}, func(ctx context.Context, at string, r probe.Request) (node.ProbeAnswer, error) {
			return asked.Probe(ctx, at, r)
		})
		if err != nil {
			t.Error(err)
		}
	})
	if err != nil || report == nil {
		t.Fatal(err)
	}
	p := report.Streams[0]
	if p.Sent != 400 || p.Delivered < 398 || p.Latency.P50 < 29 || p.Latency.P50 > 40 || len(p.Paths) < 3 || p.CopiesPerPacket < 2 {
		t.Errorf("%+v: want 400 packets over a link of 30 ms, on three paths", p)
	}
	checkJSON(t, report)
	if err := report.WriteHTML(io.Discard); err != nil {
		t.Error(err)
	}
}
