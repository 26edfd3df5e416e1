package pace

import (
	"math"
	"testing"
	"time"
)

// Three paths that nothing limits carry three copies from the first packet on, and nothing is ever capped.
func TestFreePathsAreNotTouched(t *testing.T) {
	w := newWorld(t)
	s := w.send(20, 2, nil, nil, nil)
	w.run(30 * time.Second)
	w.run(0)
	if s.copiesSent < 2*s.sentFrames || s.f.Scope() != Free || !math.IsInf(s.f.Estimate(), 1) {
		t.Errorf("%d extra copies of %d frames, limited by %v", s.copiesSent, s.sentFrames, s.f.Scope())
	}
}

// Loss without a queue asks for copies, not for silence.
func TestLossAloneLowersNoCap(t *testing.T) {
	w := newWorld(t)
	lossy := w.pipe(0, 0)
	lossy.rate, lossy.loss = 0, 0.2
	s := w.send(20, 2, []*pipe{lossy}, []*pipe{lossy}, []*pipe{lossy})
	w.run(20 * time.Second)
	if s.copiesSent < 2*s.sentFrames || s.f.Scope() != Free {
		t.Errorf("at 20 %% loss %d extra copies of %d frames, limited by %v", s.copiesSent, s.sentFrames, s.f.Scope())
	}
}

// 20 Mbit/s of media over three paths, of which the first has 10 Mbit/s: the others carry it, and a bulk flow on the first
// keeps most of its rate; when the bottleneck widens, the path returns.
func TestBottleneckOnOnePathIsLeftToOthers(t *testing.T) {
	w := newWorld(t)
	narrow := w.pipe(10, 100*time.Millisecond)
	x := &bulk{pipe: narrow, rtt: 80 * time.Millisecond, cwnd: 10}
	w.cross = append(w.cross, x)
	w.run(20 * time.Second)
	before := x.got
	w.run(20 * time.Second)
	solo := x.got - before

	s := w.send(20, 2, []*pipe{narrow}, nil, nil)
	w.run(5 * time.Second)
	before, lost, sent := x.got, s.lost(), s.routes[0].sent
	w.run(20 * time.Second)
	kept := x.got - before
	if s.lost()-lost > 20 { // those in flight
		t.Errorf("%d media frames lost", s.lost()-lost)
	}
	t.Logf("the bulk flow kept %.0f %% of its %d Mbit/s; our copies on the narrow path %.2f Mbit/s, scope %v",
		100*float64(kept)/float64(solo), solo*8/20/1000000, float64(s.routes[0].sent-sent)*8/20/1e6, s.f.Scope())
	if float64(kept) < 0.4*float64(solo) {
		t.Errorf("the bulk flow kept %.0f %% of its rate, want at least 40 %%", 100*float64(kept)/float64(solo))
	}
	x.off = true
	narrow.rate = mbit(100)
	narrow.bound = narrow.rate * 0.1
	w.run(20 * time.Second)
	sent = s.routes[0].sent
	w.run(time.Second)
	if got := float64(s.routes[0].sent-sent) * 8 / 1e6; got < 19 {
		t.Errorf("20 s after the load was gone the path carries %.1f Mbit/s, want all 20", got)
	}
}

// An uplink of 20 Mbit/s, 10 Mbit/s of media, three copies asked: within a second what does not fit is not sent, nothing of
// the media is lost after that, and the queue is short.
func TestSharedUplinkKeepsTheMediaAndDropsCopies(t *testing.T) {
	w := newWorld(t)
	up := w.pipe(20, 100*time.Millisecond)
	s := w.send(10, 2, []*pipe{up}, []*pipe{up}, []*pipe{up})
	w.run(time.Second)
	lost, copies, frames := s.lost(), s.copiesSent, s.sentFrames
	var longest time.Duration
	for range 300 {
		w.run(100 * time.Millisecond)
		longest = max(longest, up.queue(w))
	}
	per := 1 + float64(s.copiesSent-copies)/float64(s.sentFrames-frames)
	t.Logf("scope %v, %.2f copies, first second lost %d, later %d, longest queue %v", s.f.Scope(), per, lost, s.lost()-lost, longest)
	if s.lost()-lost > 10 {
		t.Errorf("%d frames lost after the first second", s.lost()-lost)
	}
	if per > 2 || per < 1.3 {
		t.Errorf("%.2f copies per frame, want what fits: between 1.3 and 2", per)
	}
	if s.f.Scope() != OnFlow {
		t.Errorf("limited by %v, want peer", s.f.Scope())
	}
	if longest > 60*time.Millisecond {
		t.Errorf("a queue of %v", longest)
	}
}

