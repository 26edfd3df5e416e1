package sim

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// JitterModel is the shape of a link's additional delay. All shapes have the mean that Link.Jitter says, so that
// changing the shape changes the tail and not the average.
type JitterModel uint8

// Shapes, from a bounded one to a heavy tail.
const (
	// Exponential is the default: a queue at moderate load.
	Exponential JitterModel = iota
	// Uniform lies between none and twice the mean.
	Uniform
	// Normal has a standard deviation of a third of its mean; what would be negative is none.
	Normal
	// Lognormal has a sigma of 1: long, but with all moments.
	Lognormal
	// Pareto has a shape of 2.5 and starts at none: rare, very late packets.
	Pareto
)

// JitterModels are the names of the shapes, as scenario files write them.
var JitterModels = map[string]JitterModel{
	"exponential": Exponential, "uniform": Uniform, "normal": Normal, "lognormal": Lognormal, "pareto": Pareto,
}

// paretoShape is the exponent of Pareto's tail; its variance is finite, its third moment is not.
const paretoShape = 2.5

func (m JitterModel) known() bool { return m <= Pareto }

// quantile turns a uniform draw u in [0,1) into a multiple of the mean.
func (m JitterModel) quantile(u float64) float64 {
	switch m {
	case Uniform:
		return 2 * u
	case Normal:
		return max(0, 1+gauss(u)/3)
	case Lognormal:
		return math.Exp(gauss(u) - 0.5) // the mean of exp(N(0,1)) is exp(1/2)
	case Pareto:
		// Lomax: mean scale/(shape-1), so the scale for a mean of 1 is shape-1.
		return (paretoShape - 1) * (math.Pow(1-u, -1/paretoShape) - 1)
	default:
		return -math.Log(1 - u)
	}
}

// gauss is the quantile function of the standard normal distribution.
func gauss(u float64) float64 { return math.Sqrt2 * math.Erfinv(2*u-1) }

// LossTrace is a recording of loss: steps that follow one another from the network's birth on and start over at the
// end. Its holders do not change it.
type LossTrace []LossStep

// LossStep is a spell with one loss probability, 0 to 1.
type LossStep struct {
	For  time.Duration
	Loss float64
}

// at is the loss at an instant (nanoseconds since the network was made).
func (t LossTrace) at(now int64) float64 {
	if len(t) == 0 {
		return 0
	}
	var total int64
	for _, s := range t {
		total += int64(s.For)
	}
	if total <= 0 {
		return 0
	}
	now %= total
	for _, s := range t {
		if now -= int64(s.For); now < 0 {
			return s.Loss
		}
	}
	return 0
}

func (t LossTrace) validate() error {
	var errs []error
	for i, s := range t {
		if s.For <= 0 || !(s.Loss >= 0 && s.Loss <= 1) {
			errs = append(errs, fmt.Errorf("step %d of the loss trace lasts %v with loss %v, want a positive time and a share", i, s.For, s.Loss))
		}
	}
	return errors.Join(errs...)
}
