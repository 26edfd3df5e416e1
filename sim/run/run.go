package run

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ternmesh/tern/node"
	"github.com/ternmesh/tern/sim/run/scenario"
)

// Options of one run. The zero value is real time, with the scenario's seed.
type Options struct {
	Seed     uint64       // 0: the scenario's
	Bubble   Bubble       // nil: real time
	Logger   *slog.Logger // of the nodes; nil: no log
	Version  string       // shown in the report
	Dir      string       // where certificates and data of the nodes go while it runs; "": the system's
	Progress *Progress    // told how far the run is; nil: nobody asks
	// Adjust changes what a node starts with, before each start: for tests of what scenarios do not say. life ends with the run, ca
	// is the folder of the mesh's CA. Nil: nothing.
	Adjust func(life context.Context, ca string, cfg *node.Config, o *node.Options) error
}

// Progress is how far a run is, on the scenario's clock. Any goroutine may ask.
type Progress struct {
	formed  atomic.Bool
	instant atomic.Int64 // nanoseconds since t=0 once formed, since the start before
}

// Now returns the instant, and whether the mesh has formed: instants count from t=0 then, from the start before.
func (p *Progress) Now() (at time.Duration, formed bool) {
	return time.Duration(p.instant.Load()), p.formed.Load()
}

const (
	// interruptPoll is how often, on the scenario's clock, a run looks whether it shall be broken off.
	interruptPoll = 50 * time.Millisecond
	// abandonAfter is how long, on the machine's clock, a run may take to end once it shall; then it is left behind.
	abandonAfter = 10 * time.Second
)

// Run makes a scenario happen with whole nodes and reports what came of it. An error means that it could not be run;
// violations of checkers are in the report. When ctx ends the run is broken off with its error. A run in virtual time that does
// not end within abandonAfter then is left behind: its goroutines live on, and the caller should end the process.
func Run(ctx context.Context, s *scenario.Scenario, o Options) (*Report, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	if o.Seed != 0 {
		copied := *s
		copied.Seed = o.Seed
		s = &copied
	}
	started := time.Now()
	profile := startProfile()
	report, err := playOn(ctx, s, o)
	cpu := profile.stop()
	if err != nil {
		return nil, fmt.Errorf("scenario %s, seed %d: %w", s.Name, s.Seed, err)
	}
	report.WallSeconds = time.Since(started).Seconds()
	report.Virtual = o.Bubble != nil
	report.addCPU(cpu)
	return report, nil
}

// playOn plays on the clock that the options name.
func playOn(ctx context.Context, s *scenario.Scenario, o Options) (*Report, error) {
	if o.Bubble == nil {
		return play(ctx, s, o)
	}
	type outcome struct {
		report *Report
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		var out outcome
		if err := o.Bubble(func() { out.report, out.err = playInBubble(ctx, s, o) }); err != nil {
			out.err = err
		}
		done <- out
	}()
	select {
	case out := <-done:
		return out.report, out.err
	case <-ctx.Done():
	}
	select {
	case out := <-done:
		return out.report, out.err
	case <-time.After(abandonAfter):
		return nil, fmt.Errorf("left behind, for it did not end within %v: %w", abandonAfter, ctx.Err())
	}
}

// playInBubble is play with a context that follows the one outside. Waiting for that one itself would stop the bubble's clock.
func playInBubble(outside context.Context, s *scenario.Scenario, o Options) (*Report, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil && outside.Err() == nil {
			wait(ctx, nil, interruptPoll)
		}
		cancel(outside.Err())
	})
	defer watch.Wait()
	defer cancel(nil)
	return play(ctx, s, o)
}
