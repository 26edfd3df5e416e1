package node

import (
	"context"
	"sync/atomic"
)

// States that a node tells the mesh.
const (
	StateServing  = "serving"
	StateStopping = "stopping"
)

// state is what the node says of itself. It is the last stage to start and so the first to stop: from then on
// /readyz fails and no new session is admitted, while everything beneath still runs.
type state struct{ stopping atomic.Bool }

func (s *state) run(ctx context.Context) error {
	<-ctx.Done()
	s.stopping.Store(true)
	return nil
}

func (s *state) String() string {
	if s.stopping.Load() {
		return StateStopping
	}
	return StateServing
}
