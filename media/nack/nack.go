package nack

import (
	"slices"
	"sync"
	"time"
)

const (
	// maxMissing bounds the gaps that are remembered, and a jump that still counts as loss.
	maxMissing = 512
	// settle is how long a gap may be reordering before it is asked for.
	settle = 10 * time.Millisecond
	// maxTries and giveUp bound the requests for one packet: nobody plays what is later.
	maxTries = 10
	giveUp   = time.Second
	// firstTrip is taken for the round trip until one is measured. A request is repeated after a round trip and a half, at
	// least leastAgain.
	firstTrip  = 100 * time.Millisecond
	leastAgain = 30 * time.Millisecond
	// poll is how often Run looks while something is missing.
	poll = 10 * time.Millisecond
)

// missing is a packet that has not arrived though a later one has.
type missing struct {
	seq   uint16
	seen  time.Time // when a later one arrived
	first time.Time // when it was asked for
	asked time.Time // when it was last asked for
	tries int
}

// Requester keeps what is missing of one RTP stream; make it with New. Safe for concurrent use.
type Requester struct {
	wake chan struct{} // capacity 1: a gap is new

	mu      sync.Mutex // guards the rest
	started bool
	highest uint16
	gaps    []missing // by age, at most maxMissing
	trip    time.Duration
}

// New makes a Requester of a stream that has not begun.
func New() *Requester { return &Requester{wake: make(chan struct{}, 1)} }

// Run gives ask the sequence numbers to ask for whenever some are due, until done is closed. What ask gets is valid until it
// returns.
func (r *Requester) Run(done <-chan struct{}, ask func(lost []uint16)) {
	timer := time.NewTimer(poll)
	timer.Stop()
	defer timer.Stop()
	var lost []uint16
	more := false // the timer runs
	for {
		select {
		case <-done:
			return
		case <-r.wake:
			if !more { // else further gaps would put off the look at the first
				more = true
				timer.Reset(poll)
			}
			continue
		case <-timer.C:
		}
		if lost, more = r.due(time.Now(), lost[:0]); len(lost) > 0 {
			ask(lost)
		}
		if more {
			timer.Reset(poll)
		}
	}
}

// Arrived notes a packet by its sequence number, an original or a repaired one.
func (r *Requester) Arrived(now time.Time, seq uint16) {
	if !r.arrived(now, seq) {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// arrived says whether a gap is new.
func (r *Requester) arrived(now time.Time, seq uint16) (gap bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ahead := int16(seq - r.highest)
	switch {
	case !r.started:
		r.started, r.highest = true, seq
	case ahead == 1:
		r.highest = seq
	case ahead <= 0:
		r.fill(now, seq)
	case ahead > maxMissing:
		r.gaps, r.highest = r.gaps[:0], seq
	default:
		for lost := r.highest + 1; lost != seq; lost++ {
			if len(r.gaps) >= maxMissing {
				r.gaps = slices.Delete(r.gaps, 0, 1)
			}
			r.gaps = append(r.gaps, missing{seq: lost, seen: now})
		}
		r.highest = seq
		return true
	}
	return false
}

// fill takes a packet off what is missing. One that was asked for tells the round trip: surely if it was asked for once. If more
// often, the first request counts, with less weight: on a way longer than the wait nothing would ever be measured, and all be
// asked for twice.
func (r *Requester) fill(now time.Time, seq uint16) {
	i := slices.IndexFunc(r.gaps, func(m missing) bool { return m.seq == seq })
	if i < 0 {
		return
	}
	if m := r.gaps[i]; m.tries > 0 {
		sample, weight := now.Sub(m.first), time.Duration(8)
		if m.tries > 1 {
			weight = 32
		}
		if r.trip == 0 {
			weight = 1
		}
		r.trip += (sample - r.trip) / weight
	}
	r.gaps = slices.Delete(r.gaps, i, i+1)
}

// due appends to out the sequence numbers to ask for now, and says whether anything is missing still.
func (r *Requester) due(now time.Time, out []uint16) (lost []uint16, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.trip
	if again == 0 {
		again = firstTrip
	}
	again = max(again+again/2, leastAgain)
	r.gaps = slices.DeleteFunc(r.gaps, func(m missing) bool {
		return now.Sub(m.seen) > giveUp || m.tries >= maxTries && now.Sub(m.asked) > again
	})
	for i := range r.gaps {
		m := &r.gaps[i]
		if m.tries == 0 && now.Sub(m.seen) >= settle || m.tries > 0 && m.tries < maxTries && now.Sub(m.asked) >= again {
			if m.tries == 0 {
				m.first = now
			}
			m.asked = now
			m.tries++
			out = append(out, m.seq)
		}
	}
	return out, len(r.gaps) > 0
}
