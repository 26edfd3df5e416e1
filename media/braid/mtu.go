package braid

import "time"

// probeSizes are the UDP payloads that a path is tried with, in bytes, the largest being what frames are as a rule. The smallest
// leaves room for a quarter of the largest packet and its headers.
var probeSizes = [...]int{600, 1000, 1232, MaxDatagram}

const (
	fullSize = uint64(1) << (len(probeSizes) - 1)
	// probeWait is how long the answer to a size probe may take, beyond the round trip: it comes with a report.
	probeWait  = 500 * time.Millisecond
	probeTries = 3
	// probeEvery is when a path is tried again, if it has a limit or probeBytes were sent on it since, of which a probe and its answer
	// are a thousandth; probeRest is when in any case. probeDoubt is when at the earliest, if it loses most of what is sent.
	probeEvery = 30 * time.Second
	probeBytes = 1_500_000
	probeRest  = 5 * time.Minute
	probeDoubt = 12 * time.Second
	// sizeMS is how long a size counts as having arrived lately, in milliseconds: less than probeDoubt, so that one round's
	// answer is not taken for the next one's.
	sizeMS = 8_000
)

// sizing is what a source knows of the packets that a path carries. Some paths drop packets above a size without a word (a
// tunnel, a filter that eats ICMP). Path MTU discovery of QUIC does not see that: with copies, a probe passes if any path passes it.
// So every path is tried by itself, with path frames of kindSize; the peer's report says which sizes came.
//
//	waiting --next is due--> full size sent --it came--------------> waiting, limit none
//	                             | it did not, thrice all sizes
//	                             +--some size came--> waiting, limit that size
//	                             +--none came-------> waiting: the path is dead, its size is another day's question
type sizing struct {
	limit  int    // largest UDP payload; 0 = nothing is known to be too large
	tries  int    // of the round under way; 0 = waiting
	bytes  uint64 // sent on the path when it began
	at     time.Time
	next   time.Time
	began  time.Time
	losing losing
}

// losing tells a path that loses most of what is sent on it.
type losing struct{ received, lost uint64 }

// most: of what happened since the last call, more was lost than arrived.
func (l *losing) most(received, lost uint64) bool {
	got, gone := received-min(received, l.received), lost-min(lost, l.lost)
	l.received, l.lost = received, lost
	return gone > got && gone > 10
}

// step moves the round on: which sizes to send now, and whether the limit has changed. seen are the sizes that the peer saw
// lately, sent the bytes that went out on the path ever. Pure.
func (z *sizing) step(now time.Time, rtt time.Duration, seen, sent uint64, loses bool) (send []int, changed bool) {
	switch {
	case z.tries == 0 && (z.due(now, sent) || loses && now.Sub(z.began) > probeDoubt):
		z.tries, z.at, z.began, z.bytes = 1, now, now, sent
		return probeSizes[len(probeSizes)-1:], false
	case z.tries == 0:
		return nil, false
	case seen&fullSize != 0:
		changed = z.limit != 0
		z.limit, z.tries, z.next = 0, 0, now.Add(probeEvery)
		return nil, changed
	case now.Sub(z.at) < probeWait+rtt:
		return nil, false
	case z.tries < probeTries:
		z.tries++
		z.at = now
		return probeSizes[:], false
	}
	z.tries, z.next = 0, now.Add(probeEvery)
	limit := z.limit
	for i, size := range probeSizes {
		if seen&(1<<i) != 0 {
			limit = size
		}
	}
	changed = limit != z.limit
	z.limit = limit
	return nil, changed
}

func (z *sizing) due(now time.Time, sent uint64) bool {
	return now.After(z.next) && (z.limit != 0 || sent-z.bytes >= probeBytes || now.Sub(z.began) > probeRest)
}

// fits: a path frame of so many bytes is not known to be too large for the path.
func (p *outPath) fits(size int) bool { return p.size.limit == 0 || size <= p.size.limit }

// probeSize sends what the paths' sizing asks for, and says when a path turns out to carry less than full packets.
func (f *flow) probeSize(now time.Time) {
	if !f.b.allowed(f.key) {
		return
	}
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	if f.protocol < protocolSections {
		return
	}
	for _, p := range f.paths {
		if !p.ready {
			continue
		}
		send, changed := p.size.step(now, f.rtt, p.seen.sizes, p.bytes, p.size.losing.most(p.seen.received, p.seen.lost))
		if changed && p.size.limit != 0 {
			f.b.counters.blackHoles.Add(1)
			f.b.log.Warn("a path carries only small packets; frames are cut to fit, mend the path's MTU",
				"peer", uint32(f.key.peer), "relays", p.relays[:p.relayN], "largest_bytes", p.size.limit, "wanted_bytes", MaxDatagram)
		}
		if len(send) > 0 && p.size.tries == 1 {
			p.seen.sizes = 0 // of the last round
		}
		for _, size := range send {
			f.sendOn(p, size, now)
		}
	}
	f.setRoom()
}

// sendOn writes one size probe on one path. Holds sendMu.
func (f *flow) sendOn(p *outPath, size int, now time.Time) {
	to, ok := f.b.cfg.Addr(p.first(f.key.peer))
	if !ok {
		return
	}
	run := f.b.runs.Get().(*[runBytes]byte)
	defer f.b.runs.Put(run)
	f.one[0] = f.probeBuf[:size-headerLen(p.relayN)]
	n := f.buildRun(run, p, false, kindSize, 0, f.one[:], now)
	p.bytes += uint64(n)
	if err := f.b.cfg.Wire.WriteRun(run[:n], n, to); err != nil {
		f.b.counters.drop(DropWrite)
	}
}

// setRoom notes how many bytes of records a media frame may hold to fit all paths. Holds sendMu.
func (f *flow) setRoom() {
	room := maxRecords
	for _, p := range f.paths {
		if p.size.limit != 0 {
			room = min(room, p.size.limit-headerLen(p.relayN)-mediaHeader-sealTag)
		}
	}
	f.recordMax.Store(int32(room))
}

// recordRoom is how many bytes of records the next media frame may hold.
func (f *flow) recordRoom() int {
	if room := int(f.recordMax.Load()); room > 0 {
		return room
	}
	return maxRecords
}

// receiveSize notes a size probe.
func (f *flow) receiveSize(h *pathHeader, size int, sentMS, nowMS uint64) DropReason {
	f.rxMu.Lock()
	defer f.rxMu.Unlock()
	p := f.in.path(h.path, h.relayN, h.relays)
	if p.replayed(h, sentMS) {
		return DropReplay
	}
	f.in.arrive(h, sentMS, nowMS)
	for i, s := range probeSizes {
		if size == s {
			p.sizeAt[i] = nowMS
		}
	}
	for _, s := range f.sessions {
		s.sized.Store(true)
	}
	return DropNone
}

// sizes that arrived lately, for a report.
func (p *inPath) sizes(nowMS uint64) (set uint64) {
	for i, at := range p.sizeAt {
		if at != 0 && nowMS < at+sizeMS {
			set |= 1 << i
		}
	}
	return set
}
