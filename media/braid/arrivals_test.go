package braid

import (
	"reflect"
	"slices"
	"testing"
)

func arriveOn(in *inbound, path uint8, seq uint32, sent, now uint64) *inPath {
	h := pathHeader{path: path, seq: seq, time: uint16(sent)}
	return in.arrive(&h, sent, now)
}

func TestPathLossByGapsAndByReports(t *testing.T) {
	var in inbound
	p := arriveOn(&in, 1, 0xfffffffe, 100, 150)
	for _, seq := range []uint32{0xffffffff, 2, 1, 4} { // 0 and 3 are missing; 2 overtook 1
		arriveOn(&in, 1, seq, 100, 150)
	}
	if p.lost() != 2 || p.received != 5 {
		t.Errorf("lost %d, received %d; want 2 and 5", p.lost(), p.received)
	}
	p.reported(9, 11, 1000) // 5 to 8 have been sent too
	p.settle(1000 + horizonMS - 1)
	if p.lost() != 2 {
		t.Errorf("lost %d before the report was due, want 2", p.lost())
	}
	p.settle(1000 + horizonMS)
	if p.lost() != 6 || p.sent != 11 {
		t.Errorf("lost %d of %d after the report was due, want 6 of 11", p.lost(), p.sent)
	}
}

// Frames that arrive at once, having waited together, tell of a delay by the last of them; a queue, by each.
func TestABurstOfLateFramesIsNoStandingDelay(t *testing.T) {
	var burst, queue lull
	ms := uint64(1000)
	burst.add(20, ms)
	for range 20 { // 100 ms of nothing, then what has come meanwhile, read within 20 ms
		ms += 80
		for late := int64(100); late >= 0; late -= 5 {
			burst.add(20+late, ms)
			if ms++; burst.delay() > 25 {
				t.Fatalf("%d ms into a burst the delay is %d ms, want 20 to 25", 100-late, burst.delay())
			}
		}
	}
	for i := range uint64(2*lullMS + 1) {
		queue.add(20, 1000+i)
	}
	for i := range uint64(2*lullMS + 1) {
		queue.add(60, 1100+i)
	}
	if queue.delay() != 60 {
		t.Errorf("a queue that has stood for %d ms shows %d ms of delay, want 60", 2*lullMS, queue.delay())
	}
}

// What a relay works off after it has stood still is no standing delay for as long as it stood; what is as late after that is.
func TestWorkingOffAfterASilenceIsNoStandingDelay(t *testing.T) {
	var l lull
	for i := range uint64(100) {
		l.add(20, 1000+i)
	}
	for i := range uint64(100) {
		if l.add(100, 1200+i); l.delay() != 20 {
			t.Fatalf("%d ms after 100 ms of silence the delay is %d ms, want 20", i, l.delay())
		}
	}
	for i := range uint64(2 * lullMS) {
		l.add(100, 1300+i)
	}
	if l.delay() != 100 {
		t.Errorf("what is late 100 ms after it goes on shows %d ms of delay, want 100", l.delay())
	}
}

// An arrival may lie a moment before the last one, by rounded times and what frames waited for the reader: that is no silence, and a
// queue shows.
func TestArrivalsAMomentApartAreNoSilence(t *testing.T) {
	var l lull
	for i := range uint64(100) {
		l.add(20, 1000+i)
	}
	for i := range uint64(3 * lullMS) {
		l.add(60, 1100+i-2*(i%2))
	}
	if l.delay() != 60 {
		t.Errorf("a queue that has stood for %d ms shows %d ms of delay, want 60", 3*lullMS, l.delay())
	}
}

// What a frame has waited in this node's own socket is no delay of its path; what it has waited beyond all patience is.
func TestWaitingForTheReaderIsNoDelay(t *testing.T) {
	var in inbound
	for i, waited := range []uint16{0, 80, 150} {
		h := pathHeader{path: 1, seq: uint32(i), time: 100, waitedMS: waited}
		in.arrive(&h, 100, 120+uint64(waited))
	}
	if p := &in.paths[1]; p.delay != 20 || p.floor != 20 || p.jitter != 0 {
		t.Errorf("delay %v, floor %v, jitter %v ms; want 20, 20, 0", p.delay, p.floor, p.jitter)
	}
}

func TestPathNeverHeardIsLostWhole(t *testing.T) {
	var in inbound
	p := in.path(3, 0, [maxRelays]NodeID{})
	p.reported(500, 100, 0)
	p.settle(horizonMS)
	if p.lost() != 100 {
		t.Errorf("lost %d of the 100 that the source reported, want all", p.lost())
	}
	if p.alive(horizonMS) {
		t.Error("a path that never delivered is alive")
	}
}

