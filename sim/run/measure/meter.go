package measure

import (
	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// maxLatency bounds what the histogram tells apart, in microseconds: ten minutes.
	maxLatency = 600_000_000
	// digits of a latency that are kept.
	digits = 3
)

// Meter is one viewer's arrivals. From and To bound the instants of sending that figures cover.
type Meter struct {
	from, to, deadline, step int64
	seen                     []uint64 // a bit for each packet number
	latency                  *hdrhistogram.Histogram
	series                   []Bucket

	sent, delivered, late, duplicates, altered, foreign uint64
	lastArrival, longestGap                             int64
	bursts                                              bursts
}

// Bucket is a spell of a stream as one viewer saw it, by the instant of sending.
type Bucket struct {
	Sent, Delivered, Late  uint64
	LatencySum, LatencyMax int64 // nanoseconds
}

// NewMeter measures packets sent in [from, to), with a playout deadline after each packet's sending, and a series of
// buckets of step; all in nanoseconds.
func NewMeter(from, to, deadline, step int64) *Meter {
	return &Meter{
		from: from, to: to, deadline: deadline, step: max(1, step),
		latency: hdrhistogram.New(1, maxLatency, digits), lastArrival: from,
	}
}

// Sent notes that the stream's source should have sent a packet then.
func (m *Meter) Sent(number uint64, at int64) {
	if b := m.bucket(at); b != nil {
		b.Sent++
	}
	if at >= m.from && at < m.to {
		m.sent++
	}
}

// Arrived notes a packet. It reports whether the packet had not come before.
func (m *Meter) Arrived(s Stamp, now int64) bool {
	if !m.mark(s.Number) {
		m.duplicates++
		return false
	}
	late := now-s.Sent > m.deadline
	if b := m.bucket(s.Sent); b != nil {
		b.Delivered++
		b.LatencySum += now - s.Sent
		b.LatencyMax = max(b.LatencyMax, now-s.Sent)
		if late {
			b.Late++
		}
	}
	if now >= m.from && now < m.to {
		m.longestGap = max(m.longestGap, now-m.lastArrival)
		m.lastArrival = now
	}
	if s.Sent < m.from || s.Sent >= m.to {
		return true
	}
	m.delivered++
	if late {
		m.late++
	}
	_ = m.latency.RecordValue(min(max(1, (now-s.Sent)/1000), maxLatency))
	return true
}

// Altered notes a packet that is not what was sent; Foreign one of another stream.
func (m *Meter) Altered() { m.altered++ }

// Foreign is explained at Altered.
func (m *Meter) Foreign() { m.foreign++ }

// mark sets a packet's bit; false if it was set.
func (m *Meter) mark(number uint64) bool {
	word, bit := int(number/64), uint64(1)<<(number%64)
	for len(m.seen) <= word {
		m.seen = append(m.seen, make([]uint64, max(64, len(m.seen)))...)
	}
	if m.seen[word]&bit != 0 {
		return false
	}
	m.seen[word] |= bit
	return true
}

// Has says whether a packet has arrived.
func (m *Meter) Has(number uint64) bool {
	word := int(number / 64)
	return word < len(m.seen) && m.seen[word]&(1<<(number%64)) != 0
}

func (m *Meter) bucket(at int64) *Bucket {
	i := int(at / m.step)
	if at < 0 || at >= m.to {
		return nil
	}
	for len(m.series) <= i {
		m.series = append(m.series, Bucket{})
	}
	return &m.series[i]
}

// bursts measures runs of losses.
type bursts struct{ lost, runs uint64 }

// Result is what a Meter found; times are nanoseconds.
type Result struct {
	Sent, Delivered, Late, Duplicates, Altered, Foreign uint64
	P50, P90, P99, P999, Max                            int64
	LongestGap                                          int64
	BurstRatio                                          float64 // mean length of loss bursts over that of random loss; at least 1
	MOS                                                 float64
	CDF                                                 []Point
	Series                                              []Bucket
}

// Point is one of a cumulative distribution: the share of delivered packets that took at most Latency nanoseconds.
type Point struct {
	Latency int64
	Share   float64
}

// Result closes the books: first and end are the first and one past the last packet number within the window.
func (m *Meter) Result(first, end uint64) Result {
	m.longestGap = max(m.longestGap, m.to-max(m.from, m.lastArrival))
	m.countBursts(first, end)
	r := Result{
		Sent: m.sent, Delivered: m.delivered, Late: m.late, Duplicates: m.duplicates, Altered: m.altered, Foreign: m.foreign,
		LongestGap: m.longestGap, BurstRatio: 1, Series: m.series,
	}
	if m.delivered > 0 {
		q := func(p float64) int64 { return m.latency.ValueAtQuantile(p) * 1000 }
		r.P50, r.P90, r.P99, r.P999, r.Max = q(50), q(90), q(99), q(99.9), m.latency.Max()*1000
		for _, b := range m.latency.CumulativeDistribution() {
			r.CDF = append(r.CDF, Point{Latency: b.ValueAt * 1000, Share: b.Quantile / 100})
		}
	}
	lost := 1.0
	if m.sent > 0 {
		lost = 1 - float64(m.delivered-m.late)/float64(m.sent)
	}
	if m.bursts.runs > 0 {
		r.BurstRatio = max(1, float64(m.bursts.lost)/float64(m.bursts.runs)*(1-min(lost, 1)))
	}
	r.MOS = MOS(float64(m.deadline)/1e6, lost, r.BurstRatio)
	return r
}

func (m *Meter) countBursts(first, end uint64) {
	m.bursts = bursts{}
	gap := false
	for n := first; n < end; n++ {
		if m.Has(n) {
			gap = false
			continue
		}
		m.bursts.lost++
		if !gap {
			m.bursts.runs++
		}
		gap = true
	}
}

// From is the first instant of sending that figures cover.
func (m *Meter) From() int64 { return m.from }
