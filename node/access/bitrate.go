package access

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// bitrateSwing is how far above its app's limit a publisher may be: encoders swing, and headers count.
	bitrateSwing = 1.25
	// bitrateBurst is how much may come at once: a keyframe is many times a frame.
	bitrateBurst = time.Second
	// bitratePatience is how long packets are dropped before the session ends; a second without a drop begins anew.
	bitratePatience = 30 * time.Second
)

// allowance holds one publisher to its app's bit rate, all tracks together: a token bucket. The zero value allows all.
type allowance struct {
	limit atomic.Int64 // bit/s; 0: none

	mu          sync.Mutex // guards the rest
	spent       float64    // bits that the bucket lacks
	at          time.Time
	since, last time.Time // of drops
}

// take says whether size bytes may pass at now, and whether the publisher has been told in vain for too long.
func (a *allowance) take(now time.Time, size int) (ok, enough bool) {
	limit := float64(a.limit.Load())
	if limit == 0 {
		return true, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spent = max(0, a.spent-bitrateSwing*limit*now.Sub(a.at).Seconds())
	a.at = now
	if bits := float64(8 * size); a.spent+bits <= bitrateSwing*limit*bitrateBurst.Seconds() {
		a.spent += bits
		return true, false
	}
	if now.Sub(a.last) > time.Second {
		a.since = now
	}
	a.last = now
	return false, now.Sub(a.since) >= bitratePatience
}

// mayPublish counts a packet of a publisher against its app's bit rate. A publisher that goes on far above it is ended.
func (s *session) mayPublish(size int) bool {
	ok, enough := s.rate.take(s.a.now(), size)
	if ok {
		return true
	}
	s.a.counts.bitrate.Add(1)
	if enough {
		s.end("bitrate")
	}
	return false
}