func TestRestartedSequenceIsNotLoss(t *testing.T) {
	var in inbound
	p := arriveOn(&in, 1, 10, 0, 0)
	arriveOn(&in, 1, 12, 0, 0)
	arriveOn(&in, 1, 0x80000000, 0, 0)
	arriveOn(&in, 1, 0x80000002, 0, 0)
	if p.lost() != 2 {
		t.Errorf("lost %d, want one before the restart and one after", p.lost())
	}
}

func TestChangedPathIsANewOne(t *testing.T) {
	var in inbound
	arriveOn(&in, 1, 10, 0, 0)
	h := pathHeader{path: 1, seq: 99, relayN: 1, relays: [maxRelays]NodeID{7}}
	if p := in.arrive(&h, 0, 0); p.received != 1 {
		t.Error("the new path has the old one's counts")
	}
	st := in.stats(0)
	if len(st) != 2 || st[0].Active || !st[1].Active || len(st[1].Relays) != 1 {
		t.Errorf("stats %+v, want the old path inactive and the new one active", st)
	}
}

func TestDelayOverFloorAndJitter(t *testing.T) {
	var in inbound
	var p *inPath
	for i := range uint64(400) {
		p = arriveOn(&in, 0, uint32(i), 1000+i*10, 1000+i*10+50)
	}
	if p.delay != 50 || p.jitter != 0 || p.floor != 50 {
		t.Errorf("delay %v, jitter %v, floor %v; want 50, 0, 50", p.delay, p.jitter, p.floor)
	}
	for i := range uint64(400) {
		p = arriveOn(&in, 0, uint32(400+i), 5000+i*10, 5000+i*10+80+20*(i%2))
	}
	if p.delay < 85 || p.delay > 95 || p.floor != 50 || p.jitter < 15 || p.jitter > 21 {
		t.Errorf("delay %v, floor %v, jitter %v; want about 90, 50, 20", p.delay, p.floor, p.jitter)
	}
}

func TestSettleCountsWhatPathsDid(t *testing.T) {
	rescued := map[uint8]int{}
	on := func(path uint8) { rescued[path]++ }
	var s settle
	s.arrive(0, 0, 0, true, true, 0, on)   // lowest-cost path first
	s.arrive(0, 1, 0, false, false, 0, on) // its copy
	s.arrive(1, 1, 0, false, true, 0, on)  // path 1 first, the lowest-cost path later: not rescued
	s.arrive(1, 0, 0, true, false, 30, on)
	s.arrive(2, 2, 0, false, true, 0, on) // only path 2: rescued
	s.arrive(5, 0, 0, true, true, 0, on)  // 3 and 4 never come by themselves
	s.asked(4)
	s.arrive(4, 1, 0, false, true, 300, on) // repaired, not rescued
	s.run(settleMS-1, on)
	if s.oldest != 0 {
		t.Fatalf("settled %d frames early", s.oldest)
	}
	s.run(settleMS, on)
	if s.undelivered != 1 || s.duplicates != 2 || s.repaired != 1 || len(rescued) != 1 || rescued[2] != 1 {
		t.Errorf("undelivered %d, duplicates %d, repaired %d, rescued %v; want 1, 2, 1, one by path 2",
			s.undelivered, s.duplicates, s.repaired, rescued)
	}
}

func TestSettleWindowOverflow(t *testing.T) {
	var s settle
	s.arrive(0, 0, 0, true, true, 0, nil)
	s.arrive(settleFrames+9, 0, 0, true, true, 0, nil)
	s.arrive(5*settleFrames, 0, 0, true, true, 0, nil)
	s.run(settleMS, nil)
	if want := uint64(5*settleFrames + 1 - 3); s.undelivered != want {
		t.Errorf("undelivered %d, want %d: every frame but the three that arrived", s.undelivered, want)
	}
}

func TestHoleIsAskedForOnceEveryPathHasPassed(t *testing.T) {
	var m missing
	seen := map[uint64]bool{}
	isSeen := func(seq uint64) bool { return seen[seq] }
	poll := func(now uint64) []uint64 { return m.poll(now, only(0b11), isSeen, make([]uint64, 0, maxAsked)) }
	arrive := func(seq uint64, path uint8) { seen[seq] = true; m.arrive(seq, path, 0) }
	for seq := range uint64(20) {
		if seq != 5 && seq != 9 {
			arrive(seq, 0)
		}
	}
	if got := poll(1); len(got) != 0 {
		t.Errorf("asked for %v while path 1 could still bring them", got)
	}
	for seq := range uint64(12) {
		if seq != 5 { // path 1 brings 9
			arrive(seq, 1)
		}
	}
	if got := poll(2); !slices.Equal(got, []uint64{5}) {
		t.Errorf("asked for %v, want 5: both paths have passed it", got)
	}
	if got := poll(holeMS + 1); len(got) != 0 {
		t.Errorf("asked again for %v", got)
	}
	m.know(22, 1000)
	if got := poll(1000 + holeMS); !slices.Equal(got, []uint64{20, 21}) {
		t.Errorf("asked for %v after the bound, want the reported tail 20, 21", got)
	}
}

