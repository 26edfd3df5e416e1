package pace

import (
	"math"
	"time"
)

// The windows of a Loss: short to notice a brownout, long to forget it slowly.
var lossWindows = [...]time.Duration{250 * time.Millisecond, 2 * time.Second, 8 * time.Second}

const (
	// A path of which nothing is known is taken to lose twice the default target, so that a flow begins with two copies.
	priorLoss = 2e-4
	priorLong = 200 // frames that the prior weighs in the longest window
	priorNext = 50  // frames that a longer window weighs in the next shorter one
)

// window counts with exponential forgetting.
type window struct{ lost, all float64 }

// Loss estimates how much of what is sent gets lost: the highest of three windows, of which each takes the next longer one
// as its prior. The zero value knows nothing.
type Loss struct {
	at      time.Time
	windows [len(lossWindows)]window
}

// Add notes that all frames were sent since the last call and lost of them did not arrive. A negative lost takes back what
// an earlier call counted too early.
func (l *Loss) Add(now time.Time, all, lost float64) {
	dt := now.Sub(l.at)
	if l.at.IsZero() {
		dt = 0
	}
	l.at = now
	for i := range l.windows {
		w := &l.windows[i]
		keep := math.Exp(-max(0, dt.Seconds()) / lossWindows[i].Seconds())
		w.all = w.all*keep + all
		w.lost = max(0, w.lost*keep+lost)
	}
}

// Share of the frames that is expected to be lost, 0 to 1.
func (l *Loss) Share() float64 {
	estimate, weight, high := priorLoss, float64(priorLong), 0.0
	for i := len(l.windows) - 1; i >= 0; i-- {
		w := &l.windows[i]
		estimate = (w.lost + weight*estimate) / (w.all + weight)
		weight = priorNext
		high = max(high, estimate)
	}
	return min(high, 1)
}

// Recent is the plain share of the longest window, without any prior; 0 while nothing is known.
func (l *Loss) Recent() float64 {
	w := l.windows[len(l.windows)-1]
	if w.all < 1 {
		return 0
	}
	return min(1, w.lost/w.all)
}

// count is how many losses the longest window remembers.
func (l *Loss) count() float64 { return l.windows[len(l.windows)-1].lost }
