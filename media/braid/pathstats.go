package braid

import "time"

const (
	// replaySpan is how many path sequences back an arrival can be told from a replay; older ones count as replays.
	replaySpan = 4096
	pathIDs    = 16 // the rolling path id has four bits
	// keptPaths bounds the records of paths no longer in use.
	keptPaths = 16
	// restartJump is a sequence jump that means a new count, not loss.
	restartJump = 1 << 22
	// horizonMS is how long after a report of the source its sequence numbers must have arrived to count as not lost.
	horizonMS = 500
	// floorMS is how long the lowest delay seen holds as the floor.
	floorMS = 30_000
	// aliveMS: a path is dead when it delivers nothing for this long after what others delivered was due on it,
	aliveMS = 300
	// or for quickMS, and slackMS and four times its jitter after so many such frames in a row were due (patience) that chance
	// explains it less often than once in a million.
	quickMS     = 150
	slackMS     = 20
	patienceMin = 5
	patienceMax = 20
	// quietMS: a path that delivered nothing for this long, or quietRest while there is no media, is not shown as alive whatever others
	// did; after twice that time it is not active.
	quietMS   = 3000
	quietRest = 9000
)

// inPath is what a receiver knows of one path of a source. Guarded by flow.rxMu.
type inPath struct {
	id      uint8
	used    bool
	heard   bool // something arrived on it
	lowest  bool // the source's lowest-cost path
	relayN  uint8
	relays  [maxRelays]NodeID
	base    uint64 // sequence numbers unwrapped to 64 bits; the first one expected
	next    uint64 // one past the highest that arrived or, horizonMS later, that the source reported
	horizon uint64 // reported by the source, waiting for horizonAt
	due     uint64 // when horizon becomes due, Unix ms; 0 = none
	later   uint64 // newest report, the next horizon
	top     uint32 // one past the sequence that arrived last
	sent    uint64 // the source's own count, from its reports

	counted                  uint64 // arrived since base
	lostBefore               uint64 // in counts before the present one
	received, first, rescued uint64
	congested, bytes         uint64                  // with the congestion bit; UDP payload
	sizeAt                   [len(probeSizes)]uint64 // when a size probe of that size arrived, Unix ms
	toldReceived, toldLost   uint64                  // in the last message of pacefeed.go
	toldCongested            uint64                  // the same
	toldHigh                 bool                    // that message told of a high delay
	least                    int64                   // lowest one-way delay since then, ms
	leastN                   int                     // frames that it is the lowest of
	stands                   lull

	seal   sealHistory
	window window // sequences that arrived; replaySpan wide

	lastMS  uint64  // when the last frame arrived, Unix ms
	sentMS  uint64  // when the source had sent the newest one, by the source's clock
	dueMS   uint64  // when a newer frame, which came by another path, is due on this one; 0 = none
	missed  int     // frames that one other path brought, newer than anything on this one
	by      uint8   // that path's id
	overMS  uint64  // when patience with them ends; 0 = it lasts
	loss    float64 // share lost lately
	delay   float64 // one-way, smoothed, ms; off by the two clocks' difference
	floor   int64   // lowest one-way delay lately
	floorAt uint64
	jitter  float64 // mean deviation between neighbours, ms (RFC 3550's)
	transit int64   // of the last frame
}

// arrive notes one authenticated frame that is no replay.
func (p *inPath) arrive(h *pathHeader, sentMS, nowMS uint64) {
	seq := p.unwrap(h.seq)
	if !p.heard || p.jumps(seq) || p.window.Seen(seq) {
		p.restart(uint64(h.seq) + 1<<32)
		seq = p.base
	}
	p.window.Mark(seq)
	if seq >= p.next {
		n := float64(seq - p.next + 1)
		p.loss += min(1, n/64) * ((n-1)/n - p.loss)
	}
	p.lowest = h.flags&flagLowestCost != 0
	p.received++
	p.bytes += uint64(headerLen(int(h.relayN)) + int(h.length))
	if h.flags&flagCongestion != 0 {
		p.congested++
	}
	p.counted++
	if seq >= p.next || p.top == 0 || int32(h.seq+1-p.top) > 0 {
		p.top = h.seq + 1
	}
	p.next = max(p.next, seq+1)
	p.base = min(p.base, seq)
	p.lastMS, p.sentMS, p.dueMS = nowMS, max(p.sentMS, sentMS), 0
	p.missed, p.overMS = 0, 0
	at := nowMS - uint64(h.waitedMS)
	p.time(int64(at-sentMS), at)
}

// replayed reports whether a frame has been counted before, or belongs to a count that a newer one has replaced. A replay
// cannot be newer than what has arrived: its send time is under the MAC. So what is newer counts whatever its sequence.
func (p *inPath) replayed(h *pathHeader, sentMS uint64) bool {
	if !p.heard || sentMS > p.sentMS {
		return false
	}
	seq := p.unwrap(h.seq)
	return p.jumps(seq) || p.window.Seen(seq)
}

