package access

import (
	"testing"
	"time"

	"github.com/ternmesh/tern/bench/client"
)

func TestAPublisherIsHeldToItsAppsBitrate(t *testing.T) {
	for _, c := range []struct {
		name        string
		limit, sent float64 // bit/s
		least, most float64 // share that passes in a minute
		ended       bool
	}{
		{"no limit", 0, 50e6, 1, 1, false},
		{"at the limit", 1e6, 1e6, 1, 1, false},
		{"a fifth above it", 1e6, 1.2e6, 1, 1, false},
		{"twice as much, and never less", 1e6, 2e6, 0.6, 0.66, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a allowance
			a.limit.Store(int64(c.limit))
			const size = 1250
			every := time.Duration(8 * size / c.sent * float64(time.Second))
			now, passed, all, ended := time.Unix(1_800_000_000, 0), 0.0, 0.0, false
			for end := now.Add(time.Minute); now.Before(end); now = now.Add(every) {
				ok, enough := a.take(now, size)
				if all++; ok {
					passed++
				}
				ended = ended || enough
			}
			if got := passed / all; got < c.least || got > c.most || ended != c.ended {
				t.Errorf("%.2f passed, ended %v", got, ended)
			}
		})
	}
	var a allowance
	a.limit.Store(1e6)
	now := time.Unix(1_800_000_000, 0)
	for i := range 100 {
		if ok, _ := a.take(now, 1250); !ok {
			t.Fatalf("a burst of a second is cut at packet %d", i)
		}
	}
}

func TestAPublisherAboveItsLimitIsAskedAndCut(t *testing.T) {
	w := newWorld(t, nil)
	w.mu.Lock()
	app := w.apps["open"]
	app.Limits.PublisherBits = 100_000
	w.apps["open"] = app
	w.mu.Unlock()
	p := w.publish("/whip/open/room", "", client.Synthetic{Size: 1000, PerSec: 500}) // 4 Mbit/s, whatever it is asked
	w.until("it is asked for 100 kbit/s", func() bool { return p.Stats().MaxBitrate == 100_000 })
	w.until("what is far above is dropped, and counted", func() bool { return w.a.Stats().DropsBitrate > 10 })
}
