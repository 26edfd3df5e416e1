package sim

import (
	"container/heap"
	"net/netip"
	"sync"
	"time"
)

const (
	// inFlightPackets bounds the packets under way in a network; more are dropped as they are sent.
	inFlightPackets = 1 << 18
	// coalesce is how much later than its instant a packet may arrive in real time, so that packets
	// that lie close together share one wake-up. Timers of the system are hardly finer.
	coalesce = 200 * time.Microsecond
	// never is the armed instant of an idle schedule.
	never = int64(1) << 62
)

// packet is one datagram under way or in a receive queue.
type packet struct {
	at       int64
	from, to netip.AddrPort
	origin   *Host
	target   *Host
	lane     *lane
	payload  []byte
}

var packets = sync.Pool{New: func() any { return &packet{payload: make([]byte, 0, 2048)} }}

// release gives a packet back; nobody may hold its payload.
func (p *packet) release() {
	p.origin, p.target, p.lane = nil, nil, nil
	packets.Put(p)
}

// schedule holds packets under way in a heap, and the one goroutine that delivers them.
type schedule struct {
	wake chan struct{} // capacity 1: an arrival earlier than armed was added
	stop chan struct{}
	done chan struct{}

	// Guarded by Network.mu.
	heap     flight
	instants map[int64]struct{} // arrivals in the heap, to keep them apart
	armed    int64              // when the goroutine will wake by itself
	started  bool

	halting sync.Once
}

func (s *schedule) init() {
	s.wake = make(chan struct{}, 1)
	s.stop = make(chan struct{})
	s.done = make(chan struct{})
	s.instants = make(map[int64]struct{})
	s.armed = never
}

// start launches the delivery goroutine once. Called with Network.mu held.
func (s *schedule) start(n *Network) {
	if !s.started {
		s.started = true
		go s.run(n)
	}
}

// halt ends the goroutine, if there is one, and waits for it.
func (s *schedule) halt() {
	s.halting.Do(func() { close(s.stop) })
	if s.started { // set before closed was, so no lock is needed any more
		<-s.done
	}
}

// add puts a copy of the packet into the heap, at an instant of its own. Called with Network.mu held.
func (s *schedule) add(a arrival, payload []byte, from, to netip.AddrPort, origin, target *Host, ln *lane) bool {
	if len(s.heap) >= inFlightPackets {
		return false
	}
	newest := a.at == ln.last
	for _, taken := s.instants[a.at]; taken; _, taken = s.instants[a.at] {
		a.at++
	}
	s.instants[a.at] = struct{}{}
	if newest {
		ln.last = a.at // the link keeps its order through the shift
	}
	p := packets.Get().(*packet)
	p.at, p.from, p.to, p.origin, p.target, p.lane = a.at, from, to, origin, target, ln
	p.payload = append(p.payload[:0], payload...)
	if a.flip >= 0 {
		p.payload[a.flip/8] ^= 1 << (a.flip % 8)
	}
	heap.Push(&s.heap, p)
	if a.at < s.armed {
		s.armed = a.at // one wake is enough until the goroutine looks again
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// run delivers packets until halt. It sleeps until the next arrival, or for ever while there is none.
func (s *schedule) run(n *Network) {
	defer close(s.done)
	slack := int64(coalesce)
	if clockStandsStill() {
		slack = 0
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		// An idle schedule holds no timer: in a bubble one that ticks for ever would hide a deadlock of the test.
		if wait, any := s.deliver(n, slack); any {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.stop:
			return
		}
	}
}

// deliver hands over everything that is due and returns how long to sleep; false if nothing is under way.
func (s *schedule) deliver(n *Network, slack int64) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	for len(s.heap) > 0 && s.heap[0].at <= now {
		p := heap.Pop(&s.heap).(*packet)
		delete(s.instants, p.at)
		n.arrive(p)
	}
	if len(s.heap) == 0 {
		s.armed = never
		return 0, false
	}
	s.armed = max(s.heap[0].at, now+slack)
	return time.Duration(s.armed - now), true
}

// clockStandsStill tells virtual time from real time: in a synctest bubble the clock does not move while
// code runs, whereas two readings of a real one differ within nanoseconds.
func clockStandsStill() bool {
	first := time.Now()
	for range 1000 {
		if !time.Now().Equal(first) {
			return false
		}
	}
	return true
}

// flight is a min-heap by arrival instant.
type flight []*packet

func (f flight) Len() int           { return len(f) }
func (f flight) Less(i, j int) bool { return f[i].at < f[j].at }
func (f flight) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(p any)        { *f = append(*f, p.(*packet)) }
func (f *flight) Pop() any {
	old := *f
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*f = old[:len(old)-1]
	return last
}
