package braid

import (
	"math"
	"math/rand/v2"
	"testing"
)

// oracle is the window as one would write it without caring for cost.
type oracle struct {
	seen map[uint64]bool
	next uint64
	span uint64
}

func (o *oracle) Seen(seq uint64) bool {
	return seq == math.MaxUint64 || seq < o.next && (o.next-seq > o.span || o.seen[seq])
}
func (o *oracle) Mark(seq uint64) {
	if seq == math.MaxUint64 || seq < o.next && o.next-seq > o.span {
		return
	}
	o.seen[seq] = true
	o.next = max(o.next, seq+1)
}

func FuzzWindow(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 255, 7})
	f.Add([]byte{255, 255, 255, 255, 128, 0, 64})
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 79, 96}) // below zero, to the last number, and back
	f.Fuzz(func(t *testing.T, steps []byte) {
		w, o := newWindow(256), oracle{seen: map[uint64]bool{}, span: 256}
		at := uint64(1000)
		for i, s := range steps {
			switch {
			case s < 200:
				at += uint64(s) - 90 // around the same place, back and forth
			case s < 250:
				at += uint64(s) * 7
			default:
				at += 1 << 20
			}
			if w.Seen(at) != o.Seen(at) {
				t.Fatalf("step %d: Seen(%d) = %v, the oracle says %v", i, at, w.Seen(at), o.Seen(at))
			}
			if s%3 != 0 {
				w.Mark(at)
				o.Mark(at)
			}
		}
	})
}

func TestWindowAgainstOracle(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var w window
	o := oracle{seen: map[uint64]bool{}, span: defaultWindow}
	top := uint64(0)
	for range 50_000 {
		top += rng.Uint64N(4)
		seq := top - min(top, rng.Uint64N(40_000)*rng.Uint64N(2))
		if w.Seen(seq) != o.Seen(seq) {
			t.Fatalf("Seen(%d) = %v with next %d", seq, w.Seen(seq), w.next)
		}
		w.Mark(seq)
		o.Mark(seq)
	}
}

func TestWindowCovers200msAt100000(t *testing.T) {
	if defaultWindow < 20_000 {
		t.Errorf("the window spans %d frames, want 20,000", defaultWindow)
	}
}
