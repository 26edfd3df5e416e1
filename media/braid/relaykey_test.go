package braid

import "testing"

func TestKeysDifferByHolderUserAndEpoch(t *testing.T) {
	seen := map[Key]bool{}
	for holder := range byte(3) {
		for user := range NodeID(3) {
			for epoch := range uint32(3) {
				k := deriveKey(&[32]byte{holder}, user, epoch)
				if seen[k] {
					t.Fatalf("key of holder %d, user %d, epoch %d is not new", holder, user, epoch)
				}
				seen[k] = true
				if k != deriveKey(&[32]byte{holder}, user, epoch) {
					t.Fatal("derivation is not a function")
				}
			}
		}
	}
}

func TestNearestEpoch(t *testing.T) {
	for now := uint32(100); now < 108; now++ {
		for e := now - 1; e <= now+1; e++ {
			if got, ok := nearestEpoch(now, uint8(e&3)); !ok || got != e {
				t.Errorf("now %d, sent %d: got %d, %v", now, e, got, ok)
			}
		}
		if _, ok := nearestEpoch(now, uint8((now+2)&3)); ok {
			t.Errorf("now %d: an epoch two away was accepted", now)
		}
	}
}

// check returns what a holder says, at holderMS, to a frame sent at sentMS under the given epoch.
func check(t *testing.T, holderMS, sentMS uint64, epoch uint32) DropReason {
	t.Helper()
	s := sources{secret: [32]byte{1}, rate: 1000, known: map[NodeID]*source{}}
	key := deriveKey(&s.secret, 7, epoch).hop()
	f := sampleFrame(0, [3]hopKey{key}, sentMS)
	f[1] = version<<4 | uint8(epoch)<<epochShift&0x0f
	var buf [macInputSize]byte
	sign(f, macInput(&buf, f, 0, sentMS), 0, 0, &key)
	var h pathHeader
	if why := parsePathFrame(f, &h); why != DropNone {
		t.Fatal(why)
	}
	_, why := s.get(7, epochOf(holderMS)).check(f, &h, 0, holderMS, &s.input)
	return why
}

func TestEpochsAndFreshness(t *testing.T) {
	const now = uint64(500_000 * epochSeconds * 1000)
	e := epochOf(now)
	for name, tc := range map[string]struct {
		sent  uint64
		epoch uint32
		want  DropReason
	}{
		"current":               {now, e, DropNone},
		"previous":              {now, e - 1, DropNone},
		"next":                  {now, e + 1, DropNone},
		"two old":               {now, e - 2, DropEpoch},
		"four old, same bits":   {now, e - 4, DropBadMAC},
		"10 s old":              {now - 10_000, e, DropNone},
		"more than 10 s old":    {now - 10_001, e, DropNotFresh},
		"from the future":       {now + 10_001, e, DropNotFresh},
		"replay after one wrap": {now - 65_536, e, DropBadMAC},
		"replay after many":     {now - 65_536*10, e, DropBadMAC},
	} {
		if why := check(t, now, tc.sent, tc.epoch); why != tc.want {
			t.Errorf("%s: %v, want %v", name, why, tc.want)
		}
	}
}

func TestBudgetRefillsWithTime(t *testing.T) {
	b := bucket{rate: 1000, burst: 100, tokens: 100}
	if !b.take(100, 5000) || b.take(1, 5000) {
		t.Error("want the burst and no more")
	}
	if !b.take(50, 5050) || b.take(1, 5050) {
		t.Error("want 50 after 50 ms")
	}
	if b.take(101, 1_000_000) || !b.take(100, 1_000_000) {
		t.Error("want no more than the burst after a long pause")
	}
}
