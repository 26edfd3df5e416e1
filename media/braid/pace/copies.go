package pace

import "time"

const (
	// trialEvery: of the runs of an adaptive stream, a path that is not chosen carries one in so many.
	trialEvery = 20
	// backFirst and backMost bound how long a step that measured residual loss has asked for is kept.
	backFirst = 10 * time.Second
	backMost  = 80 * time.Second
	// settleFor, beyond a round trip: what is lost in this time after a step or a move was sent before it.
	settleFor = 250 * time.Millisecond
	// moveAgain is how soon another move may hide losses: a choice that goes back and forth with every burst of losses would else hide
	// them all.
	moveAgain = 2 * time.Second
	// residualLeast is how many frames must be lost before their share says anything; one path's loss is acted upon sooner.
	residualLeast = 1.5
	// DefaultResidual is the share of frames that adaptive redundancy may leave undelivered before repair.
	DefaultResidual = 1e-4
)

// Set is a set of paths by their place in the path set.
type Set uint16

// Has reports whether place i is in the set.
func (s Set) Has(i int) bool { return s&(1<<i) != 0 }

// Len is the number of paths in the set.
func (s Set) Len() (n int) {
	for ; s != 0; s &= s - 1 {
		n++
	}
	return n
}

// Choose picks the paths that a frame needs so that it is lost with a probability of at most target: first, then the
// cleanest of the others until the product of the paths' losses is small enough, then more paths as extra says. loss
// is by place; usable says which places can be used at all. short is how many steps could not be taken for lack
// of paths: time-shifted copies may stand in.
func Choose(loss []float64, usable Set, first int, target float64, extra int) (set Set, short int) {
	set = 1 << first
	left := loss[first]
	for left > target || extra > 0 {
		best := -1
		for i := range loss {
			if usable.Has(i) && !set.Has(i) && (best < 0 || loss[i] < loss[best]) {
				best = i
			}
		}
		if best < 0 {
			if left > target {
				short++
			}
			return set, short + extra
		}
		if left <= target {
			extra--
		}
		set |= 1 << best
		left *= loss[best]
	}
	return set, 0
}

// Residual watches the frames that all their copies lost, and asks for extra steps while their share exceeds the target:
// losses of several paths are often one loss, so that the product of the paths' shares says too little. The zero value
// asks for none.
type Residual struct {
	loss    Loss
	extra   int
	most    int // steps there are at all
	stepAt  time.Time
	movedAt time.Time
	backFor time.Duration
}

// Add notes frames sent and, of them, those that no copy brought; most is how many extra steps exist at all, rtt the
// round trip.
func (r *Residual) Add(now time.Time, frames, lost float64, target float64, most int, rtt time.Duration) {
	r.most = most
	r.extra = min(r.extra, most)
	if now.Sub(r.stepAt) < rtt+settleFor || now.Sub(r.movedAt) < rtt+settleFor {
		return
	}
	r.loss.Add(now, frames, lost)
	much := lost > 0 && r.loss.Recent() > target && r.loss.count() >= residualLeast
	switch {
	case much && r.extra < most:
		if r.backFor == 0 || now.Sub(r.stepAt) > 4*r.backFor {
			r.backFor = backFirst
		} else {
			r.backFor = min(2*r.backFor, backMost)
		}
		r.extra++
		r.stepAt = now
		r.loss = Loss{}
	case much:
		r.stepAt = now // still needed
	case r.extra > 0 && now.Sub(r.stepAt) > r.backFor:
		r.extra--
		r.stepAt = now
		r.loss = Loss{}
	}
}

// Moved notes that the paths' own losses have changed the choice of paths: what is lost until that has had its effect says
// nothing about steps.
func (r *Residual) Moved(now time.Time) {
	if now.Sub(r.movedAt) >= moveAgain {
		r.movedAt = now
	}
}

// Extra is the number of steps beyond what the paths' own losses ask for.
func (r *Residual) Extra() int { return r.extra }

// Trial picks the path, of those outside chosen, that carries run number n as a trial; -1 if none does.
func Trial(n uint64, places int, chosen, usable Set) int {
	i := int(n % trialEvery)
	if i >= places || chosen.Has(i) || !usable.Has(i) {
		return -1
	}
	return i
}
