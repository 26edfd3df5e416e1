package braid

import (
	"slices"
	"time"

	"github.com/ternmesh/tern/media/braid/pace"
)

// mode says how many copies of a packet go out: that part of a Class. 0 is full.
type mode uint8

const (
	kindMask     Class = 1 // Audio or Video
	adaptiveFlag Class = 1 << 6
	levelShift         = 2
	levelMask          = 0xf
)

// residuals are the targets that Adaptive can express.
var residuals = [...]float64{1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5, 5e-6, 2e-6, 1e-6}

// Adaptive, added to a class, sends a packet in as few copies as leave at most residual of the frames undelivered before
// repair, a share of 1 (0: pace.DefaultResidual). It is rounded down to a step of 1, 2 or 5, between 0.000001 and 0.01.
func Adaptive(residual float64) Class {
	if residual <= 0 {
		residual = pace.DefaultResidual
	}
	level := 0
	for level < len(residuals)-1 && residuals[level] > residual*(1+1e-9) {
		level++
	}
	return adaptiveFlag | Class(level)<<levelShift
}

func (c Class) mode() mode { return mode(c &^ kindMask) }

func (m mode) single() bool   { return Class(m)&OneCopy != 0 }
func (m mode) adaptive() bool { return Class(m)&adaptiveFlag != 0 }

// residual is the target of an adaptive mode.
func (m mode) residual() float64 {
	return residuals[min(int(m>>levelShift)&levelMask, len(residuals)-1)]
}

// shiftAfter is how much later a time-shifted copy leaves: longer than most bursts of loss, short enough to be in time.
const shiftAfter = 30 * time.Millisecond

// jointTimes what independent losses of all paths would leave says that they are not independent.
const jointTimes = 4

// plan is where a group of frames goes.
type plan struct {
	set   pace.Set // places of the paths in the set
	shift bool     // once more on the first path, shiftAfter later
}

// plan chooses the paths for a group of frames of size bytes. What budgets refuse is counted. Holds sendMu.
func (f *flow) plan(m mode, frames, size int, now time.Time) plan {
	first := f.carrier(now)
	if first < 0 {
		return plan{set: f.blind(size, now)}
	}
	f.paths[first].needed.Take(size)
	want, shift := f.wants(m, first)
	f.tally.frames += uint64(frames)
	f.tally.wanted += uint64(frames * (want.Len() - 1))
	p := plan{set: 1 << first}
	for i, o := range f.paths {
		if i == first || !want.Has(i) {
			continue
		}
		if !o.afford(now, size) {
			f.tally.withheld += uint64(frames)
			continue
		}
		p.set |= 1 << i
	}
	if shift {
		f.tally.wanted += uint64(frames)
		p.shift = f.paths[first].afford(now, size)
	}
	f.tally.copies += uint64(frames * p.set.Len())
	return p
}

// blind is where frames go while all paths are dead, as far as we know: everywhere, but caps hold on. A queue of our own, longer than the
// silence that a path dies of, would else never end. Holds sendMu.
func (f *flow) blind(size int, now time.Time) (set pace.Set) {
	for i, p := range f.paths {
		if p.ready && p.needed.Room(now) > 0 {
			p.needed.Take(size)
			set |= 1 << i
		}
	}
	if set == 0 {
		return f.readySet()
	}
	return set
}

// afford takes size bytes from the path's grant for extra copies, if they are there but for a few frames.
func (p *outPath) afford(now time.Time, size int) bool {
	if p.extra.Room(now) <= 0 || p.extra.Room(now)+pace.Slack < float64(size) {
		return false
	}
	p.extra.Take(size)
	return true
}

// carrier is the place of the path that carries the needed copy: the first living one that may, -1 if none lives. One that
// nothing has arrived on yet is the second choice: it may be as dead as the one it replaced. Holds sendMu.
func (f *flow) carrier(now time.Time) int {
	alive, granted, unproven := -1, -1, -1
	for i, p := range f.paths {
		if !p.ready || p.dead {
			continue
		}
		if alive < 0 {
			alive = i
		}
		switch {
		case p.needed.Room(now) > 0 && p.seen.received > 0:
			return i
		case p.needed.Room(now) > 0 && unproven < 0:
			unproven = i
		case p.needed.Rate() > 0 && granted < 0:
			granted = i
		}
	}
	for _, i := range [...]int{unproven, granted} {
		if i >= 0 {
			return i
		}
	}
	return alive
}

// room is how many bytes of needed copies may leave now; infinite if nothing limits them. Holds sendMu.
func (f *flow) room(now time.Time) float64 {
	most := 0.0
	any, alive := false, f.alive()
	for _, p := range f.paths {
		if p.ready && (!p.dead || !alive) {
			any = any || p.needed.Rate() > 0
			most = max(most, p.needed.Room(now))
		}
	}
	if !any { // no grant on any living path, until the next deal: the caps are for others
		return runBytes
	}
	return most
}

// late tells the grants that what is to be sent has waited. Holds sendMu.
func (f *flow) late(now time.Time, waited time.Duration) {
	f.burst.Late(now, waited)
	for _, p := range f.paths {
		p.needed.Late(now, waited)
		p.extra.Late(now, waited)
	}
}

// spares: the budgets have room for a needed copy now.
func (f *flow) spares(now time.Time) bool {
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	return f.room(now) > 0
}

// alive: some path is. Holds sendMu.
func (f *flow) alive() bool {
	return slices.ContainsFunc(f.paths, func(p *outPath) bool { return p.ready && !p.dead })
}

func (f *flow) readySet() (set pace.Set) {
	for i, p := range f.paths {
		if p.ready {
			set |= 1 << i
		}
	}
	return set
}

// wants is the set of paths that a mode asks for, first among them. Dead paths get copies in full, so that they come back
// by themselves; in the other modes QUIC's packets find them alive again. A stream in full gets one more copy, later on its first path, where that
// is lossy and no other is there, or where all paths lose the same frames. Holds sendMu.
func (f *flow) wants(m mode, first int) (set pace.Set, shift bool) {
	switch {
	case m.single():
		return 1 << first, false
	case !m.adaptive():
		_, usable, short := f.choose(first, pace.DefaultResidual)
		f.target = min(f.target, f.apart(usable))
		return f.readySet() | 1<<first, usable.Len() < 2 && short > 0 || f.extra >= usable.Len()
	}
	f.target = min(f.target, m.residual())
	set, usable, short := f.choose(first, m.residual())
	f.groups++
	if i := pace.Trial(f.groups, len(f.paths), set, usable); i >= 0 {
		set |= 1 << i
	}
	return set, short > 0
}

// apart is the share of frames that all paths may lose while their losses are taken for independent ones: jointTimes the product of these,
// but not less than the default target. Holds sendMu.
func (f *flow) apart(usable pace.Set) float64 {
	product := 1.0
	for i, p := range f.paths {
		if usable.Has(i) {
			product *= p.loss
		}
	}
	return min(1, max(pace.DefaultResidual, jointTimes*product))
}

// choose picks the paths that frames need for a residual target; short is how many steps found no path. Holds sendMu.
func (f *flow) choose(first int, target float64) (set, usable pace.Set, short int) {
	var loss [maxPaths]float64
	for i, p := range f.paths {
		loss[i] = p.loss
		if p.ready && !p.dead {
			usable |= 1 << i
		}
	}
	set, short = pace.Choose(loss[:len(f.paths)], usable, first, target, f.extra)
	return set, usable, short
}
