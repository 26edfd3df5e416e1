package nack

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var start = time.Unix(1000, 0)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func due(t *testing.T, r *Requester, ms int, want ...uint16) {
	t.Helper()
	if got, _ := r.due(at(ms), nil); !slices.Equal(got, want) {
		t.Errorf("at %d ms: asks for %v, want %v", ms, got, want)
	}
}

func TestAGapIsAskedForAndAgainAfterARoundTripAndAHalf(t *testing.T) {
	r := New()
	r.arrived(at(0), 65534)
	if r.arrived(at(0), 65535) {
		t.Error("a gap between neighbours")
	}
	if !r.arrived(at(1), 3) { // 0, 1, 2 are missing
		t.Error("no gap over the turn of the numbers")
	}
	due(t, r, 5)
	r.arrived(at(8), 1) // late, not lost
	due(t, r, 11, 0, 2)
	due(t, r, 100)
	r.arrived(at(51), 0) // a round trip of 40 ms
	due(t, r, 70)
	due(t, r, 71, 2)
	r.arrived(at(120), 2)
	if got, more := r.due(at(1000), nil); len(got) > 0 || more {
		t.Errorf("asks for %v, more %v, though nothing is missing", got, more)
	}
	r.arrived(at(1001), 2) // a copy
	r.arrived(at(1002), 60000)
	due(t, r, 2000)
}

func TestWhatNeverComesIsGivenUp(t *testing.T) {
	r := New()
	r.arrived(at(0), 10)
	r.arrived(at(0), 12)
	asked, more := 0, true
	for ms := 0; ms < 3000; ms += 10 {
		var got []uint16
		got, more = r.due(at(ms), nil)
		asked += len(got)
	}
	if asked < 5 || asked > maxTries || more {
		t.Errorf("asked %d times, more to come: %v; want 5 to %d times, then given up", asked, more, maxTries)
	}
}

func TestAJumpIsANewBeginning(t *testing.T) {
	r := New()
	r.arrived(at(0), 10)
	r.arrived(at(0), 12)
	if r.arrived(at(1), 12+maxMissing+1) {
		t.Error("a jump counts as loss")
	}
	if got, more := r.due(at(50), nil); len(got) > 0 || more {
		t.Errorf("asks for %v", got)
	}
}

// Whatever arrives in whatever order: nothing is asked for that has arrived, and the memory is bounded.
func FuzzRequester(f *testing.F) {
	f.Add([]byte{1, 1, 3, 200, 1, 255, 0})
	f.Fuzz(func(t *testing.T, steps []byte) {
		r := New()
		seq, ms := uint16(65000), 0
		here := map[uint16]bool{}
		rng := rand.New(rand.NewPCG(1, 2))
		for _, s := range steps[:min(len(steps), 250)] { // less than one turn of the numbers
			seq += uint16(s) - 20
			ms += int(s) % 7
			r.arrived(at(ms), seq)
			here[seq] = true
			asked, more := r.due(at(ms), nil)
			if len(asked) > maxMissing || len(r.gaps) > maxMissing || more != (len(r.gaps) > 0) {
				t.Fatalf("%d asked for, %d kept, more %v", len(asked), len(r.gaps), more)
			}
			for _, a := range asked {
				if here[a] {
					t.Fatalf("asks for %d, which has arrived", a)
				}
			}
			if len(asked) > 0 && rng.IntN(2) == 0 {
				r.arrived(at(ms+5), asked[0])
				here[asked[0]] = true
			}
		}
	})
}

func TestRunAsksForWhatIsMissingAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, done, asked := New(), make(chan struct{}), make(map[uint16]int)
		var wg sync.WaitGroup
		wg.Go(func() {
			r.Run(done, func(lost []uint16) {
				for _, seq := range lost {
					asked[seq]++
				}
			})
		})
		for seq := range uint16(1000) {
			if seq%100 != 50 {
				r.Arrived(time.Now(), seq)
			}
			time.Sleep(time.Millisecond)
			if seq%100 == 80 {
				r.Arrived(time.Now(), seq-30) // by repair
			}
		}
		close(done)
		wg.Wait()
		for seq := range uint16(1000) {
			if want := seq%100 == 50; want != (asked[seq] == 1) {
				t.Errorf("asked %d times for %d", asked[seq], seq)
			}
		}
	})
}

// Over a way that is longer than the first wait the round trip is found out, and then packets are asked for once.
func TestALongRoundTripIsMeasured(t *testing.T) {
	for _, trip := range []int{290, 300, 420} {
		r, again := New(), 0
		for _, next := range []int{40, trip} { // the way becomes longer
			r.arrived(at(0), 0)
			for n := range 200 {
				seq, began := uint16(2*n+1), 10_000*n
				r.arrived(at(began), seq-1)
				r.arrived(at(began), seq+1)
				asked := 0
				for ms := began; ms < began+10+next; ms += 10 {
					got, _ := r.due(at(ms), nil)
					asked += len(got)
				}
				r.arrived(at(began+10+next), seq)
				if n >= 100 && asked != 1 {
					again++
				}
			}
			r.started = false
		}
		if again > 0 {
			t.Errorf("round trip of %d ms: %d of 200 packets asked for again", trip, again)
		}
	}
}

func TestGapsThatKeepComingDoNotPutOffTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, done, begin, first := New(), make(chan struct{}), time.Now(), time.Duration(0)
		var wg sync.WaitGroup
		wg.Go(func() {
			r.Run(done, func([]uint16) {
				if first == 0 {
					first = time.Since(begin)
				}
			})
		})
		for seq := range uint16(100) {
			r.Arrived(time.Now(), 2*seq)
			time.Sleep(poll / 2)
		}
		close(done)
		wg.Wait()
		if first == 0 || first > 4*poll {
			t.Errorf("first asked after %v of gaps every %v", first, poll/2)
		}
	})
}

func BenchmarkArrived(b *testing.B) {
	b.ReportAllocs()
	r := New()
	for i := range b.N {
		r.Arrived(start, uint16(i))
	}
}
