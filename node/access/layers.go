package access

import (
	"math"
	"time"
)

// Which simulcast layer a viewer gets. Layers are ordered by what they are seen to carry, not by their names: publishers
// list them either way.
const (
	maxLayers  = 4
	layersTick = 250 * time.Millisecond // how often every viewer's layer is chosen
	rateWindow = 500 * time.Millisecond // over which a layer's rate is measured
	rateOld    = 0.5                    // what remains of the rate before
	rateLeast  = 1e3                    // bit/s, below which a layer is silent

	layerRoom  = 1.1              // times a layer's rate that the estimate must have for it
	layerOver  = 1.3              // times the estimate that a layer's rate must have to be left without other trouble
	tryFirst   = 4 * time.Second  // of calm, before the next layer is tried
	tryMost    = 64 * time.Second // a try that failed doubles the time, up to here
	tryTime    = 3 * time.Second  // how long a try may be beyond the estimate
	silentTime = 5 * time.Second  // a viewer that never says anything for so long gets the best
)

// meter measures the bit rates of a stream's tracks. Not for concurrent use.
type meter struct {
	bytes []uint64 // that counted last
	at    time.Time
	rates []float64 // bit/s; 0: nothing came
}

// measure takes the counters at now. It changes nothing more often than once in rateWindow.
func (m *meter) measure(now time.Time, bytes []uint64) []float64 {
	if m.at.IsZero() {
		m.bytes, m.rates, m.at = append(m.bytes[:0], bytes...), make([]float64, len(bytes)), now
		return m.rates
	}
	span := now.Sub(m.at)
	if span < rateWindow {
		return m.rates
	}
	for i, b := range bytes {
		rate := float64(b-m.bytes[i]) * 8 / span.Seconds()
		if m.rates[i] > 0 {
			rate = rateOld*m.rates[i] + (1-rateOld)*rate
		}
		if rate < rateLeast {
			rate = 0
		}
		m.rates[i], m.bytes[i] = rate, b
	}
	m.at = now
	return m.rates
}

// ladder chooses one viewer's layer of one track. Pure. The zero value is ready.
type ladder struct {
	began  time.Time
	calm   time.Time     // since when there has been no trouble and no change
	wait   time.Duration // of calm before the next try; 0: tryFirst
	tried  time.Time     // when the try began that is under way
	trying bool
}

// signs is what is known of a viewer's last mile.
type signs struct {
	bps     float64 // what it carries for this track
	known   bool
	reports bool // it has agreed to report
	trouble bool // the estimate was lowered since the last choice
}

// choose returns the layer, one of layers (indexes into rates), that the viewer shall get, having had the layer at.
//
//	trouble, or the layer has become too large ─▶ the largest that fits, the least if none does
//	a larger one fits ─▶ that one
//	calm for a while ─▶ try the next one, though nobody knows whether it fits; in trouble, wait twice as long
func (l *ladder) choose(now time.Time, at int, layers []int, rates []float64, s signs) int {
	if l.began.IsZero() {
		l.began, l.calm, l.wait = now, now, tryFirst
	}
	if !s.known {
		s.bps = startBps
		if !s.reports || now.Sub(l.began) > silentTime {
			s.bps = math.Inf(1)
		}
	}
	fits, next := l.fitting(at, layers, rates, s.bps)
	switch {
	case fits < 0: // nothing is measured
		return at
	case l.trying && (s.trouble || now.Sub(l.tried) > tryTime && rates[at] > layerOver*s.bps):
		l.trying, l.wait, l.calm = false, min(2*l.wait, tryMost), now
		return fits
	case l.trying && now.Sub(l.tried) <= tryTime:
		return at
	case l.trying: // it went well
		l.trying, l.wait, l.calm = false, tryFirst, now
		return at
	case s.trouble:
		l.calm = now
		if rates[fits] < rates[at] {
			return fits
		}
		return at
	case rates[at] == 0 || rates[fits] > rates[at] || rates[fits] < rates[at] && rates[at] > layerOver*s.bps:
		l.calm = now
		return fits
	case next >= 0 && s.known && now.Sub(l.calm) >= l.wait:
		l.trying, l.tried = true, now
		return next
	}
	return at
}

// fitting returns the largest layer that bps carries (the least of all if none does), and the next one above at; -1 for
// none. Layers that carry nothing do not count.
func (l *ladder) fitting(at int, layers []int, rates []float64, bps float64) (fits, next int) {
	fits, next = -1, -1
	least := -1
	for _, i := range layers {
		r := rates[i]
		if r == 0 {
			continue
		}
		if least < 0 || r < rates[least] {
			least = i
		}
		if r*layerRoom <= bps && (fits < 0 || r > rates[fits]) {
			fits = i
		}
		if r > rates[at] && (next < 0 || r < rates[next]) {
			next = i
		}
	}
	if fits < 0 {
		fits = least
	}
	return fits, next
}
