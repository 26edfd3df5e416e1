package pace

import (
	"math"
	"time"
)

const (
	queueLeast  = 15 * time.Millisecond // a lower delay above the floor is no queue
	queueJitter = 2                     // times the jitter: neither is this
	queueMarked = 0.1                   // share of marked frames that is a queue
	sureAfter   = 60 * time.Millisecond // how long a queue must last to count, beyond the path's lead over slower ones
	sureSooner  = 30 * time.Millisecond // less, if it is twice as high or loses; three times as high counts at once
	leadMost    = 150 * time.Millisecond
	sampleLeast = 8 // frames in a sample
	sampleMost  = 200 * time.Millisecond
	flowSpan    = 100 * time.Millisecond
	longSpan    = 300 * time.Millisecond
	rateSpan    = 50 * time.Millisecond // at least, for a rate: reports that were held up come all at once
	clockSlack  = time.Second           // for what two reports are on their way themselves
	staleAfter  = time.Second           // without feedback, what was seen of a path says nothing any more
	floorHalf   = 15 * time.Second
	peakHalf    = 5 * time.Second
	// A delay that moves by less than stillRange in stillFor after we have cut is no queue.
	stillRange = 3 * time.Millisecond
	stillFor   = time.Second
	// fairAfter is how long a queue must stay although we have cut to half before it counts as others'.
	// A bulk flow empties the queue now and then; fairEnds is longer than that.
	fairAfter   = time.Second
	fairEnds    = 2 * time.Second
	fairQueue   = 250 * time.Millisecond
	fairGrows   = 1.02 // per sample
	segmentSize = 1300 // bytes, for the TCP-friendly rate
	floodTimes  = 4    // times what arrives: whoever sends so much has filled a buffer before the delay shows it
	activeShare = 0.1  // of what its flow's busiest path carries: a path with less shows others' queues, not ours
)

// Sample is what a receiver reports of one path since its last report, and what the sender sent meanwhile.
type Sample struct {
	Interval time.Duration
	Frames   int // that arrived
	Lost     int // that did not; negative: were counted too early
	Marked   int // of those that arrived
	Bytes    int // that arrived
	Sent     int // bytes, in about the same time
	// MinDelay is the lowest one-way delay among the frames, as the two clocks have it; only differences matter.
	MinDelay time.Duration
	Jitter   time.Duration
	RTT      time.Duration
}

// Path is one direction of one path of a flow. Its methods belong to Control's caller, under the same lock.
type Path struct {
	flow *Flow
	hop  uint32
	link *Link // of hop, while the flow uses the path
	rate Rate
	loss Loss

	sum   Sample // not yet judged
	floor minimum
	still extent // of the delay, since the last cut

	at        time.Time     // of the last judged sample
	delay     time.Duration // its MinDelay
	queueing  bool          // in the newest sample
	since     time.Time     // when the queue began; zero = none, or its evidence is used up
	others    time.Time     // since when the queue has stayed although we cut
	clear     time.Time     // since when there is no queue; zero = there is
	lead      time.Duration // by how much it is faster than the slowest active path of its flow
	excused   time.Time     // until then, queues are the past of a group that was cut
	queue     time.Duration
	floods    bool    // floodTimes what arrives is sent
	fair      float64 // bytes/s that the needed copy may have whatever the cap; 0 = none
	lately    flowed
	longer    flowed
	delivered float64 // bytes/s, lately
	lasting   float64 // the same, over a longer time
	arrives   float64 // the more of the two: what is sure to fit
	sent      float64 // the same
	peak      peak    // of delivered
	rtt       time.Duration
	usable    bool

	grant Grant
}

// Grant is what a path may carry, in bytes/s; infinite where nothing limits it.
type Grant struct{ Needed, Copies float64 }

// Grant as of the last Deal.
func (p *Path) Grant() Grant { return p.grant }

// Loss is the estimate of the path's loss.
func (p *Path) Loss() float64 { return p.loss.Share() }

// QueueDelay is the delay above the floor in the newest sample.
func (p *Path) QueueDelay() time.Duration { return p.queue }

// Capped reports the path's own cap in bytes/s, 0 if it has none.
func (p *Path) Capped() float64 { return p.rate.cap }

// take adds a sample and reports whether there is enough to judge.
func (p *Path) take(now time.Time, s Sample) bool {
	p.loss.Add(now, float64(max(0, s.Frames+s.Lost)), float64(s.Lost))
	t := &p.sum
	if t.Frames == 0 || s.Frames > 0 && s.MinDelay < t.MinDelay {
		t.MinDelay = s.MinDelay
	}
	t.Interval += s.Interval
	t.Frames += s.Frames
	t.Lost += s.Lost
	t.Marked += s.Marked
	t.Bytes += s.Bytes
	t.Sent += s.Sent
	t.Jitter, t.RTT = s.Jitter, s.RTT
	return t.Frames >= sampleLeast || t.Frames > 0 && t.Interval >= sampleMost
}

