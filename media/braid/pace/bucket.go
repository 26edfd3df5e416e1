package pace

import (
	"math"
	"time"
)

const (
	bucketDepth = 40 * time.Millisecond // of its rate
	bucketLeast = 6000.0                // bytes: a few frames, whatever the rate
)

// Bucket spends a granted rate. What is taken may exceed what is there: the debt is waited for. The zero value has no
// rate, so nothing.
type Bucket struct {
	rate   float64 // bytes/s
	tokens float64
	at     time.Time
}

// Set changes the rate from now on.
func (b *Bucket) Set(now time.Time, rate float64) {
	b.fill(now)
	if math.IsInf(b.rate, 1) && !math.IsInf(rate, 1) {
		b.tokens = 0 // the queue that led to the limit is there already
	}
	b.rate = rate
}

func (b *Bucket) fill(now time.Time) {
	if dt := now.Sub(b.at).Seconds(); !b.at.IsZero() && dt > 0 && !math.IsInf(b.rate, 1) {
		b.tokens = min(b.tokens+dt*b.rate, max(bucketLeast, b.rate*bucketDepth.Seconds()))
	}
	b.at = now
}

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

// Wait is how long until there is room for n bytes, at most an hour.
func (b *Bucket) Wait(now time.Time, n float64) time.Duration {
	lack := n - b.Room(now)
	switch {
	case lack <= 0:
		return 0
	case b.rate <= 0 || lack/b.rate > 3600:
		return time.Hour
	}
	return time.Duration(lack / b.rate * float64(time.Second))
}
