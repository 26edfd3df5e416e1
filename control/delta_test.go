package control

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// edited returns b with some runs of bytes removed, moved, repeated or made up.
func edited(rng *rand.Rand, b []byte) []byte {
	out := bytes.Clone(b)
	for range rng.IntN(5) {
		i := rng.IntN(len(out) + 1)
		j := i + rng.IntN(min(len(out)-i, 200)+1)
		piece := bytes.Clone(out[i:j])
		switch rng.IntN(3) {
		case 0:
			out = slices.Delete(out, i, j)
		case 1:
			out = slices.Insert(slices.Delete(out, i, j), rng.IntN(len(out)-len(piece)+1), piece...)
		case 2:
			out = slices.Insert(out, rng.IntN(len(out)+1), fmt.Appendf(nil, "%x", rng.Uint64())...)
		}
	}
	return out
}

func TestADeltaMakesWhatItWasMadeFor(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range 300 {
		base := make([]byte, rng.IntN(3000))
		for j := range base {
			base[j] = byte(rng.IntN(1 + i%7*40))
		}
		next := edited(rng, base)
		d := makeDelta(base, next)
		got, err := applyDelta(base, d)
		if err != nil || !bytes.Equal(got, next) {
			t.Fatalf("case %d: %v", i, err)
		}
		if len(base) > 0 {
			base[rng.IntN(len(base))]++
			if got, err := applyDelta(base, d); err == nil && !bytes.Equal(got, next) {
				t.Fatalf("case %d: another base makes something else, and nobody notices", i)
			}
		}
	}
}

func TestADeltaOfASmallChangeIsSmall(t *testing.T) {
	a, err := Parse(largePolicy())
	if err != nil {
		t.Fatal(err)
	}
	base, _ := encodeDocument(a)
	a.Apps = slices.Clone(a.Apps)
	a.Apps[3].Name = "renamed"
	a.Apps[3], a.Apps[900] = a.Apps[900], a.Apps[3]
	a.Blocklist = a.Blocklist[:len(a.Blocklist)-7]
	next, _ := encodeDocument(a)
	if d := makeDelta(base, next); len(d) > 2000 {
		t.Errorf("two apps changed places, one was renamed, seven prefixes went: %d bytes for a document of %d", len(d), len(next))
	}
}

func TestStepsAreAChainWithinBounds(t *testing.T) {
	var s deltaChain
	for v := uint64(1); v <= 100; v++ {
		s = s.with(deltaStep{v, v + 1, make([]byte, 100)})
	}
	if len(s) != maxSteps || len(s.since(90)) != 11 || s.since(10) != nil || s.since(101) != nil {
		t.Errorf("%d steps, %d from 90", len(s), len(s.since(90)))
	}
	if s = s.with(deltaStep{101, 102, make([]byte, maxStepBytes)}); len(s) != 1 {
		t.Errorf("a large step leaves no room for others, kept %d", len(s))
	}
	if s = s.with(deltaStep{200, 201, nil}); len(s) != 1 || s.since(101) != nil {
		t.Errorf("a step that does not follow begins anew: %+v", s)
	}
}

func FuzzApplyDelta(f *testing.F) {
	base := []byte("regions: eu, us; apps: one, two, three, four, five, six, seven")
	f.Add(base, makeDelta(base, append([]byte("x"), base...)))
	f.Add(base, makeDelta(base, base[:20]))
	f.Add([]byte{}, makeDelta(nil, base))
	f.Fuzz(func(t *testing.T, base, d []byte) {
		if out, err := applyDelta(base, d); err == nil && len(out) > MaxDocumentBytes {
			t.Errorf("%d bytes", len(out))
		}
	})
}
