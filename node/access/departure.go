package access

import (
	"sync"
	"time"
)

// movesPerSecond spreads the joins that a departure brings upon the other nodes.
const movesPerSecond = 50

// departure is what sessions are told while they should leave this node. It does not change once it is announced.
type departure struct {
	by     time.Time     // when those that are left end; zero: never
	spread time.Duration // over which clients are told
	final  bool          // the node stops: event streams end with the news
}

// departures is the departure of this moment, and how those who wait for one learn of it.
type departures struct {
	mu      sync.Mutex
	now     *departure    // nil: sessions may stay
	changed chan struct{} // closed at the next change
}

// current returns what holds, and what is closed when it holds no more.
func (d *departures) current() (*departure, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now, d.changed
}

// set announces a departure, or its end. Nothing follows the last one.
func (d *departures) set(next *departure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now == next || d.now != nil && d.now.final {
		return
	}
	d.now = next
	close(d.changed)
	d.changed = make(chan struct{})
}

// Depart asks the WebRTC clients that listen for it to move to the node that Config.Elsewhere names, spread over some time;
// by is when the sessions that are left end, zero: never. Again with the same deadline it does nothing. Sessions of clients
// that do not listen are not touched.
func (a *Access) Depart(by time.Time) {
	if d, _ := a.departures.current(); d != nil && d.by.Equal(by) {
		return
	}
	a.mu.Lock()
	spread := time.Duration(len(a.sessions)) * time.Second / movesPerSecond
	a.mu.Unlock()
	if !by.IsZero() {
		spread = max(0, min(spread, by.Sub(a.now())/2))
	}
	a.departures.set(&departure{by: by, spread: spread})
}

// Remain takes a departure back. Who was told of it goes all the same.
func (a *Access) Remain() { a.departures.set(nil) }

// Farewell tells all who listen to go at once, and ends their event streams: the node stops.
func (a *Access) Farewell() { a.departures.set(&departure{by: a.now(), final: true}) }