// An uplink that carries the media and hardly more: the queue costs copies, and what arrives is not cut.
func TestAQueueThatLetsTheMediaThroughCostsCopiesAlone(t *testing.T) {
	w := newWorld(t)
	up := w.pipe(12, 200*time.Millisecond)
	s := w.send(10, 2, []*pipe{up}, []*pipe{up}, []*pipe{up})
	w.run(time.Second)
	lost := s.lost()
	var longest time.Duration
	for range 100 {
		w.run(100 * time.Millisecond)
		longest = max(longest, up.queue(w))
	}
	t.Logf("first second lost %d, the next ten %d, longest queue %v, scope %v", lost, s.lost()-lost, longest, s.f.Scope())
	if s.lost()-lost > 50 { // those in flight
		t.Errorf("%d of 10,000 frames lost after the first second", s.lost()-lost)
	}
	if longest > 150*time.Millisecond {
		t.Errorf("a queue of %v", longest)
	}
}

// What is needed, while as much arrives; a little headroom, if that much was seen.
func TestACutLeavesWhatFits(t *testing.T) {
	for _, c := range []struct{ needed, arrives, want float64 }{
		{1e6, 0.9e6, 0}, {1e6, 0.96e6, 1e6}, {1e6, 1.05e6, 1.05e6}, {1e6, 3e6, 1.1e6}, {0, 1e6, 0},
	} {
		if got := fitting(c.needed, c.arrives); math.Abs(got-c.want) > 1 {
			t.Errorf("needed %.0f, arrives %.0f: %.0f must be left, want %.0f", c.needed, c.arrives, got, c.want)
		}
	}
}

// Three paths of 4 Mbit/s and 20 Mbit/s of media: the sender learns what fits, drops the oldest, and nothing is old.
func TestAllPathsTooNarrow(t *testing.T) {
	w := newWorld(t)
	s := w.send(20, 2, []*pipe{w.pipe(4, 200*time.Millisecond)}, []*pipe{w.pipe(4, 200*time.Millisecond)}, []*pipe{w.pipe(4, 200*time.Millisecond)})
	w.run(5 * time.Second)
	s.late = 0
	got := len(s.got)
	w.run(20 * time.Second)
	rate := float64(len(s.got)-got) * frameSize * 8 / 20 / 1e6
	t.Logf("arrives %.1f of 12 Mbit/s, estimate %.1f, latest %v, caps %.1f %.1f %.1f", rate, s.f.Estimate()*8/1e6, s.late,
		s.routes[0].path.Capped()*8/1e6, s.routes[1].path.Capped()*8/1e6, s.routes[2].path.Capped()*8/1e6)
	if rate < 8 {
		t.Errorf("%.1f Mbit/s arrive of the 12 that fit", rate)
	}
	if e := s.f.Estimate() * 8 / 1e6; e < 7 || e > 13.5 {
		t.Errorf("the estimate is %.1f Mbit/s, 12 fit", e)
	}
	if s.late > 300*time.Millisecond {
		t.Errorf("a frame of age %v arrived", s.late)
	}
}

// Two flows to two peers through one uplink get equal shares, whoever came first.
func TestFlowsShareTheNodeFairly(t *testing.T) {
	w := newWorld(t)
	up := w.pipe(20, 100*time.Millisecond)
	a := w.send(15, 0, []*pipe{up}, []*pipe{up})
	w.run(5 * time.Second)
	b := w.send(15, 0, []*pipe{up}, []*pipe{up})
	w.run(10 * time.Second)
	ga, gb := len(a.got), len(b.got)
	w.run(20 * time.Second)
	ra, rb := float64(len(a.got)-ga), float64(len(b.got)-gb)
	t.Logf("%.1f and %.1f Mbit/s, scope %v", ra*frameSize*8/20e6, rb*frameSize*8/20e6, a.f.Scope())
	if ra/rb > 1.25 || rb/ra > 1.25 {
		t.Errorf("shares %.0f and %.0f frames, want equal within a quarter", ra, rb)
	}
	if sum := (ra + rb) * frameSize * 8 / 20e6; sum < 14 {
		t.Errorf("together %.1f of 20 Mbit/s", sum)
	}
}

