package mesh

import (
	"math"
	"time"

	"github.com/ternmesh/tern/mesh/linkstate"
)

const (
	// fastEvery is the pace of probes on links that matter now, slowEvery on the others.
	fastEvery = 200 * time.Millisecond
	slowEvery = time.Second
	// missedProbes in a row make a link down: 3 x 200 ms on a fast link, and a little for jitter.
	missedProbes = 3
	missedSlack  = 60 * time.Millisecond
	missedMost   = 8 // on a lossy link, or as much time
	// After two of them more probes are sent, one every probeTick, on a slow link after one, every fastEvery: then it is not chance
	// that takes the link down. A slow one is down after about two seconds, in any case after silenceMost.
	doubtAfter  = 2*fastEvery + missedSlack/2
	silenceMost = 4 * time.Second
	// upAfter is how many signs of life in a row make it up again; each interval can give one.
	upAfter = 3
	// neverAfter makes a link down that has not answered since its first probe.
	neverAfter = 2 * time.Second

	sentRing     = 64              // requests remembered: 12.8 s, more than any round trip we call alive
	minWindow    = 5 * time.Second // the minimum is over one to two of these
	shotProbes   = 5               // probes between two snapshots of the tallies
	lossWindow   = 20              // snapshots: loss is over the last 100 probes
	lossMinimum  = 25              // probes before loss is judged at all
	lossSettled  = 90              // probes from which one lost is worth telling
	burstShots   = 4               // a loss that begins now shows in the last 20 probes ...
	burstChance  = 2               // ... but for so many lost by chance
	jitterWeight = 8               // of the moving averages: a new sample counts an eighth
)

// link is what this node measures of one other node: a pure state machine, time is a parameter.
//
//	new --first reply--> up --3 probes unseen--> down --3 signs of life--> up
//
// A sign of life is a probe of either kind that shows a newer request of ours received there: it proves both directions.
type link struct {
	pace  time.Duration // of our requests, as chosen by its owner; zero: every
	every time.Duration // the same, slower while live traffic shows that the link works, or at rest
	rest  bool          // nobody in the mesh sends anything
	due   time.Time     // when the next one leaves

	epoch uint32 // our run, as the other sees it
	next  uint32 // number of the next request
	sent  [sentRing]sentProbe

	since    time.Time // first request
	asked    time.Time // last request
	heard    time.Time // last request of the other
	replies  int       // replies to it within the current second
	progress time.Time // last sign of life
	known    bool      // at least one round trip measured
	answered bool      // the other has seen a request of ours
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
	probed      [2]float64 // loss of probes, out and in
	calm        [2]float64 // the same when it went down
	lossOut, in float64    // loss, by probes or by live traffic
	live        live
	back        clocked // what its frames take
	there       transit // what ours take, as the other says
	passed      relayed // frames of others that we send on to it
	brought     relayed // and that it sends on to us
	via         transit // what those take on this link
	doubted     transit // the last one that was not believed
	span        uint8   // that the last one was of
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
	l.asked = now
	p := l.stamp(probeRequest, l.next)
	l.next++
	return p
}

func (l *link) stamp(kind byte, seq uint32) probe {
	p := probe{kind: kind, epoch: l.epoch, seq: seq, heard: l.peerEpoch, high: l.ours.high, count: l.ours.count}
	l.tell(&p, l.live.told, l.live.told && l.live.times, l.live.relays)
	return p
}

// tell puts what live traffic says into a probe.
func (l *link) tell(p *probe, counted, timed, relays bool) {
	if p.counted, p.timed, p.relays = counted, timed, relays; counted {
		p.counts = l.live.says()
	}
	if came := l.came(l.back.looked); timed && came.jitter >= 0 {
		p.transit = came
	}
	if relays {
		p.passing = l.passed.says(l.back.looked)
	}
}

