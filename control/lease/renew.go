package lease

import (
	"errors"
	"time"
)

// Times of renewal. A lease is renewed after a seventh of its time, which is a day of Term.
const (
	renewParts  = 7
	jitterParts = 336 // of its time, to either side: half an hour of Term
	retryFirst  = time.Minute
	retryMost   = time.Hour
)

// ErrNotListed is an authority's answer to a node that it does not know, or knows no more.
var ErrNotListed = errors.New("the authority does not list this node")

// Alarm is what a round of renewal tells the operator.
type Alarm string

// The alarms of a round.
const (
	NoAlarm Alarm = ""
	// Connect: no authority answered; the node goes on until the lease ends.
	Connect Alarm = "connect"
	// NotListed: an authority answered that the node is not listed, and none gave a lease; the lease runs out.
	NotListed Alarm = "not_listed"
	// Clock: an authority's clock and this machine's are too far apart, and none gave a lease.
	Clock Alarm = "clock"
)

// Round is one attempt to renew, authority by authority in their order; any one success is enough and ends it.
type Round struct {
	Lease  *Lease  // nil: none; the file stays untouched
	From   int     // which authority gave it
	Alarm  Alarm   // NoAlarm with a lease
	Errors []error // of the authorities before From, or all
}

// Renew asks n authorities in turn; ask returns the i-th one's lease, checked, or why there is none.
func Renew(n int, ask func(i int) (Lease, error)) Round {
	r := Round{Alarm: Connect}
	for i := range n {
		l, err := ask(i)
		if err == nil {
			return Round{Lease: &l, From: i, Errors: r.Errors}
		}
		switch {
		case errors.Is(err, ErrNotListed):
			r.Alarm = NotListed
		case errors.Is(err, ErrClock) && r.Alarm == Connect:
			r.Alarm = Clock
		}
		r.Errors = append(r.Errors, err)
	}
	return r
}

// Next is how long to wait after a round. granted is the time of the lease in the file; after a lease (failures is 0) it is a
// day and a jitter (random is in [0, 1)) for Term, in proportion for less; after failed rounds in a row a back-off that doubles
// from a minute to an hour, and never waits longer than for the next renewal.
func Next(granted time.Duration, failures int, random float64) time.Duration {
	every, jitter := granted/renewParts, granted/jitterParts
	if failures == 0 {
		return every - jitter + time.Duration(random*float64(2*jitter))
	}
	wait := min(retryFirst, max(every/8, time.Second))
	for range min(failures-1, 10) {
		wait *= 2
	}
	return min(wait, retryMost, max(every, time.Second))
}
