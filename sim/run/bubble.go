package run

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
)

// Bubble runs f to its end in virtual time and reports why it could not, for instance because everything in it
// waits for ever. Tests make one of synctest.Test; VirtualTime is one for ordinary programs.
type Bubble func(f func()) error

// VirtualTime is the Bubble of a program that is not a test. Bubbles belong to package testing, so the first
// call starts a test run in the background, whose one test takes jobs and never ends: the program ends without it,
// and nothing is printed. Calls are served one after another.
//
// While f runs the process has one processor for Go code and collects garbage later than usual. In a bubble one goroutine
// wakes the next, so a second processor costs more than it gives (12 nodes with 24 WebRTC clients took 35 s of processor time on
// two, 20 s on one), and goroutines that wake at one instant run in an order that varies less.
func VirtualTime(f func()) error {
	startBubbles.Do(func() {
		if !flag.Parsed() {
			_ = flag.CommandLine.Parse(nil) // testing would read the program's own arguments
		}
		go testing.Main(
			func(string, string) (bool, error) { return true, nil },
			[]testing.InternalTest{{Name: "virtual time", F: serveBubbles}}, nil, nil,
		)
	})
	job := bubbleJob{f: f, done: make(chan error, 1)}
	bubbleJobs <- job
	return <-job.done
}

type bubbleJob struct {
	f    func()
	done chan error
}

var (
	startBubbles sync.Once
	bubbleJobs   = make(chan bubbleJob)
)

// serveBubbles never returns: the end of the test run would end the process.
func serveBubbles(t *testing.T) {
	for job := range bubbleJobs {
		job.done <- oneBubble(t, job.f)
	}
}

const (
	// lazyCollection is the growth of the heap, in percent, at which garbage is collected while a bubble runs.
	lazyCollection = 400
	// lazyUpTo is the memory, in bytes, above which it is collected eagerly all the same, if the machine does not say what it has.
	lazyUpTo = 4 << 30
)

// lazyMemory is lazyUpTo by the machine: a third of its memory. Large meshes live above it.
func lazyMemory() int64 {
	info, err := os.ReadFile("/proc/meminfo")
	var kB int64
	if _, scan := fmt.Sscanf(string(info), "MemTotal: %d kB", &kB); err != nil || scan != nil {
		return lazyUpTo
	}
	return kB << 10 / 3
}

func oneBubble(t *testing.T, f func()) (err error) {
	processors, percent, limit := runtime.GOMAXPROCS(1), debug.SetGCPercent(lazyCollection), debug.SetMemoryLimit(lazyMemory())
	defer func() {
		runtime.GOMAXPROCS(processors)
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("virtual time: %v", r)
		}
	}()
	synctest.Test(t, func(*testing.T) { f() })
	return nil
}
