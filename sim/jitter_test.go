package sim

import (
	"math"
	"testing"
	"time"
)

func TestEveryJitterModelHasTheMeanItSays(t *testing.T) {
	const draws = 200_000
	for name, m := range JitterModels {
		sum := 0.0
		for i := range draws {
			q := m.quantile((float64(i) + 0.5) / draws)
			if q < 0 || math.IsNaN(q) {
				t.Fatalf("%s: draw %d gives %v", name, i, q)
			}
			sum += q
		}
		within(t, name+" mean", sum/draws, 1, 0.02)
	}
}

func TestALossTraceStartsOver(t *testing.T) {
	trace := LossTrace{{For: time.Second, Loss: 0}, {For: time.Second, Loss: 1}}
	for at, want := range map[time.Duration]float64{0: 0, 999 * time.Millisecond: 0, time.Second: 1, 2 * time.Second: 0, 7500 * time.Millisecond: 1} {
		if got := trace.at(int64(at)); got != want {
			t.Errorf("loss %v at %v, want %v", got, at, want)
		}
	}
	l := &lane{seed: 3, link: Link{Trace: trace}}
	for i := range 40 {
		now := int64(i) * int64(100*time.Millisecond)
		lost := len(l.carry(now, packetSize, packetSize-28, nil)) == 0
		if want := i/10%2 == 1; lost != want {
			t.Errorf("packet %d: lost %v, want %v", i, lost, want)
		}
	}
	if (Link{Trace: LossTrace{{For: 0, Loss: 2}}}).Validate() == nil {
		t.Error("a step without length and with a loss of 2 was taken")
	}
}

func TestASharedRiskCutsEveryDirectionThatDependsOnIt(t *testing.T) {
	n := New(1)
	defer n.Close()
	n.Share("cable", "a", "b")
	n.Share("cable", "b", "a")
	n.Share("site", "a", "b")
	n.FailRisk("cable")
	n.FailRisk("site")
	n.MendRisk("cable")
	cut := func(from, to string) bool {
		ln := n.lane(from, to)
		return len(ln.carry(0, packetSize, packetSize-28, nil)) == 0
	}
	if !cut("a", "b") || cut("b", "a") || cut("a", "c") {
		t.Errorf("after the cable was mended: a-b cut %v (the site is still down), b-a cut %v, a-c cut %v", cut("a", "b"), cut("b", "a"), cut("a", "c"))
	}
	n.MendRisk("site")
	n.MendRisk("site") // once too often must not go below zero
	n.FailRisk("site")
	if !cut("a", "b") {
		t.Error("a risk that failed after one mend too many does not cut")
	}
}
