package report

import (
	"slices"
	"sync"
	"time"
)

// window is how far a delivered 16-bit sequence number may lie from the newest one sent and still be recognised.
const window = 1 << 15

// Stream matches what left with what arrived. Instants are offsets from any common origin. The zero value is not useful; use NewStream.
type Stream struct {
	mu     sync.Mutex
	tracks map[string]*track // guarded by mu

	// Guarded by mu.
	counting   bool
	sent       uint64
	delivered  uint64
	duplicates uint64
	strangers  uint64
	latencies  []time.Duration
}

// track is one kind (audio, video) with its packets by extended sequence number.
type track struct {
	packets map[uint64]*sentPacket
	newest  uint64
	started bool
}

type sentPacket struct {
	at        time.Duration
	counts    bool // sent after the warm-up
	delivered bool
}

// NewStream returns a stream that is warming up.
func NewStream() *Stream { return &Stream{tracks: make(map[string]*track)} }

// Count ends the warm-up: packets sent from now on are counted.
func (s *Stream) Count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counting = true
}

// Sent notes a packet just before it is handed to the publisher's connection.
func (s *Stream) Sent(kind string, sequence uint16, at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tracks[kind]
	if t == nil {
		t = &track{packets: make(map[uint64]*sentPacket)}
		s.tracks[kind] = t
	}
	if !t.started {
		t.started, t.newest = true, 1<<16+uint64(sequence)
	} else {
		t.newest = t.extend(sequence)
	}
	t.packets[t.newest] = &sentPacket{at: at, counts: s.counting}
	if s.counting {
		s.sent++
	}
}

// Delivered notes a packet that reached the viewer. A second copy counts as a duplicate; one that was never sent as a stranger.
func (s *Stream) Delivered(kind string, sequence uint16, at time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tracks[kind]
	if t == nil || !t.started {
		s.strangers++
		return
	}
	p := t.packets[t.extend(sequence)]
	switch {
	case p == nil:
		s.strangers++
	case p.delivered:
		s.duplicates++
	default:
		p.delivered = true
		if p.counts {
			s.delivered++
			s.latencies = append(s.latencies, at-p.at)
		}
	}
}

// extend finds the number with these low 16 bits nearest to the newest one.
func (t *track) extend(sequence uint16) uint64 {
	n := t.newest&^0xffff | uint64(sequence)
	switch {
	case n > t.newest+window:
		n -= 1 << 16
	case n+window < t.newest:
		n += 1 << 16
	}
	return n
}

// Totals is a Stream's sum so far.
type Totals struct {
	Sent, Delivered uint64
	// Duplicates reached the viewer twice, Strangers were never sent; a sound mesh has neither.
	Duplicates, Strangers uint64
	Latency               Latency
}

// Latency is one-way, from the publisher's connection to the viewer's track, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Totals sums up; it may be called while packets flow.
func (s *Stream) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Totals{
		Sent: s.sent, Delivered: s.delivered, Duplicates: s.duplicates, Strangers: s.strangers,
		Latency: summarise(slices.Clone(s.latencies)),
	}
}

// summarise takes nearest-rank percentiles; no packets give zeros.
func summarise(l []time.Duration) Latency {
	if len(l) == 0 {
		return Latency{}
	}
	slices.Sort(l)
	rank := func(percent int) float64 {
		return milliseconds(l[max(0, (len(l)*percent+99)/100-1)])
	}
	return Latency{P50: rank(50), P99: rank(99), Max: milliseconds(l[len(l)-1])}
}

// milliseconds with microseconds behind the point.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
