package bench

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/ternmesh/tern/media/braid"
)

// delayStep is how finely delays are kept.
const delayStep = 100 * time.Microsecond

// delays is a histogram in steps of delayStep: a run of hours needs no more memory than one of seconds.
type delays struct {
	steps []uint32
	n     int
}

func (d *delays) add(v time.Duration) {
	i := int(max(0, v) / delayStep)
	for i >= len(d.steps) {
		d.steps = append(d.steps, make([]uint32, i+1-len(d.steps))...)
	}
	d.steps[i]++
	d.n++
}

// at is the lower end of the step in which quantile q lies, in milliseconds; 0 of nothing.
func (d *delays) at(q float64) float64 {
	rank := int(q * float64(d.n-1))
	for i, n := range d.steps {
		if rank -= int(n); rank < 0 {
			return float64(time.Duration(i)*delayStep) / float64(time.Millisecond)
		}
	}
	return 0
}

// arrivals is what the receiver of a run saw; packets carry their number and the instant they were sent.
type arrivals struct {
	mu    sync.Mutex
	count uint64 // of all packets
	book  *arrivalBook
}

// arrivalBook is what is kept of the packets from up to, not including, to.
type arrivalBook struct {
	from, to uint64
	seen     []uint64 // a bit for each
	got      int
	latency  delays // of the first copies to arrive
	again    bool   // what arrives now has been sent again: a repair
	prompt   delays // latency without repairs
}

// stamp writes number and time into a packet.
func stamp(packet []byte, n uint64) {
	binary.BigEndian.PutUint64(packet, n)
	binary.BigEndian.PutUint64(packet[8:], uint64(time.Now().UnixNano()))
}

// expect begins a book of the packets from up to, not including, to.
func (a *arrivals) expect(from, to uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.book = &arrivalBook{from: from, to: to, seen: make([]uint64, (to-from+63)/64)}
}

func (a *arrivals) add(packet []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
	b := a.book
	if b == nil || len(packet) < 16 {
		return
	}
	n := binary.BigEndian.Uint64(packet)
	if n < b.from || n >= b.to {
		return
	}
	word, bit := &b.seen[(n-b.from)/64], uint64(1)<<((n-b.from)%64)
	if *word&bit != 0 {
		return
	}
	*word |= bit
	b.got++
	late := time.Duration(time.Now().UnixNano() - int64(binary.BigEndian.Uint64(packet[8:])))
	b.latency.add(late)
	if !b.again {
		b.prompt.add(late)
	}
}

// resent says whether what arrives from now on has been sent again.
func (a *arrivals) resent(again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.book != nil {
		a.book.again = again
	}
}

// close ends the book and returns it.
func (a *arrivals) close() arrivalBook {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := *a.book
	a.book = nil
	return b
}

// missing is how many of the packets did not arrive.
func (b *arrivalBook) missing() int { return int(b.to-b.from) - b.got }

func (a *arrivals) total() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// Opened implements braid.Handler, as do the three below.
func (a *arrivals) Opened(*braid.Session)                            {}
func (a *arrivals) Closed(*braid.Session, error)                     {}
func (a *arrivals) Packet(_ *braid.Session, _ uint16, packet []byte) { a.add(packet) }
func (a *arrivals) Message(*braid.Session, []byte)                   {}
