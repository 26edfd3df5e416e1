package braid

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
)

// keptWire keeps what is written; err refuses it.
type keptWire struct {
	runs [][]byte
	to   []netip.AddrPort
	err  error
}

func (w *keptWire) WriteRun(run []byte, _ int, to netip.AddrPort) error {
	if w.err == nil {
		w.runs, w.to = append(w.runs, bytes.Clone(run)), append(w.to, to)
	}
	return w.err
}

// relayRun makes a run of frames through relay 3, from node 1 to the given destinations.
func relayRun(b *Braid, dests ...NodeID) (run []byte, segment int) {
	for i, dest := range dests {
		h := pathHeader{relayN: 1, relays: [maxRelays]NodeID{3}, kind: kindMedia, fence: 1, source: 1, dest: dest, seq: uint32(i)}
		frame := frameFor(b, h, make([]byte, 500))
		run, segment = append(run, frame...), len(frame)
	}
	return run, segment
}

// A run that arrives together and goes the same way leaves in one write; where the ways part, so do the runs.
func TestRelayForwardsInRuns(t *testing.T) {
	w := &keptWire{}
	b := still(t, 3, &nullHandler{}, w)
	run, segment := relayRun(b, 2, 2, 2, 4, 4, 2)
	run[3*segment-1]++ // payload, of no concern to a relay
	want := bytes.Clone(run)
	for at := 0; at < len(want); at += segment {
		advanceHop(want[at:])
	}
	b.HandleRun(run, segment, netip.AddrPort{}, false, 0)
	if len(w.runs) != 3 || !bytes.Equal(bytes.Join(w.runs, nil), want) || len(w.runs[0]) != 3*segment || w.to[1] != addrOf(4) {
		t.Errorf("%d writes to %v, want runs of 3, 2 and 1 frames to nodes 2, 4 and 2", len(w.runs), w.to)
	}
	if st := b.Stats(); st.Frames["relayed"] != 6 || st.RelayRuns != 3 || st.Congested != 0 {
		t.Errorf("stats %+v", st)
	}
	// A forged frame in the middle costs itself alone.
	run, segment = relayRun(b, 2, 2, 2)
	run[segment+7]++
	b.HandleRun(run, segment, netip.AddrPort{}, false, 0)
	if st := b.Stats(); st.Frames["relayed"] != 8 || st.Frames["bad_mac"] != 1 {
		t.Errorf("with one forged frame of three: %v", st.Frames)
	}
}

// Membership and policy are asked once for neighbours of one way, and again for every other way: what one source, fence or next hop may
// says nothing about another, and a forged frame neither asks nor changes anything.
func TestRelayAsksOnceForEachWay(t *testing.T) {
	w := &keptWire{}
	b := still(t, 3, &nullHandler{}, w)
	var asked, told int
	b.cfg.Allow = func(fence FenceID, hop NodeID) bool { asked++; return fence == 1 || hop == 3 }
	b.cfg.Addr = func(id NodeID) (netip.AddrPort, bool) { return addrOf(id), id != 9 }
	b.cfg.Onward = func(Onward) { told++ }
	b.Traffic(1)
	b.Traffic(5)
	var run []byte
	segment := 0
	for i, f := range []struct {
		source NodeID
		fence  FenceID
		forged bool
	}{{1, 1, false}, {1, 1, false}, {1, 1, true}, {1, 1, false}, {5, 1, false}, {5, 2, false}, {9, 1, false}, {5, 1, true}, {5, 1, false}, {1, 1, false}} {
		h := pathHeader{relayN: 1, relays: [maxRelays]NodeID{3}, kind: kindMedia, fence: f.fence, source: f.source, dest: 2, seq: uint32(i)}
		frame := frameFor(b, h, make([]byte, 500))
		if f.forged {
			frame[7]++
		}
		run, segment = append(run, frame...), len(frame)
	}
	b.HandleRun(run, segment, netip.AddrPort{}, false, 0)
	from1 := b.Traffic(1).Arrived
	from5 := b.Traffic(5).Arrived
	got := b.Stats().Frames
	if got["relayed"] != 6 || got["bad_mac"] != 2 || got["not_member"] != 1 || got["next_hop_fence"] != 1 || from1 != 4 || from5 != 3 {
		t.Errorf("%v; %d and %d frames of sources 1 and 5 count as traffic", got, from1, from5)
	}
	// Ways: 1, 5, 5 in another fence, 5 again, 1 again.
	if asked != 10 || told != 4 {
		t.Errorf("policy was asked %d times and %d ways were told of, want 10 and 4", asked, told)
	}
	if len(w.runs) != 3 {
		t.Errorf("%d writes, want 3: a dropped frame ends a stretch, another source does not", len(w.runs))
	}
}

// The congestion bit goes on when the network marked the frame, when this relay's socket is backed up or refuses, and when
// the source has nearly used up what it may have relayed. A refused run costs no time and is counted frame by frame.
func TestRelaySaysThatItIsCongested(t *testing.T) {
	w, queued := &keptWire{}, 0
	b := still(t, 3, &nullHandler{}, w)
	b.cfg.Queued = func() int { return queued }
	bit := func(marked bool, since uint64) bool {
		t.Helper()
		w.runs = nil
		b.pressure.lookedMS.Store(since)
		run, segment := relayRun(b, 2)
		b.HandleRun(run, segment, netip.AddrPort{}, marked, 0)
		if len(w.runs) != 1 {
			t.Fatalf("%d writes; %v", len(w.runs), b.Stats().Frames)
		}
		return w.runs[0][1]&flagCongestion != 0
	}
	if bit(false, 1) {
		t.Error("set without a reason")
	}
	if !bit(true, 2) {
		t.Error("a router's mark is not passed on")
	}
	if queued = pressedBytes + 1; !bit(false, 3) {
		t.Error("not set while the socket is backed up")
	}
	if queued = 0; bit(false, 4) {
		t.Error("still set when the socket is empty again")
	}
	w.err = errors.New("full")
	run, segment := relayRun(b, 2, 2)
	b.HandleRun(run, segment, netip.AddrPort{}, false, 0)
	if st := b.Stats(); st.Frames["relay_write_failed"] != 2 {
		t.Errorf("a refused run of two: %v", st.Frames)
	}
	if w.err = nil; !bit(false, 5) {
		t.Error("not set after the socket refused a run")
	}
	b.pressure.refusedMS.Store(0)
	b.sources.known[1].budget = bucket{rate: 1, burst: 10_000, tokens: 2_000}
	if !bit(false, 6) {
		t.Error("not set when little of the source's budget is left")
	}
}

// What the relay sets, the egress counts for the path and reports to the source, which then sends less that way.
func TestCongestionBitReachesTheSource(t *testing.T) {
	inBubble(t, func(t *testing.T, n *testNet) {
		a := n.add(1, 1, threePaths)
		n.add(2, 1, threePaths)
		n.add(3, 1, direct, func(c *Config) { c.Queued = func() int { return pressedBytes + 1 } })
		n.add(4, 1, direct)
		s := a.session(2)
		stream(s, 0, 300, 300, 1e6)
		pause(1e9)
		for _, p := range s.Stats().Out {
			if by3 := len(p.Relays) == 1 && p.Relays[0] == 3; by3 != (p.Congested >= 100) || by3 != (p.Sent < 300) {
				t.Errorf("path %v: %d frames congested of %d sent", p.Relays, p.Congested, p.Sent)
			}
		}
	})
}
