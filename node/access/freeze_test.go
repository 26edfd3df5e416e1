package access

import (
	"testing"
	"time"
)

// A freeze is a gap of more than three mean ones, and of at least 150 ms more than the mean.
func TestAPictureThatStandsStill(t *testing.T) {
	for _, c := range []struct {
		every, gap time.Duration
		frames     int // before the gap
		freezes    int
	}{
		{33 * time.Millisecond, 180 * time.Millisecond, 100, 0},
		{33 * time.Millisecond, 190 * time.Millisecond, 100, 1},
		{33 * time.Millisecond, 190 * time.Millisecond, 5, 0}, // no mean yet
		{200 * time.Millisecond, 590 * time.Millisecond, 100, 0},
		{200 * time.Millisecond, 610 * time.Millisecond, 100, 1},
		{time.Second, 2 * time.Second, 100, 0}, // a picture of one frame a second
	} {
		var s still
		now := time.Unix(1000, 0)
		for range c.frames {
			if frozen := s.frame(now); frozen != 0 {
				t.Fatalf("%+v: frozen for %v at the steady pace", c, frozen)
			}
			now = now.Add(c.every)
		}
		now = now.Add(c.gap - c.every)
		frozen := s.frame(now)
		if s.count != c.freezes || (frozen == c.gap) != (c.freezes == 1) || s.total != frozen {
			t.Errorf("%+v: %d freezes, %v, in all %v", c, s.count, frozen, s.total)
		}
		for range 100 { // the pace goes on
			now = now.Add(c.every)
			s.frame(now)
		}
		if s.count != c.freezes {
			t.Errorf("%+v: %d freezes after the pace went on", c, s.count)
		}
	}
}