// silence is how long a link may show no sign of life. On one that is known to lose many probes, some in a row mean nothing: it
// lasts until as many were sent as are lost by chance once in a hundred thousand times.
func (l *link) silence() time.Duration {
	need := 0
	if lost := 1 - (1-l.lossOut)*(1-l.in); lost > 0 {
		need = int(math.Ceil(math.Log(0.00001) / math.Log(min(lost, 0.99))))
	}
	if l.every == fastEvery {
		least := missedProbes*fastEvery + missedSlack
		if need <= missedProbes {
			return least
		}
		sent := missedProbes + int((least-doubtAfter)/probeTick)
		return min(least+l.rtt.ewma+time.Duration(max(need-sent, 0))*probeTick, missedMost*fastEvery+missedSlack)
	}
	least := l.doubt() + missedProbes*fastEvery + missedSlack + l.rtt.ewma
	return min(least+time.Duration(max(need-missedProbes-1, 0))*fastEvery, silenceMost)
}

// doubt is the silence from which on more probes are sent.
func (l *link) doubt() time.Duration {
	if l.every == fastEvery {
		return doubtAfter
	}
	return l.every + missedSlack + l.rtt.ewma
}

// receive takes a probe in. For a request it returns the reply.
func (l *link) receive(now time.Time, p probe) (reply probe, answer bool) {
	if p.epoch != l.peerEpoch {
		l.restart(p.epoch)
	}
	if p.kind == probeRequest {
		l.count(p.seq)
	} else if s := &l.sent[p.seq%sentRing]; s.seq == p.seq && !s.at.IsZero() {
		l.rtt.sample(now, now.Sub(s.at), l.ways(now))
		l.known = true
		s.at = time.Time{} // a second reply says nothing new
	}
	if p.heard == l.epoch {
		l.evidence(now, tally{p.high, p.count})
	}
	if p.counted {
		l.live.hear(now, p.counts, p.heard == l.epoch)
	}
	if p.timed && l.live.told {
		if !l.live.times {
			l.live.times, l.live.hello = true, time.Time{}
		}
		if l.there = p.transit; !p.at.IsZero() {
			l.there.at = now
		}
	}
	if p.relays && l.live.times {
		l.live.relays = true
		l.bring(now, p.passing)
	}
	return l.stamp(probeReply, p.seq), p.kind == probeRequest
}

// restart forgets what was counted with the other's earlier run.
func (l *link) restart(epoch uint32) {
	l.peerEpoch, l.ours, l.theirs, l.seenBits = epoch, tally{}, tally{}, 0
	l.shots, l.probed, l.lossOut, l.in = 0, [2]float64{}, 0, 0
	l.live.restart()
	l.back, l.there, l.rtt.took = clocked{count: l.back.count}, transit{}, [2][2]transit{}
	l.via, l.doubted = transit{}, transit{}
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
	l.answered = true
	if l.down {
		if l.streak++; l.streak >= upAfter {
			l.up()
		}
	}
}

// up ends an outage. What it lost says nothing of the link as it is now: loss is judged anew, from what it was before.
func (l *link) up() {
	l.down = false
	l.shots, l.probed = 0, l.calm
	l.live.restart()
	l.lossOut, l.in = l.calm[0], l.calm[1]
}

// doubtful: the link has been silent for so long that another probe is sent now, between those that are due.
func (l *link) doubtful(now time.Time) bool {
	if !l.known || l.down || now.Sub(l.progress) <= l.doubt() {
		return false
	}
	return l.every == fastEvery || now.Sub(l.asked) >= fastEvery
}

