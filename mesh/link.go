package mesh

import "time"

const (
	probeEvery = 200 * time.Millisecond
	// missedProbes in a row make a link down: 3 x 200 ms, and a little for jitter.
	missedProbes = 3
	downAfter    = missedProbes*probeEvery + 60*time.Millisecond
	// upAfter is how many signs of life in a row make it up again; each interval can give one.
	upAfter = 3
	// neverAfter makes a link down that has not answered since its first probe.
	neverAfter = 2 * time.Second

	sentRing     = 64              // requests remembered: 12.8 s, more than any round trip we call alive
	minWindow    = 5 * time.Second // the minimum is over one to two of these
	lossEvery    = time.Second
	lossWindow   = 20 // snapshots: loss is over the last 20 s, about 100 probes
	lossMinimum  = 10 // probes before loss is judged at all
	jitterWeight = 8  // of the moving averages: a new sample counts an eighth
)

// link is what this node measures of one other node: a pure state machine, time is a parameter.
//
//	new --first reply--> up --3 probes unseen--> down --3 signs of life--> up
//
// A sign of life is a probe of either kind that shows a newer request of ours received there: it proves both directions.
type link struct {
	epoch uint32 // our run, as the other sees it
	next  uint32 // number of the next request
	sent  [sentRing]sentProbe

	since    time.Time // first request
	progress time.Time // last sign of life
	known    bool      // at least one round trip measured
	down     bool
	streak   int // signs of life since it went down

	theirs      tally // our requests as the other counts them
	peerEpoch   uint32
	ours        tally  // its requests as we count them
	seenBits    uint64 // the last 64 of its request numbers, bit 0 is ours.high
	rtt         rttStat
	history     [lossWindow]lossShot
	shots       int
	nextShot    time.Time
	lossOut, in float64
}

type sentProbe struct {
	seq uint32
	at  time.Time
}

type tally struct{ high, count uint32 }

type lossShot struct{ theirs, ours tally }

// request returns the next request to send.
func (l *link) request(now time.Time) probe {
	if l.next == 0 {
		l.next, l.since = 1, now
	}
	l.sent[l.next%sentRing] = sentProbe{l.next, now}
	p := l.stamp(probeRequest, l.next)
	l.next++
	return p
}

func (l *link) stamp(kind byte, seq uint32) probe {
	return probe{kind: kind, epoch: l.epoch, seq: seq, heard: l.peerEpoch, high: l.ours.high, count: l.ours.count}
}

// receive takes a probe in. For a request it returns the reply.
func (l *link) receive(now time.Time, p probe) (reply probe, answer bool) {
	if p.epoch != l.peerEpoch {
		l.restart(p.epoch)
	}
	if p.kind == probeRequest {
		l.count(p.seq)
	} else if s := &l.sent[p.seq%sentRing]; s.seq == p.seq && !s.at.IsZero() {
		l.rtt.sample(now, now.Sub(s.at))
		l.known = true
		s.at = time.Time{} // a second reply says nothing new
	}
	if p.heard == l.epoch {
		l.evidence(now, tally{p.high, p.count})
	}
	return l.stamp(probeReply, p.seq), p.kind == probeRequest
}

// restart forgets what was counted with the other's earlier run.
func (l *link) restart(epoch uint32) {
	l.peerEpoch, l.ours, l.theirs, l.seenBits = epoch, tally{}, tally{}, 0
	l.shots, l.lossOut, l.in = 0, 0, 0
}

// count takes the number of a request in; duplicates do not count, late ones do.
func (l *link) count(seq uint32) {
	if seq > l.ours.high {
		l.seenBits = l.seenBits<<min(seq-l.ours.high, 64) | 1
		if l.ours.high == 0 {
			// What was sent before we listened was not lost: the count starts level with the numbers.
			l.ours.count = seq - 1
		}
		l.ours.high = seq
		l.ours.count++
		return
	}
	back := l.ours.high - seq
	if back < 64 && l.seenBits>>back&1 == 0 && l.ours.count < l.ours.high {
		l.seenBits |= 1 << back
		l.ours.count++
	}
}

// evidence is what the other has received of our requests. Numbers that cannot be are ignored.
func (l *link) evidence(now time.Time, t tally) {
	if t.high >= l.next || t.high <= l.theirs.high || t.count < l.theirs.count {
		return
	}
	l.theirs, l.progress = t, now
	if l.down {
		if l.streak++; l.streak >= upAfter {
			l.down = false
		}
	}
}

// tick judges what did not come.
func (l *link) tick(now time.Time) {
	silent := now.Sub(l.progress)
	if l.progress.IsZero() {
		silent = now.Sub(l.since) - neverAfter + downAfter
	}
	switch {
	case l.since.IsZero():
	case !l.down && silent > downAfter:
		l.down, l.streak = true, 0
	case l.down && silent > downAfter:
		l.streak = 0
	}
	if !now.Before(l.nextShot) {
		l.nextShot = now.Add(lossEvery)
		l.shoot()
	}
}

// shoot takes the second's snapshot and works out the loss of both directions over the window.
func (l *link) shoot() {
	shot := lossShot{l.theirs, l.ours}
	oldest := l.history[l.shots%lossWindow]
	if l.shots < lossWindow {
		oldest = l.history[0]
	}
	if l.shots > 0 {
		l.lossOut = lossBetween(oldest.theirs, shot.theirs, l.lossOut)
		l.in = lossBetween(oldest.ours, shot.ours, l.in)
	}
	l.history[l.shots%lossWindow] = shot
	l.shots++
}

// lossBetween is the share lost between two tallies; with too few probes between, what was known before.
func lossBetween(from, to tally, before float64) float64 {
	sent := int64(to.high) - int64(from.high)
	if sent < lossMinimum {
		return before
	}
	return min(max(1-float64(int64(to.count)-int64(from.count))/float64(sent), 0), 1)
}

// entry is the link as it travels in a record; ok is false while nothing is known.
func (l *link) entry(to uint32) (e linkEntry, ok bool) {
	return linkEntry{
		to:      to,
		latency: quantDelay(l.rtt.low() / 2),
		jitter:  quantDelay(l.rtt.jitter / 2),
		lossOut: quantLoss(l.lossOut), lossIn: quantLoss(l.in),
		down: l.down,
	}, l.known || l.down
}

// quantDelay rounds to steps of about 3 %, so that records change only when links do.
func quantDelay(d time.Duration) time.Duration {
	d = min(max(d, 0), maxDelay)
	step := delayUnit
	for step*32 < d {
		step *= 2
	}
	return min((d+step/2)/step*step, maxDelay)
}

// rttStat holds the smallest round trip of late, a moving average, and the mean change between samples.
type rttStat struct {
	ewma, jitter time.Duration
	last         time.Duration
	min          [2]time.Duration // of the running and of the previous window; 0: none
	turn         time.Time
}

func (r *rttStat) sample(now time.Time, rtt time.Duration) {
	if rtt <= 0 {
		rtt = time.Nanosecond
	}
	if r.ewma == 0 {
		r.ewma, r.last = rtt, rtt
	}
	r.ewma += (rtt - r.ewma) / jitterWeight
	r.jitter += ((rtt - r.last).Abs() - r.jitter) / jitterWeight
	r.last = rtt
	if now.Sub(r.turn) >= minWindow {
		r.turn = now
		r.min[1], r.min[0] = r.min[0], 0
	}
	if r.min[0] == 0 || rtt < r.min[0] {
		r.min[0] = rtt
	}
}

func (r *rttStat) low() time.Duration {
	if r.min[1] > 0 {
		return min(r.min[0], r.min[1])
	}
	return r.min[0]
}
