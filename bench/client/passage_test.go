package client

import "testing"

func TestPassageTakesEachPacketOnceFromTwoLegs(t *testing.T) {
	const rate = 90000
	type packet struct {
		leg  uint32
		seq  uint16
		ts   uint32
		want bool
	}
	for name, packets := range map[string][]packet{
		"the newer leg is behind": {{0, 10, 100, true}, {0, 11, 100, true}, {1, 10, 100, false}, {0, 12, 200, true}, {1, 11, 100, false}, {1, 12, 200, false}, {1, 13, 300, true}, {0, 13, 300, false}},
		"it is ahead":             {{0, 65535, 100, true}, {1, 1, 300, true}, {0, 0, 200, true}, {0, 1, 300, false}, {1, 2, 400, true}, {0, 2, 400, false}},
		"what one leg brings twice passes, as it always did": {{0, 5, 100, true}, {0, 5, 100, true}, {1, 5, 100, false}},
		"another clock": {{0, 10, 100, true}, {1, 11, 1 << 30, true}, {0, 11, 100, false}, {0, 12, 200, false}, {1, 12, 1<<30 + 1, true}},
		"other numbers": {{0, 10, 100, true}, {1, 2000, 100, true}, {0, 11, 100, false}, {1, 2001, 100, true}},
		"a third leg":   {{0, 10, 100, true}, {1, 11, 200, true}, {2, 11, 200, false}, {2, 12, 300, true}, {1, 12, 300, false}},
	} {
		var p passage
		for i, x := range packets {
			if got := p.take(x.leg, x.seq, x.ts, rate); got != x.want {
				t.Errorf("%s: packet %d %+v is taken: %v", name, i, x, got)
			}
		}
	}
}

func TestPassageKnowsWhatTheOlderLegStillOwes(t *testing.T) {
	var p passage
	p.take(0, 65534, 100, 90000)
	for i, x := range []struct {
		leg    uint32
		seq    uint16
		behind bool
	}{{1, 2, true}, {1, 3, true}, {0, 65535, true}, {0, 0, true}, {0, 1, false}, {1, 4, false}, {2, 5, false}, {3, 400, true}, {2, 401, false}} {
		if p.take(x.leg, x.seq, 100, 90000); p.behind != x.behind {
			t.Errorf("packet %d %+v: behind %v", i, x, p.behind)
		}
	}
	if p.take(4, 30000, 100, 90000); p.behind {
		t.Error("another numbering owes nothing")
	}
}