func TestHolesAreBounded(t *testing.T) {
	var m missing
	m.arrive(0, 0, 0)
	m.arrive(10*holesMax, 0, 0)
	if m.n > holesMax || m.overflow == 0 {
		t.Errorf("%d holes kept, %d given up", m.n, m.overflow)
	}
	got := m.poll(holeMS, only(1), func(uint64) bool { return false }, make([]uint64, 0, maxAsked))
	if len(got) != maxAsked {
		t.Errorf("asked for %d at once, want %d", len(got), maxAsked)
	}
}

func TestRepairCacheKeepsWhatCanBeAskedFor(t *testing.T) {
	var c repairCache
	for seq := range uint64(3000) {
		c.put(seq, []byte{byte(seq), byte(seq >> 8)}, seq/2, 0) // 2,000 frames a second
	}
	const now = 1500
	if got := c.take(2000, now); len(got) != 2 || got[0] != 2000&0xff {
		t.Errorf("frame of 500 ms ago: % x", got)
	}
	if c.take(2000, now) != nil {
		t.Error("the same frame was given twice")
	}
	if c.take(100, now) != nil || c.take(3000, now) != nil {
		t.Error("a frame past its deadline, or never sent, was given")
	}
	for seq := range uint64(100_000) {
		c.put(seq, []byte{1}, now, repairMS)
	}
	if n := c.next - c.first; n != repairFrames || c.take(0, now) != nil || c.take(99_999, now) == nil {
		t.Errorf("the cache holds %d frames of which all may be asked for, its bound is %d", n, repairFrames)
	}
}

// What may be asked for is kept whatever it takes; the rest as long as there is room.
func TestRepairCacheIsBoundedInBytes(t *testing.T) {
	for _, c := range []struct {
		wait  uint64 // ms
		least uint64 // frames
		most  int    // bytes
	}{{0, 250, repairBytes}, {100, 200, repairBytes}, {270, 540, 545 * 1280}} {
		var cache repairCache
		for seq := range uint64(4000) {
			cache.put(seq, make([]byte, 1178), seq/2, c.wait) // 2,000 frames a second
		}
		if n := cache.next - cache.first; n < c.least || cache.bytes > c.most {
			t.Errorf("asked for within %d ms: %d frames in %d bytes, want at least %d in at most %d", c.wait, n, cache.bytes, c.least, c.most)
		}
		if old := cache.next - 1 - 2*c.wait; cache.take(old, 1999) == nil {
			t.Errorf("frame %d, of %d ms ago, is gone", old, c.wait)
		}
	}
}

func TestReportOfProtocol1ComesBack(t *testing.T) {
	in := report{
		mediaNext: 1 << 40, duplicates: 2, undelivered: 3, repaired: 4, received: 5,
		out: []outReport{{id: 15, relayN: 2, relays: [maxRelays]NodeID{1, 2}, next: 7, sent: 1 << 33}, {id: 1, next: 9}},
		in:  []inReport{{id: 3, next: 1, received: 2, lost: 3, first: 4, rescued: 5, corrupt: 6, broken: true, delayUS: -6, overFloorUS: 7, jitterUS: 8}},
	}
	b := in.appendFixed(nil)
	if len(b) > 1200 {
		t.Errorf("a report of %d bytes", len(b))
	}
	var got report
	if err := got.parseFixed(b); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.out, in.out) || !slices.Equal(got.in, in.in) || got.mediaNext != in.mediaNext || got.received != 5 {
		t.Errorf("got %+v, want %+v", got, in)
	}
	for i := range b {
		if got.parseFixed(b[:i]) == nil {
			t.Errorf("a report cut to %d bytes was accepted", i)
		}
	}
}

func FuzzFeedback(f *testing.F) {
	r := report{out: []outReport{{id: 1, relayN: 1}}, in: []inReport{{id: 1}}}
	f.Add(r.appendFixed(nil))
	f.Add(r.appendSections(nil))
	f.Add(appendRepair(nil, []uint64{1, 1 << 47}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r report
		if r.parseFixed(b) == nil && !slices.Equal(r.appendFixed(nil), b) {
			t.Fatalf("a report of protocol 1 changed by a round trip: % x", b)
		}
		if r.parseSections(b) == nil {
			var again report
			if err := again.parseSections(r.appendSections(nil)); err != nil || !reflect.DeepEqual(again, r) && len(r.in)+len(r.out)+len(r.pairs) > 0 {
				t.Fatalf("a report changed by a round trip (%v):\n%+v\n%+v", err, r, again)
			}
		}
		if seqs, err := parseRepair(b, nil); err == nil && !slices.Equal(appendRepair(nil, seqs), b) {
			t.Fatalf("a repair request changed by a round trip: % x", b)
		}
		parseDatagramHeader(b)
	})
}

// only awaits the same paths for every frame.
func only(paths uint16) func(uint64) uint16 { return func(uint64) uint16 { return paths } }
