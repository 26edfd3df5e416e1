package access

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
)

// BenchmarkViewers measures WHIP to WHEP on one node, clients in the same process: one
// publisher of 1.5 Mbit/s video and 50 audio packets a second, N viewers (20 unless
// TERN_VIEWERS says otherwise), 3 s. It reports the latency of video packets.
func BenchmarkViewers(b *testing.B) {
	viewers := 20
	if n, err := strconv.Atoi(os.Getenv("TERN_VIEWERS")); err == nil {
		viewers = n
	}
	for range b.N {
		w := newWorld(b, nil)
		w.publish("/whip/open/room", "", client.Synthetic{Size: 1150, PerSec: 165, Burst: 5, AudioHz: 50})
		var mu sync.Mutex
		var took []time.Duration
		note := func(kind string, p *rtp.Packet, at time.Time) {
			if _, sent, ok := client.Stamp(p.Payload); ok && kind == "video" {
				mu.Lock()
				took = append(took, at.Sub(sent))
				mu.Unlock()
			}
		}
		for range viewers {
			w.view("/whep/open/room", "", client.Config{OnPacket: note})
		}
		mu.Lock()
		took = nil
		mu.Unlock()
		time.Sleep(3 * time.Second) // the measured time, not a wait for something
		mu.Lock()
		slices.Sort(took)
		for _, q := range []int{50, 99} {
			b.ReportMetric(float64(took[len(took)*q/100].Microseconds()), fmt.Sprintf("p%d-us", q))
		}
		b.ReportMetric(float64(len(took))/3, "packets/s")
		b.ReportMetric(float64(w.a.Stats().DropsQueue), "drops")
		mu.Unlock()
	}
}
