package node

import (
	"math"
	"testing"
	"time"
)

// A node that forwards as much as it may, or computes all the time, is full within some seconds, whether it has clients or
// not, and idle again some seconds after.
func TestLoadIsMoreThanClients(t *testing.T) {
	for _, c := range []struct {
		story       string
		processor   time.Duration // a second
		relayed     uint64        // bytes a second
		least, most float64       // load after 20 s of it
	}{
		{story: "idle", most: 0},
		{story: "half of the processors", processor: time.Second, least: 0.5, most: 0.65},
		{story: "all processors", processor: 2 * time.Second, least: 1, most: 1.2},
		{story: "a third of the relay's rate", relayed: 12.5e6 * 8 / 25, least: 0.3, most: 0.33},
		{story: "more than the relay's rate", relayed: 15e6, least: 1, most: 1.25},
	} {
		m := loadMeter{cores: 2, relay: 12.5e6}
		now, s := time.Unix(1000, 0), loadSample{processor: time.Hour, relayed: 1e12}
		run := func(seconds int, processor time.Duration, relayed uint64) float64 {
			for range seconds {
				now = now.Add(time.Second)
				s.processor += processor
				s.relayed += relayed
				m.take(now, s)
			}
			return m.status.Load()
		}
		m.take(now, s)
		if got := run(20, c.processor, c.relayed); got < c.least || got > c.most {
			t.Errorf("%s: load %.2f, want %.2f to %.2f", c.story, got, c.least, c.most)
		}
		if got := run(20, 0, 0); got > 0.05 {
			t.Errorf("%s: load %.2f 20 s after it ended", c.story, got)
		}
	}
}

func TestLoadWithoutMeansToMeasure(t *testing.T) {
	var m loadMeter // neither processors nor a rate are known
	for i := range 10 {
		m.take(time.Unix(int64(i), 0), loadSample{time.Duration(i) * time.Hour, uint64(i) << 40})
	}
	if got := m.status.Load(); got != 0 || math.IsNaN(got) {
		t.Errorf("load %v out of nothing", got)
	}
}
