package pace

import (
	"math"
	"testing"
	"time"
)

const testRTT = 80 * time.Millisecond

// Every state with every event: what the diagram in rate.go says.
func TestRateStates(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return now.Add(d) }
	capped := func(cap, limit float64) Rate {
		return Rate{cap: cap, limit: limit, beyond: beyondFirst, cutAt: now, grewAt: now}
	}
	queued := func(r Rate, height time.Duration) Rate { r.trouble, r.height = true, height; return r }
	for _, c := range []struct {
		name string
		was  Rate
		do   func(r *Rate)
		want float64 // cap; 0 = open
	}{
		{"open, clear", Rate{}, func(r *Rate) { r.Clear(at(time.Hour), 1e6, 1e6, testRTT) }, 0},
		{"open, short queue: most of what arrived", Rate{}, func(r *Rate) { r.Queue(now, 1e6, 0, 0, testRTT) }, 0.85e6},
		{"open, long queue: a tenth of it", Rate{}, func(r *Rate) { r.Queue(now, 1e6, 0, time.Second, testRTT) }, 0.1e6},
		{"open, nothing arrived: the least", Rate{}, func(r *Rate) { r.Queue(now, 0, 0, time.Second, testRTT) }, floorRate},
		{"capped, queue too soon", capped(1e6, 2e6), func(r *Rate) { r.Queue(at(testRTT), 1e6, 0, 0, testRTT) }, 1e6},
		{"capped, queue again", capped(1e6, 2e6), func(r *Rate) { r.Queue(at(time.Second), 1e6, 0, 0, testRTT) }, 0.85e6},
		{"in trouble, queue still high", queued(capped(1e6, 2e6), 100*time.Millisecond),
			func(r *Rate) { r.Queue(at(time.Second), 1e6, 0, 90*time.Millisecond, testRTT) }, 0.55e6},
		{"in trouble, queue drains", queued(capped(1e6, 2e6), 100*time.Millisecond),
			func(r *Rate) { r.Queue(at(time.Second), 1e6, 0, 50*time.Millisecond, testRTT) }, 1e6},
		{"capped, queue again, hardly anything arrives: half of the cap counts", capped(1e6, 2e6),
			func(r *Rate) { r.Queue(at(time.Second), 0.1e6, 0, 0, testRTT) }, 0.425e6},
		{"in trouble, the queue has grown since: the share for its height", queued(capped(0.85e6, 1e6), 20*time.Millisecond),
			func(r *Rate) { r.base = 1e6; r.Higher(at(cutPause), 105*time.Millisecond, testRTT) }, 0.5e6},
		{"in trouble, the queue is lower", queued(capped(0.5e6, 1e6), 105*time.Millisecond),
			func(r *Rate) { r.base = 1e6; r.Higher(at(cutPause), 20*time.Millisecond, testRTT) }, 0.5e6},
		{"a new queue, however long: what must be left", Rate{}, func(r *Rate) { r.Queue(now, 1e6, 0.9e6, time.Second, testRTT) }, 0.9e6},
		{"in trouble, a short queue: what must be left", queued(capped(1e6, 2e6), 20*time.Millisecond),
			func(r *Rate) { r.Queue(at(time.Second), 1e6, 0.95e6, 100*time.Millisecond, testRTT) }, 0.95e6},
		{"in trouble, a long queue: the share for it", queued(capped(1e6, 2e6), 20*time.Millisecond),
			func(r *Rate) { r.Queue(at(time.Second), 1e6, 0.95e6, time.Second, testRTT) }, 0.1e6},
		{"what must be left is more than there was", capped(1e6, 2e6), func(r *Rate) { r.Queue(at(time.Second), 1e6, 5e6, 0, testRTT) }, 1e6},
		{"out of trouble: back near the limit", queued(capped(0.5e6, 2e6), 100*time.Millisecond),
			func(r *Rate) { r.Clear(at(time.Second), 0.1e6, 5e6, testRTT) }, 1.4e6},
		{"capped, clear too soon", capped(1e6, 2e6), func(r *Rate) { r.Clear(at(testRTT/2), 1e6, 5e6, testRTT) }, 1e6},
		{"capped far below the limit, clear: fast", capped(1e6, 2e6), func(r *Rate) { r.Clear(at(time.Second), 1e6, 5e6, testRTT) }, 1.1e6},
		{"capped near the limit, clear: slowly", capped(1.8e6, 2e6), func(r *Rate) { r.Clear(at(time.Second), 1.8e6, 5e6, testRTT) }, 1.818e6},
		{"at the limit, clear for less than the pause", capped(2e6, 2e6), func(r *Rate) { r.Clear(at(beyondFirst/2), 2e6, 5e6, testRTT) }, 2e6},
		{"at the limit, clear for the pause", capped(2e6, 2e6), func(r *Rate) { r.Clear(at(beyondFirst), 2e6, 5e6, testRTT) }, 2.02e6},
		{"at the limit, clear for the pause, not full", capped(2e6, 2e6), func(r *Rate) { r.Clear(at(beyondFirst), 1.7e6, 5e6, testRTT) }, 2e6},
		{"far beyond the limit, clear: faster", capped(2.6e6, 2e6), func(r *Rate) { r.Clear(at(time.Second), 2.6e6, 5e6, testRTT) }, 2.73e6},
		{"capped, not in use", capped(1e6, 2e6), func(r *Rate) { r.Clear(at(time.Second), 0.1e6, 5e6, testRTT) }, 1e6},
		{"capped, not in use for long: it ages", capped(1e6, 2e6), func(r *Rate) { r.Clear(at(openAfter), 0.1e6, 5e6, testRTT) }, 1.01e6},
		{"capped, more room than wanted, not for long", capped(2e6, 2e6), func(r *Rate) { r.Clear(at(openAfter-1), 1e6, 1e6, testRTT) }, 2e6},
		{"capped, more room than wanted, for long: open", capped(2e6, 2e6), func(r *Rate) { r.Clear(at(openAfter), 1e6, 1e6, testRTT) }, 0},
		{"no more than twice what is wanted", capped(2e6, 9e6), func(r *Rate) { r.Clear(at(time.Second), 2e6, 1.02e6, testRTT) }, 2.04e6},
	} {
		r := c.was
		c.do(&r)
		if math.Abs(r.cap-c.want) > 1 {
			t.Errorf("%s: cap %.0f, want %.0f", c.name, r.cap, c.want)
		}
	}
}

