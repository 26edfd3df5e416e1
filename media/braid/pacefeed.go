package braid

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/ternmesh/tern/media/braid/pace"
)

const (
	// paceInterval is how often a receiver of media tells the sender what budgets and redundancy go by; paceSlow is how often
	// while little arrives, so that it costs little.
	paceInterval = 50 * time.Millisecond
	paceSlow     = 200 * time.Millisecond
	paceLittle   = 32 // copies of frames since the last time
	// While all is calm, it tells whenever paceBytes have come, of which a message and its acknowledgement on three paths are a
	// quarter of a hundredth, beside each report, after reportRest, and when the rate has risen paceRise times.
	paceBytes = 200_000
	paceRise  = 3
	// alertFor is how long after the last sign of trouble (a queue, a mark, frames that no path brought, a path that began, fell
	// silent or came back, corrupt frames) it is not calm.
	alertFor = 10 * time.Second
	alertMS  = 15 // of delay above the floor
	// paceMost copies are told of at once, however short the time; so is the first loss on a path, but paceLeast apart.
	paceMost  = 256
	paceLeast = 10 * time.Millisecond
	// A delay that has risen by paceHigh milliseconds for paceSure frames in a row is told of at once, too, when it has risen.
	paceHigh = 30
	paceSure = 8
	// So many milliseconds after the last frame, the next one is told of at once: what comes next is compared with it.
	paceBegins = 1500
)

var errPace = errors.New("malformed pace feedback")

// paceReport is what a receiver says of its peer's paths for budgets and redundancy: u8 5, uvarint holes, then per path u8
// id, uvarint length and that many bytes of uvarints. A reader skips fields that it does not know. All but the delay are
// totals: a lost message costs nothing but time.
type paceReport struct {
	holes uint64 // media frames that had to be asked for again: all their copies were lost or late
	paths []pacePath
}

// pacePath is one path of a paceReport.
type pacePath struct {
	id uint8
	paceTotals
	delayMS int32 // lowest one-way delay since the last message, by the two clocks
}

// paceTotals are a receiver's counts of one path.
type paceTotals struct {
	received, lost, congested, bytes uint64

	at   time.Time // at the sender: when they came,
	sent uint64    // and what it had sent by then, in bytes
}

func (r *paceReport) append(b []byte) []byte {
	b = append(b, datagramPace)
	b = binary.AppendUvarint(b, r.holes)
	for _, p := range r.paths {
		b = append(b, p.id, 0)
		at := len(b)
		for _, v := range [...]uint64{p.received, p.lost, p.congested, p.bytes, zigzag(p.delayMS)} {
			b = binary.AppendUvarint(b, v)
		}
		b[at-1] = uint8(len(b) - at) // at most 50
	}
	return b
}

// parse decodes a message; r's slice is reused.
func (r *paceReport) parse(b []byte) error {
	r.paths = r.paths[:0]
	if len(b) < 2 || b[0] != datagramPace {
		return errPace
	}
	holes, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return errPace
	}
	r.holes = holes
	for b = b[1+n:]; len(b) > 0; {
		if len(b) < 2 || b[0] >= pathIDs || len(b) < 2+int(b[1]) || len(r.paths) == pathIDs {
			return errPace
		}
		var v [5]uint64
		if !uvarints(b[2:2+int(b[1])], v[:]) {
			return errPace
		}
		p := pacePath{id: b[0], delayMS: unzigzag(v[4])}
		p.received, p.lost, p.congested, p.bytes = v[0], v[1], v[2], v[3]
		r.paths = append(r.paths, p)
		b = b[2+int(b[1]):]
	}
	return nil
}

// paceState is what a receiver remembers for its next message. Guarded by flow.rxMu.
type paceState struct {
	copies uint64 // of frames of media, ever
	bytes  uint64 // in them
	holes  uint64

	alertMS uint64 // the last sign of trouble
	cameMS  uint64 // the last copy

	told      uint64 // copies in the last message
	toldBytes uint64
	toldMS    uint64
	rate      uint64 // in bytes/s, of what came between the last two messages

	tickMS, tickCopies, tickBytes uint64 // when rises looked last

	begun bool // media has begun, or goes on after a pause, since the last message
	lossy bool // a path has lost something since, or was marked, or a queue has risen
}

// noted counts one copy of a media frame of so many bytes and reports whether the sender should hear of the state at once.
func (s *paceState) noted(p *inPath, bytes, nowMS uint64) bool {
	s.copies++
	s.bytes += bytes
	begins := nowMS > s.cameMS+paceBegins
	s.begun, s.cameMS = s.begun || begins, nowMS
	if !s.lossy && (p.lost() > p.toldLost || p.congested > p.toldCongested || p.high() && !p.toldHigh) {
		s.lossy = true
		return nowMS >= s.toldMS+uint64(paceLeast.Milliseconds())
	}
	return begins || s.copies-s.told == paceMost && !s.calm(nowMS)
}