// The needed copies of all flows come before anybody's extra copies.
func TestNeededCopiesComeBeforeExtraOnes(t *testing.T) {
	w := newWorld(t)
	up := w.pipe(20, 100*time.Millisecond)
	a := w.send(8, 2, []*pipe{up}, []*pipe{up}, []*pipe{up})
	b := w.send(8, 2, []*pipe{up}, []*pipe{up}, []*pipe{up})
	w.run(3 * time.Second)
	la, lb := a.lost(), b.lost()
	w.run(20 * time.Second)
	if a.lost()-la > 20 || b.lost()-lb > 20 {
		t.Errorf("lost %d and %d frames though 16 Mbit/s fit into 20", a.lost()-la, b.lost()-lb)
	}
}

// On its only path, beside a bulk flow that fills the queue for ever, the needed copy keeps a fair share.
func TestTheOnlyCopyIsNotStarved(t *testing.T) {
	w := newWorld(t)
	narrow := w.pipe(10, 100*time.Millisecond)
	x := &bulk{pipe: narrow, rtt: 80 * time.Millisecond, cwnd: 10}
	w.cross = append(w.cross, x)
	s := w.send(4, 0, []*pipe{narrow})
	w.run(20 * time.Second)
	got, cross := len(s.got), x.got
	w.run(40 * time.Second)
	rate, other := float64(len(s.got)-got)*frameSize*8/40e6, float64(x.got-cross)*8/40e6
	t.Logf("media %.1f of 4 Mbit/s, bulk %.1f", rate, other)
	if rate < 1 || other < 3 {
		t.Errorf("media %.1f, bulk %.1f Mbit/s: one of them starves", rate, other)
	}
}

// A route that becomes 30 ms longer is no queue.
func TestALongerRouteIsNoQueueForLong(t *testing.T) {
	w := newWorld(t)
	s := w.send(10, 2, nil, nil, nil)
	w.run(5 * time.Second)
	s.routes[1].delay += 30 * time.Millisecond
	w.run(20 * time.Second)
	sent := s.routes[1].sent
	w.run(time.Second)
	if got := float64(s.routes[1].sent-sent) * 8 / 1e6; got < 9.5 {
		t.Errorf("20 s after its route became longer the path carries %.1f of 10 Mbit/s", got)
	}
}

// A clock that somebody has set is no queue either, not even for a moment: no queue grows faster than time passes.
func TestAClockThatWasSetIsNoQueue(t *testing.T) {
	w := newWorld(t)
	s := w.send(10, 2, nil, nil, nil)
	w.run(5 * time.Second)
	lost, sent := s.lost(), s.copiesSent
	w.clock += 6 * time.Second
	w.run(10 * time.Second)
	if s.lost()-lost > 0 || s.copiesSent-sent < 19000 {
		t.Errorf("%d frames were held back, and %d of 20,000 copies sent", s.lost()-lost, s.copiesSent-sent)
	}
}

// Nor is it when all routes become longer at once, which looks like a shared bottleneck: the media pauses for a moment at most.
func TestLongerRoutesAllAtOnce(t *testing.T) {
	w := newWorld(t)
	s := w.send(10, 2, nil, nil, nil)
	w.run(5 * time.Second)
	for _, r := range s.routes {
		r.delay += 30 * time.Millisecond
	}
	lost := s.lost()
	w.run(20 * time.Second)
	t.Logf("%d of 1,000 frames a second lost", s.lost()-lost)
	if s.lost()-lost > 1500 {
		t.Errorf("%d frames were held back until they were stale", s.lost()-lost)
	}
	sent := s.copiesSent
	w.run(time.Second)
	if s.copiesSent-sent < 1900 {
		t.Errorf("20 s later %d extra copies a second, want 2,000", s.copiesSent-sent)
	}
}
