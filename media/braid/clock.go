package braid

import (
	"sync/atomic"
	"time"
)

const (
	// clockStep is how wrong the braid's time may be before it is set at once: two nodes of which each is so wrong still take each
	// other's frames for fresh.
	clockStep = 4 * time.Second
	// clockSlew is how much of an error is worked off in a second: more than a clock drifts by itself, and, over the half minute for
	// which pace remembers the lowest delay and on both sides at once, less than it takes for a queue.
	clockSlew = 200 * time.Microsecond
)

// steady is the time that frames are stamped with and held against: the machine's wall clock, made steady. A wall clock that is set
// (NTP, an operator) would look like a queue on every path at once, and media would be held back for nothing: so time goes on by the
// monotonic clock, and the wall clock's difference to it is worked off slowly. Safe for concurrent use.
type steady struct {
	wall func(now time.Time) time.Time
	born time.Time    // by both clocks
	base time.Time    // the wall clock then
	lead atomic.Int64 // nanoseconds on top
}

func newSteady(now time.Time, wall func(time.Time) time.Time) *steady {
	return &steady{wall: wall, born: now, base: wall(now)}
}

// unixMS is the instant now, in Unix milliseconds.
func (s *steady) unixMS(now time.Time) uint64 {
	return uint64(s.base.Add(now.Sub(s.born) + time.Duration(s.lead.Load())).UnixMilli())
}

// follow works off what the wall clock has gone away; called every second by one goroutine.
func (s *steady) follow(now time.Time) {
	lead := time.Duration(s.lead.Load())
	gone := s.wall(now).Sub(s.base.Add(now.Sub(s.born) + lead))
	if gone.Abs() < clockStep {
		gone = min(max(gone, -clockSlew), clockSlew)
	}
	s.lead.Store(int64(lead + gone))
}
