package braid

import (
	"context"
	"math"
	"slices"
	"time"
)

const (
	// reportGap is how soon after the last report another one may go out because a path fell silent or came back.
	reportGap = 20 * time.Millisecond
	// deadAfter is how long, beyond a round trip, a path may bring nothing of what was sent on it.
	deadAfter = 300 * time.Millisecond
	// unmentionedMS is when a path that brings nothing leaves the reports, in milliseconds.
	unmentionedMS = 10_000
	// askAgain is how long after it was asked for a missing frame is asked for once more, if it has not come: requests are lost as well,
	// and the source sends a frame again once, however often it is asked.
	askAgain = 15 * time.Millisecond
	// maxAgain bounds the frames that are asked for once more.
	maxAgain = 4 * maxAsked
	// silentAfter is when a sender that hears no reports takes all paths for dead; its own reports say so.
	silentAfter = 20 * time.Second
)

// feedbackLoop reports, and asks for what is missing, until ctx ends.
func (s *Session) feedbackLoop(ctx context.Context) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	quick := time.NewTicker(paceInterval)
	defer quick.Stop()
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	var (
		r     report
		p     paceReport
		buf   []byte
		asked []uint64 // once
		beat  rhythm
		last  time.Time
	)
	for {
		told := false
		select {
		case <-ctx.Done():
			return nil
		case <-s.asked:
			if now := time.Now(); now.Sub(last) >= reportGap && s.reportNow.Swap(false) {
				s.compose(&r, now)
				told = true
			}
		case <-quick.C:
		case <-again.C:
			asked = s.unseen(asked)
			buf = s.sendAsks(asked, buf)
			asked = asked[:0]
		case now := <-tick.C:
			s.settle(now)
			s.f.probeSize(now)
			if s.f.replaceDead(now) {
				s.f.refresh()
			}
			changed, sized := s.reportNow.Swap(false), s.sized.Swap(false) // first, so that the report has what they stand for
			s.compose(&r, now)
			if beat.step(&r) {
				s.alert(now)
			}
			calm := s.calm(now)
			told = beat.due(&r, calm, s.patience()) || changed || sized && calm
		}
		if told {
			buf, last = s.sendReport(&r, buf), time.Now()
			beat.sent(&r)
		}
		if s.composePace(&p, time.Now(), told) {
			buf = p.append(buf[:0])
			_ = s.conn.SendDatagram(buf)
		}
		once := len(asked)
		asked = s.takeAsks(asked)
		buf = s.sendAsks(asked[once:], buf)
		if once == 0 && len(asked) > 0 {
			again.Reset(askAgain)
		}
		asked = asked[:min(len(asked), maxAgain)]
	}
}

// patience is how long the peer may go without a report: less than half of what it waits, for one may be lost.
func (s *Session) patience() time.Duration {
	if r := s.remote.Load(); r != nil {
		return max(reportOld, r.patience/2-reportInterval)
	}
	return reportOld
}

// takeAsks appends the frames to ask for now.
func (s *Session) takeAsks(asked []uint64) []uint64 {
	s.f.rxMu.Lock()
	defer s.f.rxMu.Unlock()
	asked = append(asked, s.rx.asks...)
	s.rx.asks = s.rx.asks[:0]
	return asked
}

// unseen keeps, in place, the frames that have not come.
func (s *Session) unseen(asked []uint64) []uint64 {
	s.f.rxMu.Lock()
	defer s.f.rxMu.Unlock()
	return slices.DeleteFunc(asked, s.rx.window.Seen)
}

// sendAsks asks for frames.
func (s *Session) sendAsks(asked []uint64, buf []byte) []byte {
	s.asksSent.Add(uint64(len(asked)))
	for some := range slices.Chunk(asked, maxAsked) {
		buf = appendRepair(buf[:0], some)
		_ = s.conn.SendDatagram(buf)
	}
	return buf
}

func (s *Session) sendReport(r *report, buf []byte) []byte {
	if buf = r.appendSections(buf[:0]); s.protocol < protocolSections {
		buf = r.appendFixed(buf[:0])
	}
	_ = s.conn.SendDatagram(buf) // an error means that the connection has ended, and with it the loop's context
	return buf
}

