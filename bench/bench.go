package bench

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ternmesh/tern/sim/run"
)

// Benchmark measures one thing against named baselines, all in one run.
type Benchmark struct {
	Name  string // what tern bench run calls it: a-z, 0-9 and -
	About string // one line
	// Gated says that all rows marked Gate come out the same on every machine, within the gate's tolerance, and that
	// the benchmark takes seconds: CI runs it.
	Gated bool
	// Run measures and calls r.Row, r.Table and r.Note. It repeats what is noisy r.Repeat times, interleaved with its baselines.
	// It opens loopback sockets at most, and returns when ctx ends.
	Run func(ctx context.Context, r *Recorder) error
}

// benchmarks is filled by register, at start only.
var benchmarks []Benchmark

// register adds a benchmark; every file that holds one calls it from init, so that files do not share a list.
func register(b Benchmark) { benchmarks = append(benchmarks, b) }

// List returns all benchmarks by name.
func List() []Benchmark {
	return slices.SortedFunc(slices.Values(benchmarks), func(a, b Benchmark) int { return strings.Compare(a.Name, b.Name) })
}

// DefaultRepeat is how often noisy figures are taken unless Options say otherwise: enough for a median and a range.
const DefaultRepeat = 5

// Options of a run. The zero value is usable.
type Options struct {
	Repeat  int        // repetitions of what is noisy; 0: DefaultRepeat
	Bubble  run.Bubble // virtual time; nil: run.VirtualTime, which a test cannot use
	Version string     // shown in the result
	// Progress is told what has been found so far, by benchmarks that take minutes; nil: nobody is.
	Progress io.Writer
}

// Find returns the benchmark of that name.
func Find(name string) (Benchmark, bool) {
	i := slices.IndexFunc(benchmarks, func(b Benchmark) bool { return b.Name == name })
	if i < 0 {
		return Benchmark{}, false
	}
	return benchmarks[i], true
}

// Execute runs one benchmark. The error names the benchmark; a wrong name lists the right ones.
func Execute(ctx context.Context, name string, o Options) (*Result, error) {
	b, ok := Find(name)
	if !ok {
		var names []string
		for _, b := range List() {
			names = append(names, b.Name)
		}
		return nil, fmt.Errorf("there is no benchmark %q: %s", name, strings.Join(names, ", "))
	}
	if o.Repeat <= 0 {
		o.Repeat = DefaultRepeat
	}
	if o.Bubble == nil {
		o.Bubble = run.VirtualTime
	}
	began := time.Now()
	r := &Recorder{Repeat: o.Repeat, Bubble: o.Bubble, progress: o.Progress}
	if err := b.Run(ctx, r); err != nil {
		return nil, fmt.Errorf("benchmark %s: %w", name, err)
	}
	if err := r.settle(); err != nil {
		return nil, fmt.Errorf("benchmark %s: %w", name, err)
	}
	return &Result{
		Name: name, About: b.About, Version: o.Version, Machine: machine(), Repeat: o.Repeat,
		WallSeconds: time.Since(began).Seconds(), Rows: r.rows, Curves: r.curves, Tables: r.tables, Notes: r.notes,
	}, nil
}

// machine says where figures were taken.
func machine() string {
	return fmt.Sprintf("%d processors, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
