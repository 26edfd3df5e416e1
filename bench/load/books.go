package load

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/pion/rtp"

	"github.com/ternmesh/tern/bench/client"
)

// books hold what was sent and what arrived. Packets that were sent within the window count.
type books struct {
	mu         sync.Mutex // guards everything below
	begin, end time.Time
	isOpen     bool
	sent       []uint64 // by publisher
	viewers    []uint64 // by publisher
	delivered  uint64
	arrived    uint64 // in the window, whenever sent
	foreign    uint64 // without our stamp
	twice      uint64 // that a viewer had got before
	latency    *hdrhistogram.Histogram
	joins      map[string]*hdrhistogram.Histogram // microseconds, by what joined

	// leaving is when packets left, by publisher, kind and sequence number: for viewers that read headers alone.
	leaving []*[2][1 << 16]time.Time
}

// Histograms reach from a microsecond to a minute, with three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

func newBooks(publishers int) *books {
	return &books{
		sent: make([]uint64, publishers), viewers: make([]uint64, publishers), latency: newHistogram(),
		joins: map[string]*hdrhistogram.Histogram{"publisher": newHistogram(), "viewer": newHistogram(), "newcomer": newHistogram()},
	}
}

// headers makes room for packets that are known by their headers. Before anything runs.
func (b *books) headers() {
	for range b.sent {
		b.leaving = append(b.leaving, new([2][1 << 16]time.Time))
	}
}

// kindOf is where books keep a packet.
func kindOf(h heading) int {
	if h.audio() {
		return 1
	}
	return 0
}

// left notes that a publisher's packet leaves at an instant.
func (b *books) left(publisher int, h heading, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.leaving[publisher][kindOf(h)][h.seq] = at
	if b.within(at) {
		b.sent[publisher]++
	}
}

// glimpsed notes a viewer's packet whose header alone was read; the server must not have renumbered it.
func (b *books) glimpsed(publisher int, h heading, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.within(at) {
		b.arrived++
	}
	sent := b.leaving[publisher][kindOf(h)][h.seq]
	switch {
	case sent.IsZero():
		b.foreign++
	case b.within(sent):
		b.took(at.Sub(sent))
	}
}

// took records one delivery. Called with mu held.
func (b *books) took(d time.Duration) {
	b.delivered++
	_ = b.latency.RecordValue(min(max(1, d.Microseconds()), b.latency.HighestTrackableValue()))
}

func (b *books) watched(stream int) { b.viewers[stream]++ } // before anything runs

func (b *books) joined(what string, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.joins[what].RecordValue(took.Microseconds()) // longer than a minute cannot be: joins are bounded
}

func (b *books) open(begin, end time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begin, b.end, b.isOpen = begin, end, true
}

// shut ends the window if it has not ended by itself, and says how long it was.
func (b *books) shut(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Before(b.end) {
		b.end = now
	}
	return b.end.Sub(b.begin)
}

// within says whether an instant lies in the window. Called with mu held.
func (b *books) within(at time.Time) bool {
	return b.isOpen && !at.Before(b.begin) && at.Before(b.end)
}

func (b *books) note(publisher int, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.within(at) {
		b.sent[publisher]++
	}
}

// receipts are what one viewer has got, by kind of track; guarded by books.mu.
type receipts map[string]*seen

// seen remembers which of the newest packets of a track have come, so that none counts twice; the zero value is ready.
type seen struct {
	newest uint64 // the highest number, plus one
	bits   [64]uint64
}

// first says whether a number comes for the first time, and takes note. What is older than the memory counts as come.
func (s *seen) first(number uint64) bool {
	const size = uint64(len(s.bits) * 64)
	if number+size < s.newest {
		return false
	}
	for ; s.newest <= number; s.newest++ {
		if number-s.newest >= size { // a leap: nothing of what was remembered is left
			s.bits, s.newest = [64]uint64{}, number
		}
		s.bits[s.newest/64%64] &^= 1 << (s.newest % 64)
	}
	word, bit := &s.bits[number/64%64], uint64(1)<<(number%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (b *books) received(got receipts, kind string, payload []byte, at time.Time) {
	number, sent, ok := client.Stamp(payload)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.within(at) {
		b.arrived++
	}
	switch {
	case !ok:
		b.foreign++
	case !got.first(kind, number):
		b.twice++
	case b.within(sent):
		b.took(at.Sub(sent))
	}
}

func (r receipts) first(kind string, number uint64) bool {
	if r[kind] == nil {
		r[kind] = new(seen)
	}
	return r[kind].first(number)
}

func (b *books) arrivals() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.arrived
}

// counted notes what a source sends.
type counted struct {
	client.Synthetic
	publisher int
	books     *books
}

// Run implements client.Source.
func (c counted) Run(ctx context.Context, keyframe <-chan struct{}, send func(int, *rtp.Packet) error) error {
	return c.Synthetic.Run(ctx, keyframe, func(track int, p *rtp.Packet) error {
		if _, at, ok := client.Stamp(p.Payload); ok {
			c.books.note(c.publisher, at)
		}
		return send(track, p)
	})
}
