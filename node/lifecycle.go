package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stage is one part of a node that runs until its context ends.
type stage struct {
	name string
	run  func(ctx context.Context) error
}

// running is a stage that was started.
type running struct {
	stage
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before done closes
}

// runStages starts the stages in order and keeps them until ctx ends or one of them fails; then it stops them
// in the reverse order, each one after the one above it has ended, so that a part never loses what it stands on
// while it still says goodbye. What does not end within timeout (for all of them together) is left
// behind and named in the error.
func runStages(ctx context.Context, log *slog.Logger, timeout time.Duration, stages []stage) error {
	failed := make(chan *running, len(stages))
	var started []*running
	for _, s := range stages {
		inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
		r := &running{stage: s, cancel: cancel, done: make(chan struct{})}
		started = append(started, r)
		go func() {
			r.err = r.run(inner)
			close(r.done)
			failed <- r
		}()
	}
	var errs []error
	var failedFirst *running
	select {
	case <-ctx.Done():
		log.Info("stopping", "reason", context.Cause(ctx))
	case r := <-failed:
		failedFirst = r
		err := r.err
		if err == nil {
			err = errors.New("ended by itself")
		}
		errs = append(errs, fmt.Errorf("%s: %w", r.name, err))
		log.Error("stopping", "part", r.name, "err", err)
	}
	return errors.Join(append(errs, stopStages(started, failedFirst, log, timeout)...)...)
}

// stopStages cancels from the top down and waits for each; the error of reported is known already.
func stopStages(started []*running, reported *running, log *slog.Logger, timeout time.Duration) (errs []error) {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	expired := false
	for i := len(started) - 1; i >= 0; i-- {
		r := started[i]
		r.cancel()
		if expired {
			continue
		}
		select {
		case <-r.done:
			log.Debug("stopped", "part", r.name)
			if r != reported && r.err != nil && !errors.Is(r.err, context.Canceled) {
				errs = append(errs, fmt.Errorf("%s: %w", r.name, r.err))
			}
		case <-limit.C:
			expired = true
			errs = append(errs, fmt.Errorf("%s did not stop within %v", r.name, timeout))
		}
	}
	return errs
}
