package braid

import "time"

const (
	// reportInterval is how long a step of the rhythm lasts.
	reportInterval = 100 * time.Millisecond
	// While all is calm, a side reports when what moved since it did so is reportShare times what a report costs: its bytes and
	// reportFrame of headers and acknowledgements. Else it does whenever something has moved, and after reportSoon.
	reportShare = 500
	reportFrame = 150
	reportSoon  = 300 * time.Millisecond
	// reportRest is when it reports in any case, twice that while media moves, for media shows better than reports which paths live; to
	// a peer that does not say for how long it waits, reportOld.
	reportRest = 4500 * time.Millisecond
	reportOld  = time.Second
)

// pausesTold are the steps without media after which a side reports once more: what was sent last has nothing behind it that would show
// its loss, and who gets nothing any more says so until the sender can tell a dead path by it. While all is calm the first counts after
// steadySteps with media, or pausesApart after another report: some media pauses five times a second.
var pausesTold = [...]int{1, 3, 10, 20}

const (
	steadySteps = 3
	pausesApart = 2 * time.Second
)

// rhythm is when a side reports. It is stepped once in reportInterval. The zero value is ready. Of the feedback goroutine.
type rhythm struct {
	told    uint64 // report.sum of the last report
	before  uint64 // and of the last step
	moved   uint64 // report.moved of the last report
	trouble uint64 // report.trouble of the last step
	idle    int    // steps since the last report
	still   int    // steps since media moved
	steady  int    // steps in a row in which it did, the last such
}

// step moves on; alert: there is trouble of a new kind.
func (t *rhythm) step(r *report) (alert bool) {
	t.idle++
	t.still++
	if sum := r.sum(); sum != t.before {
		if t.still > 1 {
			t.steady = 0
		}
		t.before, t.still, t.steady = sum, 0, t.steady+1
	}
	alert = r.trouble() != t.trouble
	t.trouble = r.trouble()
	return alert
}

// due: a report is to go out, after step. patience is how long the peer may go without one.
func (t *rhythm) due(r *report, calm bool, patience time.Duration) bool {
	age, news := time.Duration(t.idle)*reportInterval, r.sum() != t.told
	switch {
	case !calm:
		return news || age >= reportSoon || t.paused(calm)
	case news:
		return age >= min(patience, 2*reportRest) || r.pays(t.moved, reportShare) || t.paused(calm)
	}
	return age >= min(patience, reportRest) || t.paused(calm)
}

// paused: media has ended, or nothing comes any more.
func (t *rhythm) paused(calm bool) bool {
	for i, still := range pausesTold {
		if t.still == still && t.before != 0 {
			return i > 0 || !calm || time.Duration(t.idle)*reportInterval >= pausesApart || t.steady >= steadySteps
		}
	}
	return false
}

// sent notes that a report went out.
func (t *rhythm) sent(r *report) { t.told, t.moved, t.idle = r.sum(), r.moved, 0 }

// pays: enough has moved, on all paths, since it was told bytes, to make another report on all of them cheap: share times its cost.
func (r *report) pays(told, share uint64) bool {
	cost := len(r.out)*outBytes + len(r.in)*inBytes + len(r.pairs)*pairBytes + reportFrame
	return r.moved-min(told, r.moved) >= share*uint64(cost*len(r.out))
}

// trouble changes whenever frames are found corrupt or undelivered, or a path is silent.
func (r *report) trouble() (n uint64) {
	n = r.undelivered + r.repaired
	for _, in := range r.in {
		n += in.corrupt
		if in.silent || in.broken {
			n++
		}
	}
	return n
}

// sum changes whenever media moves or something is found lost; QUIC packets alone, reports among them, do not count.
func (r *report) sum() uint64 {
	sum := r.mediaNext + r.received + r.undelivered + r.repaired
	for _, in := range r.in {
		sum += in.lost + in.rescued + in.corrupt
	}
	return sum
}