// A lasting bottleneck is tried ever more rarely; another one is news.
func TestPauseBeyondTheLimitDoubles(t *testing.T) {
	var r Rate
	now := time.Unix(1000, 0)
	for i, want := range []time.Duration{1, 2, 4, 8, 8} {
		r.Queue(now, 1e6, 0, 20*time.Millisecond, testRTT)
		if r.beyond != want*time.Second {
			t.Errorf("cut %d: a pause of %v, want %v s", i+1, r.beyond, int(want))
		}
		for now = now.Add(time.Second); r.cap < r.limit; now = now.Add(growEvery) {
			r.Clear(now, r.cap, 5e6, testRTT)
		}
		if now.Sub(r.cutAt) > 10*time.Second {
			t.Fatalf("it took %v to come back to a known limit", now.Sub(r.cutAt))
		}
	}
	r.Queue(now.Add(time.Second), 0.3e6, 0, 20*time.Millisecond, testRTT)
	if r.beyond != beyondFirst {
		t.Errorf("a bottleneck of a third: a pause of %v, want %v", r.beyond, beyondFirst)
	}
}

func TestBucketSpendsItsRate(t *testing.T) {
	now := time.Unix(1000, 0)
	var b Bucket
	if b.Room(now) > 0 || b.Unlimited() {
		t.Error("the zero bucket gives something")
	}
	b.Set(now, math.Inf(1))
	b.Take(1e9)
	if !math.IsInf(b.Room(now), 1) || !b.Unlimited() {
		t.Error("an unlimited bucket is empty")
	}
	b.Set(now, 1e6)
	if b.Room(now) != 0 {
		t.Errorf("what was sent while unlimited is owed: %v", b.Room(now))
	}
	if got := b.Room(now.Add(10 * time.Millisecond)); got != 10_000 {
		t.Errorf("after 10 ms at 1 MB/s: %v bytes", got)
	}
	hour := now.Add(time.Hour)
	if b.Late(hour, time.Hour); b.Room(hour) != 180_000 {
		t.Errorf("an hour late: %v bytes, want 180 ms' worth", b.Room(hour))
	}
	if b.Late(hour, 50*time.Millisecond); b.Room(hour) != 70_000 {
		t.Errorf("50 ms late: %v bytes, want 70 ms' worth", b.Room(hour))
	}
	if b.Late(hour, 0); b.Room(hour) != 20_000 {
		t.Errorf("after an hour, on time: %v bytes, want 20 ms' worth", b.Room(hour))
	}
	b.Take(100_000)
	if got := b.Room(hour); got != -80_000 {
		t.Errorf("in debt: %v bytes", got)
	}
	if got := b.Room(now.Add(time.Hour + 80*time.Millisecond)); math.Abs(got) > 1 {
		t.Errorf("debt paid: %v bytes", got)
	}
}