// jumps: seq is so far from the others that it belongs to another count.
func (p *inPath) jumps(seq uint64) bool { return seq+restartJump < p.next || seq > p.next+restartJump }

// spoiled notes an authenticated frame whose payload somebody on the path has changed: it is as good as lost, so it moves
// the sequence on but counts neither as received nor as a sign of life.
func (p *inPath) spoiled(h *pathHeader, nowMS uint64) {
	p.seal.note(true, nowMS)
	if !p.heard {
		p.restart(uint64(h.seq) + 1<<32)
	}
	if seq := p.unwrap(h.seq); seq >= p.next && seq < p.next+restartJump {
		p.next = seq + 1
	}
}

// restart begins a new count at seq; what the one before lost stays counted.
func (p *inPath) restart(seq uint64) {
	p.lostBefore = p.lost()
	p.base, p.next, p.counted = seq, seq, 0
	p.heard, p.due, p.later = true, 0, 0
	p.window.next = 0 // empties it: Mark clears what it jumps over
}

// unwrap extends a 32-bit sequence number to the value nearest to the newest.
func (p *inPath) unwrap(seq uint32) uint64 {
	return p.next + uint64(int64(int32(seq-uint32(p.next))))
}

func (p *inPath) time(transit int64, nowMS uint64) {
	if p.leastN == 0 || transit < p.least {
		p.least = transit
	}
	p.leastN++
	p.stands.add(transit, nowMS)
	if p.floorAt == 0 || transit < p.floor || nowMS > p.floorAt+floorMS {
		p.floor, p.floorAt = transit, nowMS
	}
	if p.received <= 1 {
		p.delay, p.transit = float64(transit), transit
		return
	}
	p.delay += (float64(transit) - p.delay) / 16
	d := float64(transit - p.transit)
	p.jitter += (max(d, -d) - p.jitter) / 16
	p.transit = transit
}

// reported notes that the source has sent all numbers below next, the first of them sent frames ago. They count as
// expected once horizonMS has passed: that is how the frames lost on a dead path are counted.
func (p *inPath) reported(next uint32, sent, nowMS uint64) {
	p.sent = max(p.sent, sent)
	if !p.heard {
		p.base = uint64(next) + 1<<32 - min(sent, 1<<31)
		p.next, p.heard = p.base, true
	}
	p.later = p.unwrap(next)
	if p.due == 0 && p.later > p.next {
		p.horizon, p.due = p.later, nowMS+horizonMS
	}
}

// settle applies a report that has become due.
func (p *inPath) settle(nowMS uint64) {
	if p.due != 0 && nowMS >= p.due {
		if p.horizon > p.next && p.horizon-p.next < restartJump {
			p.next = p.horizon
		}
		p.due = 0
		if p.later > p.next {
			p.horizon, p.due = p.later, nowMS+horizonMS
		}
	}
}

func (p *inPath) lost() uint64 {
	if expected := p.next - p.base; expected > p.counted {
		return p.lostBefore + expected - p.counted
	}
	return p.lostBefore
}

// inbound is all paths of one source under one fence. Guarded by flow.rxMu.
type inbound struct {
	paths   [pathIDs]inPath
	history []inPath // replaced ones, oldest first
	lastMS  uint64   // newest arrival on any path
	mediaMS uint64   // of media
}

// quiet is how long a path may deliver nothing before it is shown as dead, in milliseconds: what fell silent in the middle of media, or
// may have nothing but reports to bring.
func (in *inbound) quiet() uint64 {
	if in.lastMS < in.mediaMS+1000 {
		return quietMS
	}
	return quietRest
}

// path returns the record of a path id, a new one if the id now means other relays.
func (in *inbound) path(id, relayN uint8, relays [maxRelays]NodeID) *inPath {
	p := &in.paths[id&(pathIDs-1)]
	if p.used && p.relayN == relayN && p.relays == relays {
		return p
	}
	bits := p.window.bits
	if bits == nil {
		bits = newWindow(replaySpan).bits
	}
	if p.used {
		p.window = window{} // the record kept needs none
		if len(in.history) >= keptPaths {
			in.history = append(in.history[:0], in.history[1:]...)
		}
		in.history = append(in.history, *p)
	}
	*p = inPath{id: id, used: true, relayN: relayN, relays: relays, window: window{bits: bits}}
	return p
}

// arrive notes one authenticated frame and returns its path.
func (in *inbound) arrive(h *pathHeader, sentMS, nowMS uint64) *inPath {
	p := in.path(h.path, h.relayN, h.relays)
	p.arrive(h, sentMS, nowMS)
	in.lastMS = nowMS
	for i := range in.paths {
		if o := &in.paths[i]; o.lastMS != 0 && sentMS > o.sentMS && h.goesOut(o.id) {
			o.miss(p.id, sentMS, nowMS)
		}
	}
	return p
}

