package braid

import (
	"reflect"
	"testing"
	"time"
)

// A mesh is upgraded node by node: a node of the version before, which speaks protocol 1 alone, and one of this version carry
// media both ways, know what arrived, and repair.
func TestNeighbouringVersionsWorkTogether(t *testing.T) {
	for name, old := range map[string]NodeID{"the old node dials": 1, "the old node is dialed": 2, "both are new": 0} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, n *testNet) {
				n.versions = map[NodeID][]string{old: offered[1:]}
				a, b, _, _ := four(n)
				n.set(func() { n.link = func(NodeID, NodeID) (time.Duration, float64) { return 20 * time.Millisecond, 0.2 } })
				s := a.session(2)
				stream(s, 0, 3000, 300, time.Millisecond)
				stream(b.session(1), 0, 3000, 300, time.Millisecond)
				pause(3 * time.Second)
				want := uint8(protocolNewest)
				if old != 0 {
					want = protocolFixed
				}
				for _, x := range []*testNode{a, b} {
					one := x.session(3 - x.id)
					st := one.Stats()
					if one.protocol != want || x.rec.got() < 2970 || x.rec.bad != 0 || st.PeerReceived < 2900 || st.Repaired == 0 {
						t.Errorf("node %d: protocol %d (want %d), %d of 3000 packets, the peer reports %d, %d repaired",
							x.id, one.protocol, want, x.rec.got(), st.PeerReceived, st.Repaired)
					}
					if pairs := len(st.OutPairs); (pairs == 3) != (old == 0) {
						t.Errorf("node %d: %d pairs of paths reported", x.id, pairs)
					}
				}
			})
		})
	}
}

// What a later version adds to a report, sections and fields, an earlier one skips.
func TestReportsMayGrow(t *testing.T) {
	var want, got report
	want.mediaNext = 7
	want.in = []inReport{{id: 3, next: 9, received: 300}}
	b := want.appendSections(nil)
	b = append(b, 99, 3, 1, 2, 3) // an unknown section
	b = append(b, sectionIn, 17, 4, 0x80, 0x01)
	b = append(b, make([]byte, 14)...) // more fields than there are
	want.in = append(want.in, inReport{id: 4, next: 128})
	if err := got.parseSections(b); err != nil || !reflect.DeepEqual(got.in, want.in) || got.mediaNext != 7 {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestReportComesBack(t *testing.T) {
	in := report{
		mediaNext: 1 << 40, duplicates: 2, undelivered: 3, repaired: 4, received: 5,
		out: []outReport{{id: 15, relayN: 2, relays: [maxRelays]NodeID{1, 2}, next: 7, sent: 1 << 33}, {id: 1, next: 9}},
		in: []inReport{
			{id: 3, next: 1 << 31, received: 2, lost: 3, first: 4, rescued: 5, corrupt: 6, broken: true, delayUS: -6, overFloorUS: 7, jitterUS: 8},
			{id: 4, silent: true, congested: 1, bursts: 2, burst: 3, sizes: 4, bytes: 1 << 40, delayUS: -1 << 31},
		},
		pairs: []pairReport{{3, 4, pairCount{1, 2, 3, 4}}},
	}
	b := in.appendSections(nil)
	if len(b) > 200 {
		t.Errorf("a report of %d bytes", len(b))
	}
	var got report
	if err := got.parseSections(b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, in) {
		t.Errorf("got %+v, want %+v", got, in)
	}
}
