package braid

import (
	"time"

	"github.com/ternmesh/tern/media/braid/pace"
)

// maxShifted bounds the groups of frames that wait for their time-shifted copy; the oldest gives way.
const maxShifted = 64

// shiftedGroup is frames from up to, not including, to.
type shiftedGroup struct {
	from, to uint64
	at       time.Time
}

// shifted is what is to go out once more, later, from the repair cache. The zero value is ready. Owned by the session's
// sender goroutine.
type shifted struct {
	groups []shiftedGroup
	timer  *time.Timer
}

func (s *shifted) add(from, to uint64, now time.Time) {
	if len(s.groups) == maxShifted {
		s.groups = append(s.groups[:0], s.groups[1:]...)
	}
	s.groups = append(s.groups, shiftedGroup{from, to, now.Add(shiftAfter)})
	if len(s.groups) == 1 {
		s.arm(now)
	}
}

// arm sets the timer for the first group.
func (s *shifted) arm(now time.Time) {
	wait := max(0, s.groups[0].at.Sub(now))
	if s.timer == nil {
		s.timer = time.NewTimer(wait)
	} else {
		s.timer.Reset(wait)
	}
}

// due ticks when the first group's time has come; never while nothing waits.
func (s *shifted) due() <-chan time.Time {
	if s.timer == nil {
		return nil
	}
	return s.timer.C
}

func (s *shifted) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

// sendShifted sends the groups whose time has come, on the path that carries the needed copies now.
func (s *Session) sendShifted(now time.Time) {
	sent := false
	for len(s.shift.groups) > 0 && !s.shift.groups[0].at.After(now) {
		g := s.shift.groups[0]
		s.shift.groups = append(s.shift.groups[:0], s.shift.groups[1:]...)
		s.again(g, now)
		sent = true
	}
	if sent && len(s.shift.groups) > 0 {
		s.shift.arm(now)
	}
}

// again sends frames of the repair cache a second time, the same bytes.
func (s *Session) again(g shiftedGroup, now time.Time) {
	s.repairMu.Lock()
	defer s.repairMu.Unlock()
	frames := s.shiftFrames[:0]
	for seq := g.from; seq < g.to && len(frames) < runFrames; seq++ {
		if frame := s.cache.get(seq, s.b.unixMS(now)); frame != nil {
			frames = append(frames, frame)
		}
	}
	s.shiftFrames = frames
	f := s.f
	if len(frames) == 0 || !f.b.allowed(f.key) {
		return
	}
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	if first := f.carrier(now); first >= 0 {
		f.send(kindMedia, frames, pace.Set(1)<<first, now)
		f.tally.copies += uint64(len(frames))
	}
}
