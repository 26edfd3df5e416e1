package bench

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/ternmesh/tern/media/braid"
	"github.com/ternmesh/tern/sim"
)

// A short run of what braid-loss measures: the braid loses the product of the paths' losses, repairs nearly all of it, and is as
// fast as the first copy to arrive.
func TestABraidLosesTheProductAndTakesTheFirstCopy(t *testing.T) {
	c := lossCase{delays: lossWays, loss: 0.3, rate: 200, time: 5 * time.Second}
	var r lossResult
	var err error
	if bubble := inBubble(t)(func() { r, err = lossBraid(&c, 3, braid.Frames) }); bubble != nil || err != nil {
		t.Fatal(bubble, err)
	}
	w := r.watch
	if r.sent != 1000 || w.sent != r.sent || w.copies != [3]int{w.sent, w.sent, w.sent} {
		t.Fatalf("%d packets, %d frames, %v copies: want 1,000 throughout", r.sent, w.sent, w.copies)
	}
	if lost := w.lost(); lost < 8 || lost > 60 || r.undelivered > lost/3 || w.lost()-r.undelivered > int(r.repaired)+5 {
		t.Errorf("%d lost before repair (theory %.0f), %d after it, %d repaired", lost, 1000*c.theory(), r.undelivered, r.repaired)
	}
	for path := range 3 {
		if share := w.share(path); math.Abs(share-c.loss) > 0.06 {
			t.Errorf("path %d lost %.3f, want about %.2f", path, share, c.loss)
		}
	}
	for _, q := range []float64{0.5, 0.9} {
		if ours, best := r.prompt.at(q), w.best.at(q); best < 50 || ours > 1.05*best {
			t.Errorf("quantile %.1f: %.1f ms, the first copy %.1f", q, ours, best)
		}
	}
}

func TestTheoryOfLosses(t *testing.T) {
	for _, c := range []struct {
		of   lossCase
		want float64
	}{
		{lossCase{loss: 0.05}, 0.000125},
		{lossCase{bursts: burstCases[0].bursts}, 8e-6},
		{lossCase{loss: 0.01, joint: 0.006}, 0.006 + 0.994e-6},
		{lossCase{loss: 0.1, bursts: sim.GilbertElliott{P: 0.1, R: 0.3}}, math.Pow(1-0.9*0.75, 3)},
	} {
		if got := c.of.theory(); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v: %v, want %v", c.of, got, c.want)
		}
	}
}

func TestDelaysAsAHistogram(t *testing.T) {
	var d delays
	if d.at(0.5) != 0 {
		t.Error("quantiles of nothing")
	}
	for i := range 1000 {
		d.add(time.Duration(i) * time.Millisecond)
	}
	if got := fmt.Sprint(d.at(0), d.at(0.5), d.at(0.99), d.at(1)); got != "0 499 989 999" {
		t.Errorf("quantiles %s", got)
	}
}

// braid-outage, short: what the dead paths would have brought comes by those that live, without a repair.
func TestNothingIsLostWhileOnePathLives(t *testing.T) {
	for _, down := range []int{1, 2} {
		var r lossResult
		var err error
		if bubble := inBubble(t)(func() { r, err = (outage{4 * time.Second, time.Second, 3 * time.Second}).run(down) }); bubble != nil || err != nil {
			t.Fatal(bubble, err)
		}
		if r.sent != 800 || r.undelivered != 0 || r.repaired != 0 {
			t.Errorf("%d paths down: %d of %d packets lost, %d repaired", down, r.undelivered, r.sent, r.repaired)
		}
	}
}