// judge turns what take has gathered into evidence.
func (p *Path) judge(now time.Time) {
	p.clocked(now)
	s := p.sum
	p.sum = Sample{}
	p.at, p.rtt = now, s.RTT
	p.delivered, p.sent = p.lately.take(s, flowSpan)
	var sent float64
	p.lasting, sent = p.longer.take(s, longSpan)
	p.floods = sent*p.longer.seen(s.RTT) > floodTimes*p.lasting
	p.arrives = max(p.delivered, p.lasting)
	p.peak.take(now, p.delivered)
	p.queue = s.MinDelay - p.floor.take(now, s.MinDelay, floorHalf)
	p.rebase(now, s.MinDelay)
	p.befair(now)
	high := max(queueLeast, queueJitter*s.Jitter)
	marked := float64(s.Marked) >= queueMarked*float64(s.Frames) && s.Marked > 0
	p.queueing = p.queue > high || marked
	if !p.queueing {
		p.since = time.Time{}
		if p.clear.IsZero() {
			p.clear = now
		}
		if now.Sub(p.clear) > fairEnds {
			p.others = time.Time{}
		}
		return
	}
	p.clear = time.Time{}
	if p.since.IsZero() && now.After(p.excused) {
		p.since = now
		switch {
		case p.queue > 3*high, p.floods:
			p.since = now.Add(-sureAfter)
		case p.queue > 2*high || s.Lost > 0 && p.queue > high:
			p.since = now.Add(-sureSooner)
		}
	}
}

// clocked forgets the floor when somebody has set a clock: in a queue, the delay cannot grow by more than the time that passes.
func (p *Path) clocked(now time.Time) {
	delay := p.sum.MinDelay
	if !p.at.IsZero() && delay-p.delay > now.Sub(p.at)+clockSlack {
		p.floor, p.still = minimum{}, extent{}
	}
	p.delay = delay
}

// rebase takes a delay that stands still, although we have cut, for a longer route: a new floor.
func (p *Path) rebase(now time.Time, delay time.Duration) {
	if p.queue <= queueLeast || !p.capped() {
		p.still = extent{}
		return
	}
	if p.still.take(now, delay) && p.still.span() < stillRange {
		p.floor = minimum{}
		p.queue = delay - p.floor.take(now, delay, floorHalf)
		p.still = extent{}
	}
}

// queues reports whether there is fresh evidence of a queue.
func (p *Path) queues(now time.Time) bool {
	return p.queueing && now.Sub(p.at) < staleAfter
}

// foreseen is the queue that a cut is for: the one that is seen, or in a flood one for the deepest cut. What arrives then has entered the queue
// when it was still short.
func (p *Path) foreseen() time.Duration {
	if p.floods {
		return max(p.queue, drainTime)
	}
	return p.queue
}

// sure reports whether the evidence counts. It waits for what slower paths of the flow show of the same moment: a queue that
// they share must not be taken for this path's.
func (p *Path) sure(now time.Time) bool {
	return p.queues(now) && !p.since.IsZero() && now.Sub(p.since) >= sureAfter+p.lead
}

// fresh: what was seen of it holds still.
func (p *Path) fresh(now time.Time) bool { return p.usable && now.Sub(p.at) < staleAfter }

// excuse forgets the evidence, and what comes within a round trip.
func (p *Path) excuse(now time.Time, rtt time.Duration) {
	p.since, p.excused = time.Time{}, now.Add(rtt+cutPause)
}

// wants is what the path would carry if nothing limited it, in bytes/s.
func (p *Path) wants() float64 {
	f := p.flow
	if len(f.paths) > 0 && f.paths[f.first] == p {
		return f.demand
	}
	return f.demand * min(1, max(1.0/trialEvery, f.wanted/float64(max(1, len(f.paths)-1))))
}

// step moves the path's own cap.
func (p *Path) step(now time.Time) {
	if p.queues(now) {
		p.rate.Higher(now, p.foreseen(), p.rtt)
	}
	least := func() float64 {
		return fitting(p.flow.c.needs(func(o *Path) bool { return o == p }), p.arrives)
	}
	switch {
	case p.sure(now):
		p.rate.Queue(now, p.delivered, least(), p.foreseen(), p.rtt)
		if p.others.IsZero() && p.rate.cap <= p.rate.limit/2 {
			p.others = now
		}
	case !p.rate.Open() && !p.queues(now) && now.Sub(p.at) < staleAfter:
		p.rate.Passed(p.lasting, least())
		p.rate.Clear(now, p.sent, p.wants(), p.rtt)
	}
}

