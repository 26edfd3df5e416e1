package pace

import (
	"math"
	"time"
)

const (
	bucketDepth = 20 * time.Millisecond // of its rate
	// Slack in bytes, a few frames: the least depth of a bucket, and what a sender may take on credit.
	Slack = 6000.0
	// lateMost is how much of its rate a bucket brings to a taker that comes late: older media is of no use.
	lateMost = 160 * time.Millisecond
)

// Bucket spends a granted rate. What is taken may exceed what is there: the debt is waited for. What nobody came for is
// there up to the depth, and beyond it for a taker that its machine ran late (Late). The zero value has no rate, so nothing.
type Bucket struct {
	rate   float64 // bytes/s
	depth  float64 // bytes
	tokens float64
	at     time.Time
}

// Set changes the rate from now on.
func (b *Bucket) Set(now time.Time, rate float64) {
	b.SetBurst(now, rate, max(Slack, rate*bucketDepth.Seconds()))
}

// SetBurst is Set with the bytes that may leave at once.
func (b *Bucket) SetBurst(now time.Time, rate, depth float64) {
	b.fill(now)
	b.depth = depth
	if math.IsInf(b.rate, 1) && !math.IsInf(rate, 1) {
		b.tokens = 0 // the queue that led to the limit is there already
	}
	b.rate = rate
}

func (b *Bucket) fill(now time.Time) {
	if dt := now.Sub(b.at).Seconds(); !b.at.IsZero() && dt > 0 && !math.IsInf(b.rate, 1) {
		b.tokens = min(b.tokens+dt*b.rate, b.depth+b.rate*lateMost.Seconds())
	}
	b.at = now
}

// Late tells, before anything is taken, for how long the oldest of what is to be taken has waited: what the rate brought in that
// time is there, whatever the depth. One who is on time has taken it meanwhile, so this allows nothing to him.
func (b *Bucket) Late(now time.Time, waited time.Duration) {
	if b.fill(now); !b.Unlimited() {
		b.tokens = min(b.tokens, b.depth+b.rate*max(0, waited).Seconds())
	}
}

// Rate is the granted rate, in bytes/s.
func (b *Bucket) Rate() float64 { return b.rate }

// Unlimited reports whether nothing needs to be asked of the bucket.
func (b *Bucket) Unlimited() bool { return math.IsInf(b.rate, 1) }

// Room in bytes at now, infinite if unlimited; negative while there is debt.
func (b *Bucket) Room(now time.Time) float64 {
	if b.Unlimited() {
		return math.Inf(1)
	}
	b.fill(now)
	return b.tokens
}

// Take n bytes, on credit if they are not there.
func (b *Bucket) Take(n int) { b.tokens -= float64(n) }