// due reports whether a message is due; beside: a report goes out now.
func (s *paceState) due(nowMS uint64, beside bool) bool {
	news, age := s.copies-s.told, nowMS-s.toldMS
	ticked := age+5 >= uint64(paceInterval.Milliseconds()) // a tick is never quite on time
	switch {
	case news == 0 && !s.lossy:
		return false
	case s.begun:
		return true
	case s.lossy:
		return age >= uint64(paceLeast.Milliseconds())
	case s.calm(nowMS):
		return beside || s.rises(nowMS) || ticked && s.bytes-s.toldBytes >= paceBytes || age+5 >= uint64(reportRest.Milliseconds())
	case news >= paceMost:
		return age >= uint64(paceLeast.Milliseconds())
	case news >= paceLittle:
		return ticked
	}
	return age+5 >= uint64(paceSlow.Milliseconds())
}

// rises: much more has come in the last paceInterval than when the sender was told last. It will need to know the rate if this makes a
// queue, and a message that covers the quiet before does not say it.
func (s *paceState) rises(nowMS uint64) bool {
	span := nowMS - s.tickMS
	if span+5 < uint64(paceInterval.Milliseconds()) {
		return false
	}
	copies, bytes := s.copies-s.tickCopies, s.bytes-s.tickBytes
	s.tickMS, s.tickCopies, s.tickBytes = nowMS, s.copies, s.bytes
	return copies >= paceLittle && 1000*bytes > paceRise*s.rate*span
}

// calm: there was no sign of trouble for alertFor.
func (s *paceState) calm(nowMS uint64) bool {
	return nowMS >= s.alertMS+uint64(alertFor.Milliseconds())
}

// composePace fills a message if one is due; beside: a report goes out now.
func (s *Session) composePace(r *paceReport, now time.Time, beside bool) bool {
	ms := s.b.unixMS(now)
	f := s.f
	f.rxMu.Lock()
	defer f.rxMu.Unlock()
	st := &s.rx.pace
	if s.protocol < protocolSections || !st.due(ms, beside) {
		return false
	}
	st.rate = 1000 * (st.bytes - st.toldBytes) / max(1, ms-st.toldMS)
	st.told, st.toldBytes, st.toldMS, st.lossy, st.begun = st.copies, st.bytes, ms, false, false
	if st.holes != r.holes {
		st.alertMS = ms
	}
	r.holes, r.paths = st.holes, r.paths[:0]
	for i := range f.in.paths {
		p := &f.in.paths[i]
		if !p.used || p.received == p.toldReceived && p.lost() == p.toldLost {
			continue
		}
		low := p.standing()
		one := pacePath{id: p.id, delayMS: int32(low)}
		one.received, one.lost, one.congested, one.bytes = p.received, p.lost(), p.congested, p.bytes
		r.paths = append(r.paths, one)
		if p.leastN > 0 && low > p.floor+alertMS || p.congested > p.toldCongested {
			st.alertMS = ms
		}
		p.toldHigh = p.leastN > 0 && low > p.floor+paceHigh
		p.toldReceived, p.toldLost, p.toldCongested, p.leastN = p.received, one.lost, p.congested, 0
	}
	return true
}

// handlePace takes the peer's message: evidence for the budgets, losses for the redundancy.
func (s *Session) handlePace(r *paceReport, now time.Time) {
	f := s.f
	g := &f.b.budgets
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, in := range r.paths {
		i := slices.IndexFunc(f.paths, func(p *outPath) bool { return p.id == in.id })
		if i < 0 {
			continue
		}
		p := f.paths[i]
		was := p.fed
		p.fed = in.paceTotals
		p.fed.at, p.fed.sent = now, p.bytes
		if was.at.IsZero() || in.received < was.received || in.bytes < was.bytes {
			continue // a beginning
		}
		sample := pace.Sample{
			Interval: now.Sub(was.at), Frames: int(in.received - was.received), Lost: int(int64(in.lost - was.lost)),
			Marked: int(int64(in.congested - was.congested)), Bytes: int(in.bytes - was.bytes), Sent: int(p.bytes - was.sent),
			MinDelay: time.Duration(in.delayMS) * time.Millisecond,
			Jitter:   micros(p.seen.jitterUS), RTT: f.rtt + f.slower(p),
		}
		if g.control.Feedback(now, p.pace, sample) {
			notify(g.soon)
		}
		p.loss = p.pace.Loss()
	}
	f.residual(r.holes, now)
}

// residual takes the peer's count of holes. Holds sendMu and budgets.mu.
func (f *flow) residual(holes uint64, now time.Time) {
	t := &f.tally
	frames := t.frames - t.judged
	lost := holes - t.holes
	first := t.judgedAt.IsZero() || holes < t.holes
	t.judged, t.holes, t.judgedAt = t.frames, holes, now
	if first || f.target > 1 {
		return
	}
	if first := f.carrier(now); first >= 0 {
		if set, _, _ := f.choose(first, f.target); set != f.chosen {
			f.chosen = set
			f.pace.Residual.Moved(now)
		}
	}
	// Steps there are: the other paths, and a time-shifted copy.
	f.pace.Residual.Add(now, float64(frames), float64(lost), f.target, len(f.paths), f.rtt)
	f.extra = f.pace.Residual.Extra()
	f.target = noTarget
}

// noTarget is above any share: no adaptive mode is in use.
const noTarget = 2

// slower is how much later than the fastest path p delivers, as the peer's reports have it. Holds sendMu.
func (f *flow) slower(p *outPath) time.Duration {
	least := p.seen.delayUS
	for _, o := range f.paths {
		if o.seen.received > 0 {
			least = min(least, o.seen.delayUS)
		}
	}
	return micros(p.seen.delayUS - least)
}