// wakes is when this link needs to be looked at next, as far as is known now. One that frames move on is looked at always:
// that they cease shows within quietAfter.
func (l *link) wakes(now time.Time) time.Time {
	if l.live.moves(now) {
		return now
	}
	at := earlier(l.due, l.nextShot)
	switch {
	case l.down:
	case l.progress.IsZero():
		if !l.since.IsZero() {
			at = earlier(at, l.since.Add(neverAfter+1))
		}
	default:
		at = earlier(at, l.progress.Add(l.silence()+1)) // both limits are to be passed, not reached
		if l.known {
			at = earlier(at, l.progress.Add(l.doubt()+1))
		}
	}
	return at
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// tick judges what did not come.
func (l *link) tick(now time.Time) {
	dead := false
	if l.progress.IsZero() {
		dead = !l.since.IsZero() && now.Sub(l.since) > neverAfter
	} else if silent := now.Sub(l.progress); silent > missedProbes*fastEvery {
		dead = silent > l.silence()
	}
	switch {
	case dead && !l.down:
		l.down, l.streak = true, 0
		l.calm = l.probed
	case dead:
		l.streak = 0
	}
	if !now.Before(l.nextShot) {
		l.nextShot = now.Add(shotProbes * l.every)
		l.shoot()
	}
	l.lossOut, l.in = l.live.loss(0, l.probed[0]), l.live.loss(1, l.probed[1])
}

// settle slows our requests down while frames show that the link works, or at rest, and makes them fast at once when that ends.
func (l *link) settle(now time.Time, rest bool) {
	l.rest = rest
	want := l.pace
	if want == fastEvery && !l.down && (rest || l.live.carries(now)) {
		want = slowEvery
	}
	if want == 0 || want == l.every {
		return
	}
	switch {
	case want > l.every && rest:
		l.due = now.Add(want) // of all links at one moment: one waking instead of many
	case want < l.every && l.known:
		l.progress, l.due = now, now // three probes have their time before silence counts
	}
	l.every = want
}

// shoot takes the second's snapshot and works out the loss of both directions over the window.
func (l *link) shoot() {
	shot := lossShot{l.theirs, l.ours}
	oldest := l.history[l.shots%lossWindow]
	if l.shots < lossWindow {
		oldest = l.history[0]
	}
	if l.shots > 0 {
		recent := l.history[max(l.shots-burstShots, 0)%lossWindow]
		l.probed[0] = lossBetween(oldest.theirs, recent.theirs, shot.theirs, l.probed[0])
		l.probed[1] = lossBetween(oldest.ours, recent.ours, shot.ours, l.probed[1])
	}
	l.history[l.shots%lossWindow] = shot
	l.shots++
}

// lossBetween is the share lost between two tallies; with too few probes between, what was known before. Where many of the
// latest were lost, it is the share of those.
func lossBetween(from, recent, to tally, before float64) float64 {
	share := func(a tally) (lost, sent int64) {
		sent = int64(to.high) - int64(a.high)
		return max(sent-(int64(to.count)-int64(a.count)), 0), sent
	}
	lost, sent := share(from)
	if sent < lossMinimum {
		return before
	}
	if sent < lossSettled {
		lost = max(lost-1, 0) // one may be chance, and a change of it news to everybody
	}
	loss := float64(lost) / float64(sent)
	if lost, sent := share(recent); lost > burstChance {
		loss = max(loss, float64(lost-burstChance)/float64(sent))
	}
	return min(loss, 1)
}

// entry is the link as it travels in a row; ok is false while nothing is known.
func (l *link) entry(now time.Time, to uint32) (e linkstate.Link, ok bool) {
	rtt, jitter := l.delays(now)
	return linkstate.Link{
		To:      to,
		Latency: linkstate.QuantDelay(rtt / 2),
		Jitter:  linkstate.QuantDelay(jitter / 2),
		LossOut: linkstate.QuantLoss(l.lossOut), LossIn: linkstate.QuantLoss(l.in),
		Down: l.down,
	}, l.known || l.down && l.answered
}

// rttStat holds the smallest round trip of late, a moving average, and the mean change between samples.
type rttStat struct {
	ewma, jitter time.Duration
	last         time.Duration
	min          [2]time.Duration // of the running and of the previous window; 0: none
	took         [2][2]transit    // what frames took there and back when round trips were as small as that
	turn         time.Time
}

func (r *rttStat) sample(now time.Time, rtt time.Duration, frames [2]transit) {
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
		r.took[1] = r.took[0]
	}
	if r.min[0] == 0 || rtt < r.min[0]+tookSlack {
		r.took[0] = frames
	}
	if r.min[0] == 0 || rtt < r.min[0] {
		r.min[0] = rtt
	}
}

// low is the smallest round trip of late.
func (r *rttStat) low() time.Duration { return r.min[r.lowest()] }

// lowest is the window that has it.
func (r *rttStat) lowest() int {
	if r.min[1] > 0 && r.min[1] < r.min[0] {
		return 1
	}
	return 0
}