// needed is what the path may carry of copies that viewers need, in bytes/s: its cap, but where others' traffic holds the
// queue, not less than a TCP flow would get.
func (p *Path) needed() float64 { return max(p.rate.Cap(), p.fair) }

// proven is what the path may carry of needed copies while its flow has a cap: not much more than it has carried lately. A path without
// a cap of its own would else get all, and its queue with it.
func (p *Path) proven() float64 {
	f := p.flow
	if f.rate.Open() {
		return p.needed()
	}
	return min(p.needed(), max(fits*p.peak.most(), f.rate.Cap()/float64(2*len(f.paths))))
}

// capped: something on the way has a cap.
func (p *Path) capped() bool { return !p.flow.c.free(p) }

// befair moves the fair rate: from what was delivered when the trouble began slowly up to what the equation allows, and
// down at once. It is of no use where the queue alone makes media too old.
func (p *Path) befair(now time.Time) {
	switch {
	case p.others.IsZero() || now.Sub(p.others) < fairAfter || p.queue > fairQueue:
		p.fair = 0
	case p.fair == 0:
		p.fair = min(p.rate.limit, fairRate(p.loss.Recent(), p.rtt))
	default:
		p.fair = min(p.fair*fairGrows, fairRate(p.loss.Recent(), p.rtt))
	}
}

// fairRate is the TCP throughput equation of RFC 5348 (section 3.1, b = 1, t_RTO = 4 R), in bytes/s.
func fairRate(loss float64, rtt time.Duration) float64 {
	loss = max(loss, 1e-4)
	r := max(rtt, time.Millisecond).Seconds()
	return segmentSize / (r * (math.Sqrt(2*loss/3) + 12*math.Sqrt(3*loss/8)*loss*(1+32*loss*loss)))
}

// flowed is what a path has sent and delivered over the last one to two spans: runs of frames come and go in lumps, which a
// shorter time would take for a rate.
type flowed struct {
	old, now struct{ seconds, bytes, sent float64 }
}

// take adds a sample and returns rates in bytes/s. A long one is a pause, which says nothing about rates.
func (f *flowed) take(s Sample, span time.Duration) (delivered, sent float64) {
	switch {
	case s.Interval > 2*sampleMost:
		*f = flowed{}
	case f.now.seconds >= span.Seconds():
		f.old, f.now = f.now, flowed{}.now
	}
	f.now.seconds += s.Interval.Seconds()
	f.now.bytes += float64(s.Bytes)
	f.now.sent += float64(s.Sent)
	seconds := max(f.old.seconds+f.now.seconds, rateSpan.Seconds())
	if s.Interval > 2*sampleMost {
		*f = flowed{}
	}
	return (f.old.bytes + f.now.bytes) / seconds, (f.old.sent + f.now.sent) / seconds
}

// seen is the share of what was sent, over the time of the rates, that may have been told of when it takes a round trip.
func (f *flowed) seen(rtt time.Duration) float64 {
	return 1 - rtt.Seconds()/max(f.old.seconds+f.now.seconds, rtt.Seconds(), rateSpan.Seconds())
}

// least is the value of the moment.
func (m *minimum) least() time.Duration { return min(m.now, m.old) }

// minimum is the lowest value of the last one to two halves of its span.
type minimum struct {
	at       time.Time
	now, old time.Duration
}

func (m *minimum) take(now time.Time, v, half time.Duration) time.Duration {
	switch {
	case m.at.IsZero():
		m.at, m.now, m.old = now, v, v
	case now.Sub(m.at) >= half:
		m.at, m.old, m.now = now, m.now, v
	}
	m.now = min(m.now, v)
	return min(m.now, m.old)
}

// peak is the highest value of the last one to two peakHalf.
type peak struct {
	at       time.Time
	now, old float64
}

func (m *peak) take(now time.Time, v float64) {
	if m.at.IsZero() || now.Sub(m.at) >= peakHalf {
		m.at, m.old, m.now = now, m.now, v
	}
	m.now = max(m.now, v)
}

func (m *peak) most() float64 { return max(m.now, m.old) }

// extent is how far a value moves.
type extent struct {
	from      time.Time
	low, high time.Duration
}

// take adds a value; true once stillFor has passed. What moves too much begins again.
func (e *extent) take(now time.Time, v time.Duration) bool {
	if e.from.IsZero() || max(e.high, v)-min(e.low, v) >= stillRange {
		*e = extent{now, v, v}
		return false
	}
	e.low, e.high = min(e.low, v), max(e.high, v)
	return now.Sub(e.from) >= stillFor
}

func (e *extent) span() time.Duration { return e.high - e.low }
