package bench

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime"
	"testing"
	"time"
)

// summed keeps the compiler from leaving the work out.
var summed int

func sum(b *testing.B, to int) {
	for b.Loop() {
		for i := range to {
			summed += i
		}
	}
}

func BenchmarkSum(b *testing.B) {
	b.Run("100", func(b *testing.B) { sum(b, 100) })
	b.Run("200", func(b *testing.B) { sum(b, 200) })
}

// BenchmarkElsewhere has its work done by another thread.
func BenchmarkElsewhere(b *testing.B) {
	ask, done := make(chan int), make(chan int)
	go func() {
		runtime.LockOSThread()
		for n := range ask {
			done <- n
		}
	}()
	for b.Loop() {
		ask <- 1
		<-done
	}
	close(ask)
}

// What waits for a thread that is held waits for ever, and is killed in the end: nothing of it may stay, nor who counts.
func TestABenchmarkThatWaitsForAHeldThreadIsEnded(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
	defer cancel()
	_, err = Instructions(ctx, self, ".", "BenchmarkElsewhere", 2)
	if errors.Is(err, ErrNoSteps) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time is over", err)
	}
}

func TestInstructionsAreCountedTheSameEachTime(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	count := func(name string) float64 {
		n, err := Instructions(t.Context(), self, ".", name, 2)
		if errors.Is(err, ErrNoSteps) && os.Getenv("CI") != "true" {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	half, whole, again := count("BenchmarkSum/100"), count("BenchmarkSum/200"), count("BenchmarkSum/200")
	if math.Abs(whole-again) > whole/100 {
		t.Errorf("the same work took %v and %v instructions", whole, again)
	}
	if whole < 200 || math.Abs(whole-2*half) > whole/10 {
		t.Errorf("100 additions took %v instructions, 200 %v", half, whole)
	}
	if _, err := Instructions(t.Context(), self, ".", "BenchmarkNone", 1); err == nil {
		t.Error("a benchmark that does not exist was counted")
	}
	if _, err := Instructions(t.Context(), self, "nowhere", "BenchmarkSum", 1); err == nil || errors.Is(err, ErrNoSteps) {
		t.Errorf("a folder that is not there: %v, want that, and not that tracing is not permitted", err)
	}
	if _, err := Instructions(t.Context(), "/bin/true", ".", "BenchmarkSum", 1); err == nil {
		t.Error("a program without benchmarks was counted")
	}
}