// alert and calm: whether there was a sign of trouble lately, at this end.
func (s *Session) alert(now time.Time) {
	s.f.rxMu.Lock()
	defer s.f.rxMu.Unlock()
	s.rx.pace.alertMS = s.b.unixMS(now)
}

func (s *Session) calm(now time.Time) bool {
	s.f.rxMu.Lock()
	defer s.f.rxMu.Unlock()
	return s.rx.pace.calm(s.b.unixMS(now))
}

// settle does what waits for time to pass: frames that leave the window, reports that become due, holes, the next key.
func (s *Session) settle(now time.Time) {
	ms := s.b.unixMS(now)
	f := s.f
	f.rxMu.Lock()
	defer f.rxMu.Unlock()
	s.rx.settle.run(ms, s.rx.rescued)
	for i := range f.in.paths {
		f.in.paths[i].settle(ms)
	}
	s.rx.due(ms, f.live(ms))
	if s.rx.keys[2] == nil {
		key, err := newMediaKey(s.export, s.direction(false), s.rx.epoch+1)
		if err != nil {
			s.b.log.Error("no next media key", "peer", uint32(f.key.peer), "error", err)
			return
		}
		s.rx.keys[2] = key
	}
}

// compose fills a report. A path that is long gone is no longer mentioned.
func (s *Session) compose(r *report, now time.Time) {
	f := s.f
	r.in, r.out, r.pairs, r.moved = r.in[:0], r.out[:0], r.pairs[:0], 0
	r.mediaNext, r.patience = s.nextSeq.Load(), silentAfter
	f.rxMu.Lock()
	r.duplicates, r.undelivered, r.repaired = s.rx.settle.duplicates, s.rx.settle.undelivered, s.rx.settle.repaired
	r.received = s.packetsReceived.Load()
	ms := s.b.unixMS(now)
	for i := range f.in.paths {
		p := &f.in.paths[i]
		if !p.used || ms > max(p.lastMS, p.due)+unmentionedMS {
			continue
		}
		r.moved += p.bytes
		bursts, burst := s.rx.settle.joint.burstsOf(p.id)
		r.in = append(r.in, inReport{
			id: p.id, next: p.top, received: p.received, lost: p.lost(), first: p.first, rescued: p.rescued,
			corrupt: p.seal.corrupt, broken: p.seal.broken(ms), silent: p.silent(ms),
			congested: p.congested, bursts: bursts, burst: burst, bytes: p.bytes, sizes: p.sizes(ms),
			delayUS: int32(p.delay * 1000), overFloorUS: int32(max(0, p.delay-float64(p.floor)) * 1000),
			jitterUS: int32(p.jitter * 1000),
		})
	}
	r.pairs = s.rx.settle.joint.report(r.pairs)
	f.rxMu.Unlock()
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	for _, p := range f.paths {
		r.moved += p.bytes
		r.out = append(r.out, outReport{id: p.id, relayN: uint8(p.relayN), relays: p.relays, next: p.seq, sent: p.sent})
	}
}