// goesOut: the payload of this frame travels on that path, too, as far as the source says.
func (h *pathHeader) goesOut(path uint8) bool {
	return h.copies == 0 || h.copies&(1<<(path&slotMask)) != 0
}

// miss notes that another path brought a frame newer than anything on this one.
func (p *inPath) miss(by uint8, sentMS, nowMS uint64) {
	due := max(nowMS, uint64(int64(sentMS)+int64(p.delay)))
	if p.dueMS == 0 {
		p.dueMS, p.by = due, by
	}
	if p.by != by { // one path counts, so that a frame that several bring is one frame
		return
	}
	if p.missed++; p.missed == p.patience() {
		p.overMS = max(p.dueMS+quickMS, due+slackMS+uint64(4*p.jitter))
	}
}

// patience is how many frames in a row may be missing before a path counts as silent.
func (p *inPath) patience() int {
	n := 1
	for rest := p.loss; rest > 1e-6 && n < patienceMax; n++ {
		rest *= p.loss
	}
	return max(n, patienceMin)
}

// silent: it delivers nothing of what others do.
func (p *inPath) silent(nowMS uint64) bool {
	return p.dueMS != 0 && nowMS > p.dueMS+aliveMS || p.overMS != 0 && nowMS > p.overMS
}

// alive: it delivered something, what newer frames other paths brought is not overdue on it, and what it brings is mostly
// intact. A slower path is given
// the time by which it is slower, so that it does not seem dead whenever a fast one starts again after a pause.
func (p *inPath) alive(nowMS uint64) bool {
	return p.lastMS != 0 && !p.silent(nowMS) && !p.seal.broken(nowMS)
}

// lull is the delay below which nothing has come lately. Frames that come all at once, because their sender or this node's reader
// did not run for a while, are one piece of news, told by the last of them: it has waited least. So the lowest counts of at least
// lullMS of arrivals, and an earlier one goes on counting until so much time has seen arrivals again. After a silence it counts for as
// long as that lasted: whoever stood still, a relay for one, works off what has gathered. The zero value knows nothing.
type lull struct {
	at       uint64 // when the present span began, Unix ms; 0 = nothing came yet
	last     uint64 // when something came last, Unix ms
	until    uint64 // the present span lasts until then, because of a silence before it, Unix ms
	now, old int64
}

const (
	// lullMS is longer than a processor takes for what has waited for it, and short beside what a queue must last to count. Nothing for
	// so long is a silence.
	lullMS = 25
	// lumpMS is for how long at most what comes after a silence says nothing of queues.
	lumpMS = 150
)

func (l *lull) add(delay int64, nowMS uint64) {
	switch {
	case l.at == 0:
		l.at, l.now, l.old = nowMS, delay, delay
	case nowMS >= max(l.at+lullMS, l.until):
		l.at, l.now, l.old = nowMS, delay, l.now
	}
	if l.last != 0 && nowMS >= l.last+lullMS { // it may lie before the last: times are of the kernel, and rounded
		l.until = nowMS + min(nowMS-l.last, lumpMS)
	}
	l.last = nowMS
	l.now = min(l.now, delay)
}

// delay in ms.
func (l *lull) delay() int64 { return min(l.now, l.old) }

// standing is the lowest delay since the last message of pacefeed.go, or of the lull if that is lower; where the lull's is high, that: what
// came before it was before the queue.
func (p *inPath) standing() int64 {
	if p.high() {
		return p.stands.delay()
	}
	return min(p.least, p.stands.delay())
}

// high: a queue has risen, which is news.
func (p *inPath) high() bool { return p.leastN >= paceSure && p.stands.delay() > p.floor+paceHigh }

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

// stats is the receiver's own view of its paths, replaced ones included.
func (in *inbound) stats(nowMS uint64) []PathStats {
	var out []PathStats
	add := func(p *inPath, active bool) {
		out = append(out, PathStats{
			ID: p.id, Relays: append([]NodeID{}, p.relays[:p.relayN]...), LowestCost: p.lowest,
			Active: active, Alive: active && p.alive(nowMS) && nowMS < p.lastMS+in.quiet(),
			Sent: max(p.sent, p.received), Received: p.received, Lost: p.lost(), First: p.first, Rescued: p.rescued, Corrupt: p.seal.corrupt,
			Congested: p.congested,
			Delay:     millis(p.delay), OverFloor: millis(max(0, p.delay-float64(p.floor))), Jitter: millis(p.jitter),
		})
	}
	for i := range in.history {
		add(&in.history[i], false)
	}
	for i := range in.paths {
		if p := &in.paths[i]; p.used {
			add(p, nowMS < max(p.lastMS, p.due)+2*in.quiet())
		}
	}
	return out
}
