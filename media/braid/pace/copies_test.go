package pace

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Against brute force: no set with the first path in it is smaller and good enough.
func TestChooseTakesAsFewPathsAsPossible(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	losses := []float64{0, 1.1e-5, 1e-4, 2.3e-4, 1.3e-3, 0.0117, 0.0519, 0.213, 1} // no two products are equal by chance
	for range 20_000 {
		n := 1 + rng.IntN(4)
		loss := make([]float64, n)
		var usable Set
		for i := range loss {
			loss[i] = losses[rng.IntN(len(losses))]
			if rng.IntN(4) > 0 {
				usable |= 1 << i
			}
		}
		first, target := rng.IntN(n), losses[1+rng.IntN(4)]
		got, short := Choose(loss, usable, first, target, 0)
		best := -1
		for set := Set(1); set < 1<<n; set++ {
			if set.Has(first) && set&^(1<<first)&^usable == 0 && product(loss, set) <= target && (best < 0 || set.Len() < best) {
				best = set.Len()
			}
		}
		good := product(loss, got) <= target
		if !got.Has(first) || got&^(1<<first)&^usable != 0 || good != (best > 0) || good && got.Len() != best || good == (short > 0) {
			t.Fatalf("loss %v usable %b first %d target %g: set %b, short %d; the smallest has %d", loss, usable, first, target, got, short, best)
		}
	}
}

func product(loss []float64, set Set) float64 {
	p := 1.0
	for i := range loss {
		if set.Has(i) {
			p *= loss[i]
		}
	}
	return p
}

func TestExtraStepsTakeMorePathsThenTimeShifts(t *testing.T) {
	loss := []float64{1e-5, 1e-3, 1e-2}
	for _, c := range []struct {
		extra  int
		set    Set
		shifts int
	}{{0, 0b001, 0}, {1, 0b011, 0}, {2, 0b111, 0}, {3, 0b111, 1}} {
		if set, short := Choose(loss, 0b111, 0, 1e-4, c.extra); set != c.set || short != c.shifts {
			t.Errorf("%d extra steps: paths %b, %d shifts; want %b, %d", c.extra, set, short, c.set, c.shifts)
		}
	}
}

// A brownout is acted upon by the report that brings the first losses, and forgotten over seconds.
func TestBrownoutIsNoticedWithin200msAndForgottenSlowly(t *testing.T) {
	const pps, every = 2000, 50 * time.Millisecond
	for _, share := range []float64{0.01, 0.03, 0.05, 0.2} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 4))
			var l Loss
			now := time.Unix(1000, 0)
			report := func(p float64) {
				lost := 0.0
				for range int(pps * every.Seconds()) {
					if rng.Float64() < p {
						lost++
					}
				}
				now = now.Add(every)
				l.Add(now, pps*every.Seconds(), lost)
			}
			for range 400 {
				report(0)
			}
			if l.Share() > DefaultResidual {
				t.Fatalf("20 s without loss: %g", l.Share())
			}
			began := now
			for l.Share() <= DefaultResidual {
				report(share)
			}
			if d := now.Sub(began); d > 200*time.Millisecond {
				t.Errorf("noticed after %v", d)
			}
			for range 600 {
				report(share)
			}
			if l.Share() < share/2 || l.Share() > 3*share+0.02 {
				t.Errorf("after 30 s the estimate is %g", l.Share())
			}
			began = now
			for l.Share() > DefaultResidual {
				report(0)
			}
			if d := now.Sub(began); d < 5*time.Second || d > 90*time.Second {
				t.Errorf("forgotten after %v, want seconds, not minutes", d)
			}
		})
	}
}

// What was counted too early is taken back.
func TestLossTakesBack(t *testing.T) {
	var l Loss
	now := time.Unix(1000, 0)
	l.Add(now, 100, 3)
	l.Add(now, 0, -3)
	if l.count() != 0 {
		t.Errorf("%v losses remembered", l.count())
	}
}

// Joint loss escapes the product of the paths' losses; its measured share asks for steps, each kept longer when it was
// needed again.
func TestResidualAsksForStepsAndGivesThemBack(t *testing.T) {
	var r Residual
	now := time.Unix(1000, 0)
	step := func(lost float64) { now = now.Add(50 * time.Millisecond); r.Add(now, 100, lost, 1e-4, 3, testRTT) }
	until := func(want int, lost float64, most time.Duration) time.Duration {
		t.Helper()
		began := now
		for r.Extra() != want {
			if step(lost); now.Sub(began) > most {
				t.Fatalf("after %v %d steps, want %d", now.Sub(began), r.Extra(), want)
			}
		}
		return now.Sub(began)
	}
	step(1)
	for range 40 {
		step(0)
	}
	if r.Extra() != 0 {
		t.Error("a single loss was enough")
	}
	until(1, 1, time.Second)
	until(3, 1, 3*time.Second)
	for range 100 {
		step(1)
	}
	if r.Extra() != 3 {
		t.Errorf("%d steps, there are 3", r.Extra())
	}
	first := until(2, 0, time.Minute)
	until(3, 1, time.Second)
	if again := until(2, 0, 2*time.Minute); first < backFirst || again < 2*first-time.Second {
		t.Errorf("a step was kept for %v, and when it was needed again for %v", first, again)
	}
}

// Bursts on all paths at once move the choice, too, forth with the burst and back behind it. What they lose counts all the same.
func TestAChoiceThatGoesBackAndForthHidesNoLoss(t *testing.T) {
	var r Residual
	now := time.Unix(1000, 0)
	r.Add(now, 100, 0, 1e-3, 3, testRTT)
	for began := now; r.Extra() == 0; {
		for i := range 4 {
			now = now.Add(50 * time.Millisecond)
			if i < 2 {
				r.Moved(now)
			}
			lost := 0.0
			if i == 0 {
				lost = 5
			}
			r.Add(now, 50, lost, 1e-3, 3, testRTT)
		}
		if now.Sub(began) > 2*time.Second {
			t.Fatal("2.5 % of the frames are lost on all paths, and no step is taken in 2 s")
		}
	}
}

func TestTrialsGoRound(t *testing.T) {
	counts := map[int]int{}
	for n := range uint64(1000 * trialEvery) {
		counts[Trial(n, 3, 0b001, 0b011)]++
	}
	if counts[1] != 1000 || counts[0] != 0 || counts[2] != 0 {
		t.Errorf("trials by path: %v; want 1,000 on the one that is usable and not chosen", counts)
	}
}
