package pace

import (
	"math"
	"time"
)

// Constants of the law of one bottleneck; ADR 5 has the reasons.
const (
	floorRate   = 16e3                   // bytes/s below which nothing is cut: what keeps feedback alive
	keepShare   = 0.85                   // of the delivered rate after a cut with a short queue
	keepLeast   = 0.1                    // of the delivered rate after a cut with a long queue
	backAt      = 0.7                    // of the limit: where a cap is after a cut when the queue has drained
	believe     = 0.5                    // of the cap: less delivered than that says that little was sent, or that much was lost, more than what fits
	longQueue   = 150 * time.Millisecond // media that waits longer is nearly too old: no cut is too deep for that
	drainTime   = 300 * time.Millisecond
	growEvery   = 100 * time.Millisecond
	growFast    = 1.10
	growNear    = 1.01
	growBeyond  = 1.01                   // slowly: what is too much stands in the queue until the next cut
	cutPause    = 100 * time.Millisecond // beyond a round trip, between two cuts
	growOn      = 1.05                   // far beyond the limit, which then is none any more
	beyondFirst = time.Second            // without a queue, before the last limit is passed
	beyondMost  = 8 * time.Second
	mistaken    = time.Second // how long before a group's cut one of its members may have been cut for the same queue
	openAfter   = 5 * time.Second
	openRoom    = 1.25 // times what is wanted
	inUse       = 0.7  // of the cap: below, growth would be a guess
	drains      = 0.75 // of its height at the last look: a queue that falls below is draining
	tested      = 0.9  // of the cap: below, a cap at its limit or beyond is not tried
	sameLimit   = 0.7  // two limits that differ by less are one
	farBeyond   = 1.25 // times the limit: it is no limit any more
)

// Rate is the cap of one bottleneck: a path, or a group of paths that share one. The zero value is open.
//
//	open   --queue-->  capped   (a share of what was delivered)
//	capped --queue-->  capped   (lower, once per round trip + cutPause, unless the queue is draining)
//	capped --clear-->  capped   (higher, every growEvery, if in use)
//	capped --clear for openAfter, room beyond what is wanted--> open
type Rate struct {
	cap     float64       // bytes/s; 0 = open
	limit   float64       // delivered when the present or last trouble began: the bottleneck's rate, if we filled it
	trouble bool          // a queue, and no clear sample since
	height  time.Duration // of the queue at the last cut, or at the last look at a draining queue
	base    float64       // bytes/s of which the last cut left a share
	least   float64       // bytes/s that the last cut had to leave
	cutAt   time.Time     // of the last cut, or of the last look at a draining queue
	grewAt  time.Time
	beyond  time.Duration // pause before limit is passed; doubles
}

// Cap in bytes/s, infinite while open.
func (r *Rate) Cap() float64 {
	if r.cap == 0 {
		return math.Inf(1)
	}
	return r.cap
}

// Open reports whether there is no cap.
func (r *Rate) Open() bool { return r.cap == 0 }

// forgive lifts a cap that is so new that the trouble was that of a wider group, which has been cut now.
func (r *Rate) forgive(now time.Time) {
	if !r.Open() && now.Sub(r.cutAt) < mistaken {
		*r = Rate{}
	}
}

// Queue takes notice that packets queue: delivered is the rate in bytes/s that arrives, queue the delay above the floor, least what a
// cut must leave, if the queue is new or short.
func (r *Rate) Queue(now time.Time, delivered, least float64, queue, rtt time.Duration) {
	if r.waits(now, rtt) {
		return
	}
	was := r.Cap()
	if r.least = floorRate; !r.trouble || queue <= longQueue {
		r.least = max(floorRate, least)
	}
	if !r.trouble {
		fresh := r.Open() || delivered < sameLimit*r.limit || delivered*sameLimit > r.limit
		r.beyond = min(2*r.beyond, beyondMost)
		if fresh {
			r.beyond = beyondFirst
		}
		// What arrives may be little because little is sent: the limit comes down by steps.
		r.limit = max(min(was, delivered), sameLimit*r.limit, floorRate)
	} else if float64(queue) < drains*float64(r.height) {
		r.cutAt, r.height = now, queue
		return
	}
	r.trouble, r.height = true, queue
	if r.base = delivered; !math.IsInf(was, 1) {
		r.base = min(was, max(delivered, believe*was))
	}
	r.cap = min(was, max(r.least, keep(queue)*r.base))
	r.cutAt, r.grewAt = now, now
}

// waits: what was sent since the last cut has not been seen yet.
func (r *Rate) waits(now time.Time, rtt time.Duration) bool {
	pause := rtt + cutPause
	if r.trouble {
		pause += r.height // which it stands behind
	}
	return !r.Open() && now.Sub(r.cutAt) < pause
}

// Higher takes notice of the queue after a cut: where it is longer than it was then, what was seen was only its beginning.
func (r *Rate) Higher(now time.Time, queue, rtt time.Duration) {
	if r.trouble && queue > r.height && r.waits(now, rtt) {
		r.height = queue
		r.cap = min(r.cap, max(r.least, keep(queue)*r.base))
	}
}

// keep is the share of the delivered rate that is left after a cut.
func keep(queue time.Duration) float64 {
	return min(max(keepShare-float64(queue)/float64(drainTime), keepLeast), keepShare)
}

// Passed takes notice that nothing queues and arrives bytes/s have come through for a while: a lower limit was a mistake, and so was a
// cut to less than least, which is what a cut would have to leave now.
func (r *Rate) Passed(arrives, least float64) {
	if r.Open() || r.cap >= r.limit && !r.trouble {
		return
	}
	if r.limit = max(r.limit, arrives); r.trouble {
		r.cap = max(r.cap, least)
	}
}

// Clear takes notice that nothing queues while used bytes/s are sent and wanted bytes/s would be.
func (r *Rate) Clear(now time.Time, used, wanted float64, rtt time.Duration) {
	calm := now.Sub(r.cutAt)
	if r.Open() || calm < rtt || now.Sub(r.grewAt) < growEvery {
		return
	}
	if r.trouble { // the queue has drained, and what the bottleneck carries is known
		r.cap, r.trouble = max(r.cap, backAt*r.limit), false
	}
	if calm >= openAfter && r.cap >= openRoom*wanted {
		*r = Rate{}
		return
	}
	if used < inUse*r.cap {
		// Whether it would still hold nobody knows, so it ages: something else limits what comes here.
		if calm >= openAfter {
			r.cap, r.grewAt = min(r.cap*growNear, max(r.cap, openRoom*wanted)), now
		}
		return
	}
	r.grewAt = now
	switch known := keepShare * r.limit; {
	case r.cap < known:
		r.cap = min(r.cap*growFast, known)
	case r.cap < r.limit:
		r.cap = min(r.cap*growNear, r.limit)
	case used < tested*r.cap: // something else limits what comes here
	case r.cap < farBeyond*r.limit && calm >= r.beyond:
		r.cap *= growBeyond
	case r.cap >= farBeyond*r.limit:
		r.cap *= growOn
	}
	r.cap = min(r.cap, max(2*wanted, floorRate))
}