// Frames come in lumps, and after a pause nothing is known.
func TestDeliveredRateIsSmoothOverLumps(t *testing.T) {
	var f flowed
	var low, high float64
	for i := range 40 {
		lump := Sample{Interval: 25 * time.Millisecond}
		if i%2 == 0 {
			lump.Bytes, lump.Sent = 50_000, 50_000
		}
		if got, sent := f.take(lump, flowSpan); i > 10 {
			low, high = min(got, sent), max(got, sent)
			if low < 0.8e6 || high > 1.25e6 {
				t.Errorf("lumps of 1 MB/s on average count as %v to %v bytes/s", low, high)
			}
		}
	}
	f.take(Sample{Interval: time.Minute, Bytes: 10}, flowSpan)
	if got, _ := f.take(Sample{Interval: 50 * time.Millisecond, Bytes: 50_000}, flowSpan); got != 1e6 {
		t.Errorf("1 MB/s after a pause counts as %v bytes/s", got)
	}
}

func TestPeakForgets(t *testing.T) {
	var p peak
	at := time.Unix(1000, 0)
	for i, c := range []struct{ v, want float64 }{{1, 1}, {5, 5}, {2, 5}, {2, 2}, {3, 3}} {
		if p.take(at.Add(time.Duration(i)*peakHalf), c.v); p.most() != c.want {
			t.Errorf("step %d: %v, want %v", i, p.most(), c.want)
		}
	}
}

// A limit that was taken from a moment in which little came through goes up at once to what comes through.
func TestWhatComesThroughFits(t *testing.T) {
	for _, c := range []struct {
		name           string
		rate           Rate
		arrives, least float64
		cap, limit     float64
	}{
		{"open", Rate{}, 5e6, 2e6, 0, 0},
		{"less than the limit", Rate{cap: 1e6, limit: 2e6, trouble: true}, 1.5e6, 0, 1e6, 2e6},
		{"more than the limit", Rate{cap: 1e6, limit: 2e6, trouble: true}, 3e6, 0, 1e6, 3e6},
		{"all that is needed", Rate{cap: 1e6, limit: 2e6, trouble: true}, 3e6, 2.5e6, 2.5e6, 3e6},
		{"the queue is long gone", Rate{cap: 1e6, limit: 2e6}, 3e6, 2.5e6, 1e6, 3e6},
		{"beyond the limit already", Rate{cap: 2.1e6, limit: 2e6}, 3e6, 2.5e6, 2.1e6, 2e6},
	} {
		r := c.rate
		if r.Passed(c.arrives, c.least); r.cap != c.cap || r.limit != c.limit {
			t.Errorf("%s: a cap of %.0f, the limit %.0f, want %.0f and %.0f", c.name, r.cap, r.limit, c.cap, c.limit)
		}
	}
}

// Two reports that were held up come in the same moment: no rate can be had from the time between them.
func TestReportsThatComeAtOnceAreNoRate(t *testing.T) {
	var f flowed
	f.take(Sample{Interval: time.Second, Bytes: 1e6}, flowSpan)
	if rate, _ := f.take(Sample{Interval: time.Millisecond, Bytes: 100e3}, flowSpan); rate > 2e6 {
		t.Errorf("100 kB a millisecond after a pause are %.0f bytes/s", rate)
	}
}

// Sent is counted a round trip before what arrived: only what is beyond that is a flood.
func TestAFloodIsMoreThanWhatIsOnItsWay(t *testing.T) {
	for _, c := range []struct {
		name   string
		sent   int // bytes in each of four samples of 50 ms; 10 kB arrive in the last three
		floods bool
	}{
		{"the first round trip of media that fits", 10e3, false},
		{"three times too much", 30e3, false},
		{"ten times too much", 100e3, true},
	} {
		var control Control
		f := control.NewFlow()
		p := f.NewPath(1)
		f.SetPaths([]*Path{p})
		now := time.Unix(1e6, 0)
		for i := range 4 {
			now = now.Add(50 * time.Millisecond)
			got := 10_000
			if i == 0 {
				got = 0
			}
			control.Feedback(now, p, Sample{Interval: 50 * time.Millisecond, Frames: 8, Bytes: got, Sent: c.sent, RTT: 50 * time.Millisecond})
		}
		if p.floods != c.floods {
			t.Errorf("%s: a flood: %v", c.name, p.floods)
		}
	}
}