// datagramLoop takes the peer's DATAGRAMs: media of the datagram carrier, reports, repair requests.
func (s *Session) datagramLoop(ctx context.Context) error {
	var (
		asked []uint64
		pace  paceReport
	)
	for {
		b, err := s.conn.ReceiveDatagram(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		if len(b) == 0 {
			continue
		}
		why := DropNone
		switch b[0] {
		case datagramRecords:
			why = s.handleRecords(b, now)
		case datagramReport:
			var r report
			if err = r.parseFixed(b); err == nil {
				s.handleReport(&r, now)
			}
		case datagramSections:
			var r report
			if err = r.parseSections(b); err == nil {
				s.handleReport(&r, now)
			}
		case datagramPace:
			if err = pace.parse(b); err == nil {
				s.handlePace(&pace, now)
			}
		case datagramRepair:
			if asked, err = parseRepair(b, asked[:0]); err == nil {
				s.repair(asked, now)
			}
		default:
			why = DropMalformed
		}
		if err != nil {
			why = DropMalformed
		}
		if why != DropNone {
			s.b.counters.drop(why)
		}
	}
}

func (s *Session) handleRecords(b []byte, now time.Time) DropReason {
	seq, records, ok := parseDatagramHeader(b)
	if !ok {
		return DropMalformed
	}
	ms := s.b.unixMS(now)
	s.f.rxMu.Lock()
	fresh := s.rx.acceptDatagram(seq, ms)
	s.f.rxMu.Unlock()
	if !fresh {
		return DropNone
	}
	return s.deliver(records, ms)
}

// handleReport takes the peer's view in: what of ours arrived, and what it has sent.
func (s *Session) handleReport(r *report, now time.Time) {
	s.remote.Store(r)
	rtt := s.conn.ConnectionStats().SmoothedRTT
	f := s.f
	f.sendMu.Lock()
	f.lastReport, f.rtt = now, rtt
	fastest := r.fastest()
	slowest := rtt
	for _, in := range r.in {
		if !in.silent {
			slowest = max(slowest, rtt+in.behind(fastest))
		}
		if p := f.outPath(in.id); p != nil {
			p.heard(in, now, rtt+in.behind(fastest))
		}
	}
	for _, p := range f.paths {
		if !slices.ContainsFunc(r.in, func(in inReport) bool { return in.id == p.id }) {
			p.heard(p.seen, now, rtt+p.seen.behind(fastest))
		}
	}
	f.sendMu.Unlock()
	if rtt > 0 {
		s.asksAfter.Store(min(repairMS, uint64(slowest.Milliseconds())+askedMS))
	}

	ms := s.b.unixMS(now)
	f.rxMu.Lock()
	defer f.rxMu.Unlock()
	for _, out := range r.out {
		f.in.path(out.id, out.relayN, out.relays).reported(out.next, out.sent, ms)
	}
	// What the peer has sent and nobody brought is awaited from now on, also when nothing follows it.
	if r.mediaNext > 0 {
		s.rx.settle.know(r.mediaNext-1, ms, s.rx.rescued)
		if s.rx.frames {
			s.rx.missing.know(r.mediaNext, ms)
		}
	}
}

// fastest is the lowest delay of the paths that brought something, in microseconds.
func (r *report) fastest() int32 {
	low := int32(math.MaxInt32)
	for _, in := range r.in {
		if in.received > 0 {
			low = min(low, in.delayUS)
		}
	}
	return low
}

// behind is how much later than the fastest path this one delivers; what the two clocks differ by cancels out. The round
// trip is that of QUIC, which the fastest path makes.
func (in *inReport) behind(fastest int32) time.Duration {
	if in.received == 0 {
		return 0
	}
	return max(0, time.Duration(int64(in.delayUS)-int64(fastest))*time.Microsecond)
}

// outPath finds a path by id, the newest if it was used twice. Holds sendMu.
func (f *flow) outPath(id uint8) *outPath {
	for _, p := range f.paths {
		if p.id == id {
			return p
		}
	}
	for _, p := range slices.Backward(f.retired) {
		if p.id == id {
			return p
		}
	}
	return nil
}

// heard takes the peer's report on this path; wait is the round trip by way of it. One frame at a time is the mark: if it or a later one has arrived, the
// path lives and the next frame sent becomes the mark; if neither did for too long, the path is dead, and so is one that
// brings its frames corrupt. Dead paths still get copies, so they come back by themselves.
func (p *outPath) heard(in inReport, now time.Time, wait time.Duration) {
	was := p.seen
	p.seen = in
	switch {
	case in.broken, in.silent:
		p.die(now)
	case p.markAt.IsZero():
		p.dead = false // it was silent, and is not any more
	case in.received > 0 && int32(in.next-p.mark) > 0:
		p.markAt, p.dead = time.Time{}, false
	case now.Sub(p.markAt) > deadAfter+wait:
		p.die(now)
	case (was.broken || was.silent) && in.received > was.received:
		p.dead = false // the same, and the mark has time yet
	}
}

func (p *outPath) die(now time.Time) {
	if !p.dead {
		p.dead, p.deadAt = true, now
	}
}
