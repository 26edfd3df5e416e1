package access

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
)

// count is an environment variable's number.
func count(name string, fallback int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return fallback
}

// watched starts a publisher and viewers; it returns how many video packets they got.
func (w *world) watched(viewers int) *atomic.Uint64 {
	got := new(atomic.Uint64)
	w.publish("/whip/open/room", "", client.Synthetic{Size: 1150, PerSec: 150, Burst: 5, AudioHz: 50})
	for range viewers {
		w.view("/whep/open/room", "", client.Config{OnPacket: func(kind string, _ *rtp.Packet, _ time.Time) {
			if kind == "video" {
				got.Add(1)
			}
		}})
	}
	return got
}

// noise is what strangers send: STUN for no session, DTLS hellos, RTP, in turn.
func noise(i int) []byte {
	b := make([]byte, 100)
	for j := range b {
		b[j] = byte(rand.Uint32())
	}
	switch i % 3 {
	case 0: // a Binding request with a USERNAME
		copy(b, []byte{0, 1, 0, 80, 0x21, 0x12, 0xa4, 0x42})
		copy(b[20:], []byte{0, 6, 0, 16})
		copy(b[24:], "abcd1234efgh:wxyz")
	case 1: // a handshake record of DTLS 1.2
		copy(b, []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 87, 1})
	default:
		b[0], b[1] = 0x80, 96
		binary.BigEndian.PutUint16(b[2:], uint16(i))
	}
	return b
}

// BenchmarkHostileFlood sends noise to the clients' port, TERN_NOISE packets a second
// (50,000) for 3 s, behind the filter's Go twin, while TERN_VIEWERS (10) watch. It
// reports what the viewers lost, and by how much the heap grew.
func BenchmarkHostileFlood(b *testing.B) {
	perSecond := count("TERN_NOISE", 50_000)
	for range b.N {
		w := newWorld(b, nil)
		viewers := count("TERN_VIEWERS", 10)
		got := w.watched(viewers)
		conn, err := net.Dial("udp4", w.a.cfg.UDPAdvertise[0].String())
		if err != nil {
			b.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		first, in := got.Load(), w.a.Stats().PacketsIn
		sent, start := 0, time.Now()
		for time.Since(start) < 3*time.Second {
			for due := int(time.Since(start).Seconds() * float64(perSecond)); sent < due; sent++ {
				_, _ = conn.Write(noise(sent))
			}
			time.Sleep(time.Millisecond)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		time.Sleep(500 * time.Millisecond) // what is under way arrives
		all := float64(w.a.Stats().PacketsIn-in) * 150 / 200 * float64(viewers)
		b.ReportMetric(100*max(0, 1-float64(got.Load()-first)/all), "lost-%")
		b.ReportMetric(float64(sent)/3, "noise/s")
		b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/(1<<20), "heap-growth-MB")
		_ = conn.Close()
	}
}

// BenchmarkJoins lets TERN_JOINS viewers (100) join and leave again at 17 a second, as
// 1,000 in a minute do, while ten watch.
func BenchmarkJoins(b *testing.B) {
	joins := count("TERN_JOINS", 100)
	for range b.N {
		w := newWorld(b, nil)
		got := w.watched(10)
		first, in := got.Load(), w.a.Stats().PacketsIn
		took := make(chan time.Duration, joins)
		for range joins {
			go func() {
				start := time.Now()
				v, err := client.View(b.Context(), client.Config{URL: w.http.URL + "/whep/open/room"})
				if err != nil {
					took <- time.Hour
					return
				}
				took <- time.Since(start)
				_ = v.Close()
			}()
			time.Sleep(time.Second / 17)
		}
		var all []time.Duration
		for range joins {
			all = append(all, <-took)
		}
		slices.Sort(all)
		for _, q := range []int{50, 99} {
			b.ReportMetric(float64(all[len(all)*q/100].Milliseconds()), fmt.Sprintf("join-p%d-ms", q))
		}
		time.Sleep(500 * time.Millisecond) // what is under way arrives
		want := float64(w.a.Stats().PacketsIn-in) * 150 / 200 * 10
		b.ReportMetric(100*max(0, 1-float64(got.Load()-first)/want), "lost-%")
	}
}
