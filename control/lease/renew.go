package lease

import (
	"errors"
	"time"
)

// Times of renewal.
const (
	renewEvery  = 24 * time.Hour
	renewJitter = 30 * time.Minute // to either side
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
		if errors.Is(err, ErrNotListed) {
			r.Alarm = NotListed
		}
		r.Errors = append(r.Errors, err)
	}
	return r
}

// Next is how long to wait after a round: a day and a jitter after a lease (random is in [0, 1)), else a back-off that doubles
// with every failed round in a row, from a minute to an hour.
func Next(ok bool, failures int, random float64) time.Duration {
	if ok {
		return renewEvery - renewJitter + time.Duration(random*float64(2*renewJitter))
	}
	wait := retryFirst
	for range min(failures-1, 10) {
		wait *= 2
	}
	return min(wait, retryMost)
}
