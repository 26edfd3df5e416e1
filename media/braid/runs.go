package braid

import (
	"time"

	"github.com/ternmesh/tern/media/braid/pace"
)

const (
	// runFrames bounds the frames of one moment: the kernel takes 64 segments and 65,507 bytes in one GSO run.
	runFrames = 44
	runBytes  = runFrames * MaxDatagram
	// padBytes is how far a frame may be padded to the size of its neighbours, so that they leave as one run.
	padBytes = 96
)

// runLength says how many of the frames, given by their sizes, can leave as one run of equal segments: a frame may be
// padded a little, only the last may be shorter by more, and none may be larger than the first.
func runLength(frames [][]byte) int {
	segment := len(frames[0])
	n := 1
	for ; n < len(frames) && len(frames[n]) <= segment; n++ {
		if segment-len(frames[n]) > padBytes {
			return n + 1
		}
	}
	return n
}

// copies says on which slots a payload is about to go out, for the frames to carry; 0 where nobody would read it.
// Holds sendMu.
func (f *flow) copies(kind uint8, to pace.Set) (slots uint8) {
	if kind != kindMedia || f.protocol < protocolSections {
		return 0
	}
	for i, p := range f.paths {
		if p.ready && to.Has(i) {
			slots |= 1 << (p.id & slotMask)
		}
	}
	return slots
}

// allPaths is the set of all places.
const allPaths pace.Set = 1<<maxPaths - 1

// send writes frames, one copy on each path of the given set, and reports on how many paths they went out. Holds sendMu.
func (f *flow) send(kind uint8, frames [][]byte, set pace.Set, now time.Time) int {
	used := 0
	copies := f.copies(kind, set)
	for i, p := range f.paths {
		if !set.Has(i) {
			continue
		}
		if !p.ready {
			f.b.counters.dropN(DropNoKey, uint64(len(frames)))
			continue
		}
		to, ok := f.b.cfg.Addr(p.first(f.key.peer))
		if !ok {
			f.b.counters.dropN(DropNoAddress, uint64(len(frames)))
			continue
		}
		if !p.fits(headerLen(p.relayN) + longest(frames)) {
			f.b.counters.dropN(DropPathSize, uint64(len(frames)))
			continue
		}
		used++
		run := f.b.runs.Get().(*[runBytes]byte)
		for rest := frames; len(rest) > 0; {
			n := runLength(rest)
			size := f.buildRun(run, p, i == 0, kind, copies, rest[:n], now)
			p.bytes += uint64(size)
			segment := headerLen(p.relayN) + len(rest[0])
			if err := f.b.cfg.Wire.WriteRun(run[:size], segment, to); err != nil {
				f.b.counters.dropN(DropWrite, uint64(n))
			} else {
				f.b.traffic.sent(p.first(f.key.peer), uint64(n))
			}
			rest = rest[n:]
		}
		f.b.runs.Put(run)
		if p.markAt.IsZero() {
			p.mark, p.markAt = p.seq-1, now
		}
	}
	if used == 0 {
		f.b.counters.dropN(DropNoPath, uint64(len(frames)))
	}
	return used
}

func longest(frames [][]byte) (n int) {
	for _, frame := range frames {
		n = max(n, len(frame))
	}
	return n
}

// buildRun lays the frames of a run out behind their path headers and returns its size. All segments but the last are
// as long as the first; what a shorter frame leaves is padding.
func (f *flow) buildRun(run *[runBytes]byte, p *outPath, lowest bool, kind, copies uint8, frames [][]byte, now time.Time) int {
	ms := f.b.unixMS(now)
	h := pathHeader{
		flags: uint8(p.epoch) << epochShift & 0x0f, relayN: uint8(p.relayN), path: p.id, kind: kind, copies: copies, time: uint16(ms),
		fence: f.key.fence, source: f.b.cfg.Self, dest: f.key.peer, relays: p.relays,
	}
	if lowest {
		h.flags |= flagLowestCost
	}
	head := headerLen(p.relayN)
	segment := head + len(frames[0])
	at := 0
	for i, frame := range frames {
		h.length, h.seq = uint16(len(frame)), p.seq
		p.seq++
		p.sent++
		out := run[at : at+segment]
		h.put(out)
		input := macInput(&f.macBuf, out, p.relayN, ms)
		for hop := range p.relayN + 1 {
			sign(out, input, p.relayN, hop, &p.keys[hop])
		}
		used := head + copy(out[head:], frame)
		if i == len(frames)-1 {
			return at + used
		}
		clear(out[used:])
		at += segment
	}
	return at
}

// sendMedia writes sealed media frames on the paths that their mode and the budgets say; shift tells that they are to go out
// once more, later, on the first of them. Policy is asked every time, so that media ends with the fence and not only when
// Refresh has come to this flow.
func (f *flow) sendMedia(frames [][]byte, m mode, now time.Time) (used int, shift bool) {
	if !f.b.allowed(f.key) {
		f.b.counters.dropN(DropFence, uint64(len(frames)))
		return 0, false
	}
	size := 0
	for _, frame := range frames {
		size += len(frame) + headerLen(1)
	}
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	f.burst.Take(size)
	p := f.plan(m, len(frames), size, now)
	return f.send(kindMedia, frames, p.set, now), p.shift
}

// sendQUIC writes one QUIC packet behind this node's incarnation. While no path has its keys it is stashed: a lost first
// packet would cost the handshake a retransmission timeout.
func (f *flow) sendQUIC(packet []byte) {
	if len(packet)+4+MaxHeader > MaxDatagram {
		f.b.counters.drop(DropTooLarge)
		return
	}
	f.sendMu.Lock()
	asked := f.refreshed
	f.sendMu.Unlock()
	if !asked {
		f.refresh()
	}
	now := time.Now()
	f.sendMu.Lock()
	defer f.sendMu.Unlock()
	for _, p := range f.paths {
		if p.ready {
			f.sendQUICLocked(packet, now)
			return
		}
	}
	f.resolveKeys(now) // asks for the keys
	if len(f.stash) >= maxStash {
		f.stash = append(f.stash[:0], f.stash[1:]...)
		f.b.counters.drop(DropNoPath)
	}
	f.stash = append(f.stash, append([]byte(nil), packet...))
}

func (f *flow) sendQUICLocked(packet []byte, now time.Time) {
	b := f.quicBuf[:4+len(packet)]
	putUint32(b, f.b.cfg.Incarnation)
	copy(b[4:], packet)
	f.one[0] = b
	f.send(kindQUIC, f.one[:], allPaths, now)
}

// flushStash sends what waited for keys. Holds sendMu.
func (f *flow) flushStash(now time.Time) {
	for _, p := range f.paths {
		if p.ready {
			for _, packet := range f.stash {
				f.sendQUICLocked(packet, now)
			}
			f.stash = nil
			return
		}
	}
}
