package bench

import (
	"context"
	"fmt"

	"github.com/ternmesh/tern/sim/run"
)

func init() {
	register(Benchmark{
		Name:  "scenarios",
		About: "Whole nodes in virtual time: copies, bytes on the wire, latency and losses of a brownout, a cable cut and joint loss.",
		Gated: true,
		Run:   runScenarios,
	})
}

// gateScenarios are short, and their figures depend neither on the machine nor much on the order of goroutines.
var gateScenarios = []string{"brownout", "cable-cut", "joint-loss"}

func runScenarios(ctx context.Context, r *Recorder) error {
	for _, name := range gateScenarios {
		s, err := run.Load(name, 0)
		if err != nil {
			return err
		}
		report, err := run.Run(ctx, s, run.Options{Bubble: r.Bubble})
		if err != nil {
			return err
		}
		if !report.Safe {
			return fmt.Errorf("a checker failed:\n%s", report.Summary())
		}
		payload, wire := 0.0, 0.0
		for i, st := range report.Streams {
			payload += float64(st.Delivered) * float64(s.Streams[min(i, len(s.Streams)-1)].Size)
			who := fmt.Sprintf("%s, %s > %s", name, st.Name, st.To)
			r.Row(Row{Name: who + ": copies", Unit: "copies/packet", Gate: true, Slack: 0.1}, st.CopiesPerPacket)
			r.Row(Row{Name: who + ": p50", Unit: "ms", Gate: true, Slack: 2}, st.Latency.P50)
			r.Row(Row{Name: who + ": undelivered or late", Unit: "%", Gate: true, Slack: 0.5}, 100*(st.UndeliveredRatio+st.LateRatio))
		}
		for _, n := range report.Nodes {
			wire += float64(n.BytesSent)
		}
		r.Row(Row{Name: name + ": bytes on links by bytes delivered", Unit: "B/B", Gate: true}, wire/payload)
	}
	r.Note("Bytes on links hold every copy on every hop, probes, gossip and raft, and the formation of the mesh.")
	return nil
}
