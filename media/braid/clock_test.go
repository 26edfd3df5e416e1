package braid

import (
	"testing"
	"time"
)

func TestTheTimeOfFramesFollowsAWallClockWithoutJumping(t *testing.T) {
	for _, c := range []struct {
		name string
		set  time.Duration // what is done to the wall clock
		at   [3]time.Duration
	}{ // how far the time is from the one before the change, after 1 s, 10 s and an hour
		{"right", 0, [3]time.Duration{}},
		{"a little ahead", 100 * time.Millisecond, [3]time.Duration{clockSlew, 10 * clockSlew, 100 * time.Millisecond}},
		{"a little behind", -100 * time.Millisecond, [3]time.Duration{-clockSlew, -10 * clockSlew, -100 * time.Millisecond}},
		{"seconds ahead", 3 * time.Second, [3]time.Duration{clockSlew, 10 * clockSlew, 3600 * clockSlew}},
		{"so wrong that others would refuse its frames", 2 * time.Hour, [3]time.Duration{2 * time.Hour, 2 * time.Hour, 2 * time.Hour}},
		{"so far behind", -5 * time.Second, [3]time.Duration{-5 * time.Second, -5 * time.Second, -5 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			born := time.Now()
			var off time.Duration
			s := newSteady(born, func(now time.Time) time.Time { return now.Round(0).Add(off) })
			if got, want := s.unixMS(born), uint64(born.UnixMilli()); got != want {
				t.Fatalf("it begins at %d, the wall clock at %d", got, want)
			}
			off = c.set
			now, next := born, 0
			for second := 1; second <= 3600; second++ {
				before := s.unixMS(now)
				now = now.Add(time.Second)
				s.follow(now)
				if c.set.Abs() < clockStep && s.unixMS(now)-before-1000+1 > 2 {
					t.Fatalf("in second %d it went %d ms", second, s.unixMS(now)-before)
				}
				if second == 1 || second == 10 || second == 3600 {
					if got := time.Duration(s.lead.Load()); (got - c.at[next]).Abs() > time.Microsecond {
						t.Errorf("after %d s it has gone %v, want %v", second, got, c.at[next])
					}
					next++
				}
			}
		})
	}
}
